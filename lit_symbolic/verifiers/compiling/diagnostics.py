"""Reads what g++ and the linker say, and turns it into findings: spans of characters of the answer.

g++'s JSON names a place by line and byte column; where an error lies in a header, only the plain text tells which line of the
answer led there (:func:`read_origins`). What comes behind the compiler has no JSON at all, see
:mod:`~lit_symbolic.verifiers.compiling.linker`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_symbolic.certificate import Finding
from lit_symbolic.verifiers.compiling.braces import BraceFault, brace_fault, unclosed_bracket
from lit_symbolic.verifiers.compiling.program import Program, Span, Token

SYNTAX = "syntax"
"""The program cannot be read from here on."""
SEMANTIC = "semantic"
"""It can be read, but a name, a type or a call is wrong."""

SOURCE_NAME = "answer.cpp"
MAX_MESSAGE_CHARACTERS = 300

_SYNTAX = re.compile(
    r"^(expected (?!.*template argument)|stray |missing terminating|unterminated|extra |empty character|unable to find|"
    r"a function-definition is not allowed|.*without a previous|.*does not name a type|#|unbalanced|invalid suffix|"
    r"case label .* not within|break statement not within|continue statement not within|too many decimal points|exponent has)"
)
_EXPECTED = re.compile(r"^expected .*(before|at end of input)")
_QUOTED = re.compile(
    r"^'(?:[\w:]*::)?(~?\w+)(?:\(.*\))?' (?:was not declared|has not been declared|does not name a type|is not a|in )"
)
_OPERANDS = re.compile(r"^(invalid operands|no match for 'operator|invalid types|ambiguous overload for 'operator)")
_PLACE = rf"{re.escape(SOURCE_NAME)}:(\d+)(?::(\d+))?"
_ORIGIN = re.compile(rf"^(?:In file included from|\s+from) {_PLACE}|^{_PLACE}:?\s+(?:required|recursively|in 'constexpr')")
_ERROR = re.compile(r"^(\S.*?):(\d+):(?:\d+:)? (?:fatal )?error: ")


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error of the compiler.

    Args:
        message: Its words.
        file: The file it lies in, as g++ names it.
        line: Its line there, from 1.
        span: Its characters in the whole program; None in another file.
        insertion: Where the compiler would insert something to mend it, and what.
        operands: What it is about besides its span: the operands of an operator.
        notes: Places in the program that its notes name.
    """

    message: str
    file: str
    line: int
    span: Span | None
    insertion: tuple[int, str] | None = None
    operands: tuple[Span, ...] = ()
    notes: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Pointing:
    """How an error becomes a span.

    Args:
        whole_lines: Cover the lines of an error instead of its characters.
        previous_line: Point at the end of the line before where something is missing there, not at the line where the
            compiler noticed it.
    """

    whole_lines: bool = False
    previous_line: bool = True


def read_diagnostics(output: str, program: Program, max_errors: int = 20) -> tuple[list[Diagnostic], str]:
    """The first errors of g++'s JSON output, and what of the output is not JSON: the linker's words.

    Output that was cut in the middle gives the errors before the cut.
    """
    errors: list[Diagnostic] = []
    rest: list[str] = []
    decoder = json.JSONDecoder(strict=False)
    for line in output.split("\n"):
        if not line.startswith("["):
            rest.append(line)
            continue
        position = 1
        while position < len(line) and line[position] in "{, " and len(errors) < max_errors:
            if line[position] != "{":
                position += 1
                continue
            try:
                entry, position = decoder.raw_decode(line, position)
            except (ValueError, RecursionError):
                break
            if "error" in entry.get("kind", "") or entry.get("kind", "").startswith("sorry"):
                errors.append(_diagnostic(entry, program))
    return errors, "\n".join(rest)


def _diagnostic(entry: dict[str, Any], program: Program) -> Diagnostic:
    locations = entry.get("locations") or [{}]
    insertion = None
    for fix in entry.get("fixits", ()):
        start = _offset(fix.get("start"), program)
        if fix.get("string") and start is not None and fix.get("next") == fix.get("start"):
            insertion = start, fix["string"]
    notes = (_span(location, program) for child in _children(entry) for location in child.get("locations", ()))
    operands = (_span(location, program) for location in locations[1:])
    caret = locations[0].get("caret", {})
    return Diagnostic(
        message=str(entry.get("message", "")),
        file=str(caret.get("file", "")),
        line=int(caret.get("line", 0)),
        span=_span(locations[0], program),
        insertion=insertion,
        operands=tuple(span for span in operands if span is not None),
        notes=tuple(span for span in notes if span is not None),
    )


