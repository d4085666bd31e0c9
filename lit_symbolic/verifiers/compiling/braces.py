"""Where a bracket is missing: the compiler notices it only where the program cannot go on, often at its end; layout tells."""

from __future__ import annotations

from dataclasses import dataclass

from lit_symbolic.verifiers.compiling.program import Program, Span, Token

_FOLLOWS_BRACE = frozenset({"else", "catch", "while"})
_LABELS = frozenset({"case", "default", "public", "private", "protected"})


@dataclass
class _Block:
    """An open ``{``: the indentation of its line, and whether the first line inside it stands deeper."""

    line: int
    indent: int
    deeper: bool | None = None


@dataclass(frozen=True, slots=True)
class BraceFault:
    """A brace that is missing, or one too many.

    Args:
        span: Characters of the whole program: the blanks where it is missing, or the brace.
        message: What is wrong.
    """

    span: Span
    message: str


def brace_fault(program: Program) -> BraceFault | None:
    """The first place at which braces and indentation part, in a program whose braces do not match; else None.

    Example:
        >>> program = Program("", "int main() {\\n  if (true) {\\n    return 1;\\n  return 0;\\n}\\n", "")
        >>> fault = brace_fault(program)
        >>> fault.message, program.line_span(fault.span[0]) == program.line_span(program.text.index("return 1"))
        ("a '}' is missing", True)
    """
    text = program.text
    tokens = [token for token in program.tokens if token.kind != "directive"]
    braces = [text[token.start] for token in tokens if token.kind == "mark" and text[token.start] in "{}"]
    surplus = braces.count("{") - braces.count("}")
    if not surplus:
        return None
    faults = _faults(program, tokens)
    missing = "a '}' is missing"
    wanted = [fault for fault in faults if (fault.message == missing) == (surplus > 0)]
    answer_start, answer_end = program.answer_span
    for fault in wanted:
        if fault.span[0] <= answer_end and fault.span[1] >= answer_start:
            return BraceFault((max(answer_start, fault.span[0]), min(answer_end, fault.span[1])), fault.message)
    return None


def _faults(program: Program, tokens: list[Token]) -> list[BraceFault]:
    text = program.text
    faults: list[BraceFault] = []
    blocks: list[_Block] = []
    first_tokens: list[tuple[int, int, int]] = []  # of the lines so far: indentation, first token, last token
    line, line_start = 0, 0
    for index, token in enumerate(tokens):
        newlines = text.count("\n", tokens[index - 1].start if index else 0, token.start)
        new_line = newlines > 0 or not index
        if new_line:
            line += newlines
            line_start = text.rfind("\n", 0, token.start) + 1
            indent = len(text[line_start : token.start].expandtabs(4))
            first_tokens.append((indent, index, index))
        else:
            indent = first_tokens[-1][0]
            first_tokens[-1] = (indent, first_tokens[-1][1], index)
        mark = text[token.start : token.end] if token.kind == "mark" else ""
        gap = (tokens[index - 1].end if index else 0, token.start)
        if new_line and blocks and blocks[-1].deeper is None and blocks[-1].line < line:
            blocks[-1].deeper = indent > blocks[-1].indent

        if new_line and mark == "}":
            while blocks and blocks[-1].deeper and indent < blocks[-1].indent:
                faults.append(BraceFault(gap, "a '}' is missing"))
                blocks.pop()
            if not blocks or (indent > blocks[-1].indent and blocks[-1].deeper is not False):
                faults.append(_never_opened(text, tokens, first_tokens[:-1], indent, token))
                continue
        elif new_line and mark != "{" and not _is_label(text, tokens, index):
            # What follows a "}" on its line stands a little deeper without it.
            depth = indent - 1 if text[token.start : token.end] in _FOLLOWS_BRACE else indent
            while blocks and blocks[-1].deeper and depth <= blocks[-1].indent and line > blocks[-1].line:
                faults.append(BraceFault(gap, "a '}' is missing"))
                blocks.pop()

        if mark == "{":
            blocks.append(_Block(line, indent))
        elif mark == "}":
            if blocks:
                blocks.pop()
            else:
                faults.append(_never_opened(text, tokens, first_tokens[:-1], indent, token))
    if blocks:
        end = tokens[-1].end if tokens else len(text)
        faults.append(BraceFault((end, len(text)), "a '}' is missing"))
    return faults


def _never_opened(text: str, tokens: list[Token], lines: list[tuple[int, int, int]], indent: int, closing: Token) -> BraceFault:
    """The end of the line above that a ``}`` at this indentation would close; the ``}`` itself if there is none."""
    deeper = False
    for above, _, last in reversed(lines):
        if above < indent:
            break
        if above == indent:
            opens = text[tokens[last].start : tokens[last].end] == "{"
            if deeper and not opens:
                return BraceFault((tokens[last].end, tokens[last + 1].start), "a '{' is missing")
            break
        deeper = True
    return BraceFault((closing.start, closing.end), "this '}' closes nothing")


def _is_label(text: str, tokens: list[Token], index: int) -> bool:
    word = text[tokens[index].start : tokens[index].end]
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    return word in _LABELS or (
        tokens[index].kind == "word" and following is not None and text[following.start : following.end] == ":"
    )


def unclosed_bracket(program: Program) -> Span | None:
    """From a ``(`` or ``[`` that is never closed to the end of its line; None if there is none in the answer.

    Example:
        >>> program = Program("", "int main() {\\n  f(a[1);\\n  g(x[2]);\\n}\\n", "")
        >>> program.text[slice(*unclosed_bracket(program))]
        '[1);'
    """
    first, last = program.answer_span
    for opening, closing in ("()", "[]"):
        marks = [token for token in program.tokens if program.text[token.start : token.end] in (opening, closing)]
        opened: list[int] = []
        for token in marks:
            if program.text[token.start] == opening:
                opened.append(token.start)
            elif opened:
                opened.pop()
        if not opened or 2 * sum(program.text[token.start] == opening for token in marks) <= len(marks):
            continue
        # Those behind the first have nothing to do with it: brackets that are closed on their own lines were taken off.
        if first <= opened[0] < last:
            return opened[0], min(last, max(opened[0] + 1, program.line_span(opened[0])[1]))
    return None