def _children(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for child in entry.get("children", ()):
        yield child
        yield from _children(child)


def _offset(place: dict[str, Any] | None, program: Program) -> int | None:
    if not place or place.get("file") != SOURCE_NAME:
        return None
    return program.offset(int(place.get("line", 0)), int(place.get("byte-column", place.get("column", 0))))


def _span(location: dict[str, Any], program: Program) -> Span | None:
    """The characters of a location: its range if it has one, else the token at its caret, else its line."""
    caret = _offset(location.get("caret"), program)
    if caret is None:
        return None
    if int(location["caret"].get("byte-column", 1)) < 1:  # g++ stops counting columns in very long files
        return program.line_span(caret)
    start, finish = (_offset(location.get(end), program) for end in ("start", "finish"))
    start = caret if start is None else min(start, caret)
    if finish is None or finish < caret:
        return start, program.token_end(caret)
    return start, program.token_end(finish)


def read_origins(output: str, program: Program) -> dict[tuple[str, int], Span]:
    """What in the program led to errors elsewhere, an ``#include`` or an instantiation: by file and line, from g++'s plain text.

    Example:
        >>> program = Program("", "#include <list>\\nint main() { sort(a, b); }", "")
        >>> output = "answer.cpp:2:18:   required from here\\nstl_algo.h:1938:22: error: no match for 'operator-'"
        >>> {place: program.text[slice(*span)] for place, span in read_origins(output, program).items()}
        {('stl_algo.h', 1938): 'sort(a, b)'}
    """
    origins: dict[tuple[str, int], Span] = {}
    origin: Span | None = None
    for line in output.split("\n"):
        if match := _ORIGIN.match(line):
            number, column = (match[1], match[2]) if match[1] else (match[3], match[4])
            offset = program.offset(int(number), int(column or 0))
            if offset is not None:
                origin = program.call_span(offset) if column else program.line_span(offset)
        elif match := _ERROR.match(line):
            if origin is not None:
                origins.setdefault((match[1], int(match[2])), origin)
            origin = None
    return origins


def compiler_findings(
    errors: Sequence[Diagnostic], origins: Mapping[tuple[str, int], Span], program: Program, pointing: Pointing
) -> list[Finding]:
    """Findings in the answer, in the compiler's order; at least one if there are errors.

    Args:
        errors: What the compiler says.
        origins: Places of the program by :func:`read_origins`, where that was read.
        program: What was compiled.
        pointing: How to point.
    """
    first, last = program.answer_span
    whole = Finding(0, last - first, SEMANTIC, "")
    findings: list[Finding] = []
    fault = _bracket_fault(errors, program) if any(_SYNTAX.match(error.message) for error in errors) else None
    unsure = len(program.text) + 1  # from here on, a bracket that is missing may be all that is wrong
    if fault is not None:
        at = fault.span[0]
        unsure = program.line_span(at)[0] if program.text[at : at + 1] in ("(", "[") else at
    for error in errors:
        kind = SYNTAX if _SYNTAX.match(error.message) else SEMANTIC
        message = _message(error)
        if program.renumbers_lines:
            findings.append(Finding(0, last - first, kind, f"{in_one_line(error.message)} (somewhere: #line hides the place)"))
            continue
        span = _place(error, origins.get((error.file, error.line)), program, pointing)
        if fault is not None and (span is None or span[1] > unsure):
            continue
        if span is None:
            span = (last, last) if kind == SYNTAX and (error.span is None or error.span[0] >= last) else (first, last)
        start, end = max(first, span[0]) - first, min(last, span[1]) - first
        findings.append(Finding(start, max(start, end), kind, message))
    if fault is not None and not program.renumbers_lines:
        start, end = fault.span[0] - first, fault.span[1] - first
        said = f" ({_message(errors[0])})" if not findings else ""
        findings.append(Finding(start, end, SYNTAX, fault.message + said))
    findings = [_lines_of(finding, program) for finding in findings] if pointing.whole_lines else findings
    distinct = {(finding.start, finding.end): finding for finding in reversed(findings)}
    return sorted(distinct.values()) or ([whole] if errors else [])


def _bracket_fault(errors: Sequence[Diagnostic], program: Program) -> BraceFault | None:
    """A bracket that is missing, if one is: what the compiler says of the rest may follow from it alone."""
    unclosed = unclosed_bracket(program)
    if unclosed is None:
        return brace_fault(program)
    start, end = unclosed
    noticed = [error.span[1] for error in errors if error.span is not None and start < error.span[0] <= end]
    return BraceFault((start, min([end, *noticed])), f"this {program.text[start]!r} is not closed")


def _place(error: Diagnostic, origin: Span | None, program: Program, pointing: Pointing) -> Span | None:
    """The error's characters in the answer, None if neither it nor what it mentions lies there."""
    first, last = program.answer_span

    def inside(span: Span) -> bool:
        return span[0] <= last and span[1] >= first and (span[0] < last or span[0] == span[1])

    places = [] if error.span is None else [_narrowed(error, error.span, program, pointing)]
    places += [origin] if origin is not None else []
    return next((span for span in [*places, *error.notes] if inside(span)), None)


def _narrowed(error: Diagnostic, span: Span, program: Program, pointing: Pointing) -> Span:
    """The characters that the message speaks of, where the compiler's range is not those."""
    text = program.text
    if _EXPECTED.match(error.message):
        return _where_expected(error, span, program, pointing)
    if _OPERANDS.search(error.message):
        shift = re.search(r"'operator(<<|>>)'", error.message)  # what is on the left of it may be half of a statement
        operands = [operand for operand in error.operands if not (shift and operand[0] < span[0])]
        return min([span[0], *(start for start, _ in operands)]), max([span[1], *(end for _, end in operands)])
    if quoted := _QUOTED.match(error.message):  # of an argument of a macro g++ gives the place of the macro
        name = re.compile(rf"\b{re.escape(quoted[1])}\b")
        if not name.search(text, *span):
            found = name.search(text, span[0], program.line_span(span[0])[1])
            return found.span() if found else span
    return span


def _where_expected(error: Diagnostic, span: Span, program: Program, pointing: Pointing) -> Span:
    """``expected X before Y``: from the end of what stands before Y to the end of Y, or the place of X at a line's end."""
    text, tokens = program.text, program.tokens
    index = program.token_index(span[0])
    if index < 0 or span[0] >= tokens[index].end:  # the compiler points behind the token before Y
        index += 1
    behind = tokens[index] if index < len(tokens) else Token(len(text), len(text), "end")
    earlier = (token for token in reversed(tokens[:index]) if token.kind != "directive")
    before = next(earlier, Token(0, 0, "begin"))
    if "\n" in text[before.end : behind.start] or index >= len(tokens):
        if not pointing.previous_line:
            return behind.start, behind.end
        missing_mark = re.match(r"expected [^'\"]*'[;,:)\]]", error.message)
        return before.end, before.end if missing_mark else behind.start
    start = before.end
    if before.kind == behind.kind == "word":  # either may be the one that is wrong
        start = before.start
    elif "primary-expression" in error.message and behind.kind == "word" and index > 1 and tokens[index - 2].kind == "word":
        start = tokens[index - 2].start  # a misspelt keyword: "fro (int i"
    return start, behind.end


def _lines_of(finding: Finding, program: Program) -> Finding:
    first, last = program.answer_span
    if (finding.start, finding.end) == (0, last - first):
        return finding
    start = program.line_span(finding.start + first)[0] - first
    end = program.line_span(max(finding.start, finding.end - 1) + first)[1] - first
    return Finding(max(0, min(start, finding.start)), max(finding.end, min(end, last - first)), finding.kind, finding.message)


def _message(error: Diagnostic) -> str:
    """The compiler's words; of a file that is neither ours nor a system header nothing is repeated."""
    if error.file not in ("", SOURCE_NAME) and not error.file.startswith(("/usr/include/", "/usr/lib/")):
        return "an included file is not C++"
    return in_one_line(error.message)


def in_one_line(message: str) -> str:
    """A message cut to a length that a person reads."""
    words = " ".join(message.split())
    return words if len(words) <= MAX_MESSAGE_CHARACTERS else words[: MAX_MESSAGE_CHARACTERS - 1] + "…"
