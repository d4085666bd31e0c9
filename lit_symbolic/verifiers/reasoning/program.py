"""Reads the logic programs that models write for ProofWriter: predicates, facts, rules and a query, each line with its span.

The format is that of Logic-LM and ENVISIONS, a comment behind ``:::`` on any line::

    Predicates:
    Cold($x, bool) ::: Is x cold?
    Facts:
    Cold(Bob, True) ::: Bob is cold.
    Rules:
    Cold($x, True) && Furry($x, False) >>> Blue($x, True)
    Query:
    Blue(Bob, False) ::: Bob is not blue.

A predicate has any number of arguments and a truth value behind them, so a negation is the value ``False``. Nothing here
knows what a program means; that is :mod:`~lit_symbolic.verifiers.reasoning.forward_chaining`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from lit_symbolic.certificate import Finding

UNPARSABLE_LINE = "unparsable_line"
"""From the first character that cannot be read to the end of the line, or of what stands before its comment."""
MISSING_SECTION = "missing_section"
"""The end of an answer that has no such section: an empty span."""

HEADERS = ("Predicates", "Facts", "Rules", "Query")

Span = tuple[int, int]

_BLANKS = " \t\r"
_LITERAL = re.compile(r"([^\W\d]\w*)[ \t]*\(([^(),]*(?:,[^(),]*)*)\)")
_NAME = re.compile(r"[ \t]*([^\W\d]\w*)")
_TERM = re.compile(r"[ \t]*(\$?\w[\w'-]*)[ \t]*")
_OPERATOR = re.compile("&&|>>>")
_VALUES = {"True": True, "False": False}
_MAX_CACHED_CHARACTERS = 200


class Literal(NamedTuple):
    """``Chases($x, Cat, True)`` as written; an argument that begins with ``$`` is a variable."""

    name: str
    arguments: tuple[str, ...]
    value: bool
    start: int
    end: int

    def __str__(self) -> str:
        return show(self.name, self.arguments, self.value)


class Declaration(NamedTuple):
    """``Chases($x, $y, bool)``: a name and its number of arguments."""

    name: str
    arity: int
    start: int
    end: int


class Rule(NamedTuple):
    """Premises joined by ``&&``, then ``>>>``, then conclusions joined by ``&&``."""

    premises: tuple[Literal, ...]
    conclusions: tuple[Literal, ...]
    start: int
    end: int


@dataclass
class Program:
    """What could be read of an answer.

    Args:
        declarations: The lines under ``Predicates:``; None if there is no such section.
        facts: The lines under ``Facts:``.
        rules: The lines under ``Rules:``.
        query: The line under ``Query:``; None if it is missing or cannot be read.
        statements: Number of lines, whether they could be read or not, and one for a query that is missing.
        findings: Lines that cannot be read, and a query that is missing.
    """

    declarations: list[Declaration] | None = None
    facts: list[Literal] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    query: Literal | None = None
    statements: int = 0
    findings: list[Finding] = field(default_factory=list)


def show(name: str, arguments: Sequence[str], value: bool) -> str:
    """A literal in canonical text.

    Example:
        >>> show("Chases", ("$x", "Cat"), False)
        'Chases($x, Cat, False)'
    """
    return f"{name}({', '.join((*arguments, str(value)))})"


def read_program(text: str, strict: bool = True) -> Program:
    """Read an answer; never raises, what cannot be read is a finding.

    Args:
        text: The answer.
        strict: See :func:`read_sections`; also, a second line under ``Query:`` is a finding, and skipped otherwise.

    Example:
        >>> program = read_program("Facts:\\nCold(Bob, True)\\nRules:\\nCold($x, True) >> Blue($x, True)\\nQuery:\\nBlue(Bob, True)")
        >>> str(program.facts[0]), program.query.value, program.rules
        ('Cold(Bob, True)', True, [])
        >>> program.findings
        [Finding(start=45, end=62, kind='unparsable_line', message="expected && or >>>, found '>> Blue($x, True)'")]
    """
    sections, findings = read_sections(text, HEADERS, strict)
    program = Program(findings=findings, statements=sum(map(len, sections.values())) + len(findings) + ("Query" not in sections))
    if "Predicates" in sections:
        program.declarations = []
    for start, end in sections.get("Predicates", ()):
        declaration = _read_declaration(text, start, end)
        if isinstance(declaration, Finding):
            findings.append(declaration)
        elif program.declarations is not None:
            program.declarations.append(declaration)
    for start, end in sections.get("Facts", ()):
        fact = _read_literal(text, start, end)
        if isinstance(fact, Finding):
            findings.append(fact)
        else:
            program.facts.append(fact)
    for start, end in sections.get("Rules", ()):
        rule = _read_rule(text, start, end)
        if isinstance(rule, Finding):
            findings.append(rule)
        else:
            program.rules.append(rule)
    queries = sections.get("Query", [])
    if queries:
        query = _read_literal(text, *queries[0])
        if isinstance(query, Finding):
            findings.append(query)
        else:
            program.query = query
        if strict and len(queries) > 1:
            findings.append(Finding(queries[1][0], queries[-1][1], UNPARSABLE_LINE, "expected one query, found more"))
    else:
        findings.append(Finding(len(text), len(text), MISSING_SECTION, "the program has no query: a line under Query:"))
    return program


def read_sections(text: str, headers: Sequence[str], strict: bool = True) -> tuple[dict[str, list[Span]], list[Finding]]:
    """Spans of the lines under each header that occurs, comments behind ``:::``, blanks and blank lines left out.

    A header is a word and a colon at the beginning of a line; the section's first line may stand behind it.

    Args:
        text: The answer.
        headers: Words that begin a section.
        strict: A line before the first header is a finding. Otherwise it is skipped, as are code fences.

    Example:
        >>> read_sections("Facts: Cold(Bob, True) ::: Bob is cold.\\n\\nQuery:\\nCold(Al, True)", ("Facts", "Query"))
        ({'Facts': [(7, 22)], 'Query': [(48, 62)]}, [])
    """
    sections: dict[str, list[Span]] = {}
    findings: list[Finding] = []
    current: list[Span] | None = None
    header = _header(tuple(headers))
    behind = 0
    for line in text.split("\n"):
        start, behind = behind, behind + len(line) + 1
        if match := header.match(line):
            if match[1] in sections:
                findings.append(Finding(start + match.start(1), start + match.end(), UNPARSABLE_LINE, f"a second {match[1]}:"))
            current = sections.setdefault(match[1], [])
            start += match.end()
            line = line[match.end() :]
        formal = line.partition(":::")[0]
        stripped = formal.strip(_BLANKS)
        if not stripped:
            if not formal.strip(_BLANKS) and ":::" in line:
                place = start + len(line) - len(line.lstrip(_BLANKS))
                findings.append(_unparsable(text, place, start + len(line.rstrip(_BLANKS)), "a statement before the comment"))
            continue
        if not strict and (current is None or stripped.startswith("```")):
            continue
        start += len(formal) - len(formal.lstrip(_BLANKS))
        if current is None:
            findings.append(_unparsable(text, start, start + len(stripped), f"{headers[0]}: or another section"))
        else:
            current.append((start, start + len(stripped)))
    return sections, findings


@lru_cache(16)
def _header(headers: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"[ \t]*({'|'.join(headers)})[ \t]*:(?!:)")


def _unparsable(text: str, start: int, end: int, expected: str) -> Finding:
    # ascii(): a lone surrogate in a message would break whoever writes it to a file.
    found = ascii(text[start : min(end, start + 20)]) if start < end else "the end of the line"
    return Finding(start, end, UNPARSABLE_LINE, f"expected {expected}, found {found}")


def _read_literal(text: str, start: int, end: int) -> Literal | Finding:
    written = text[start:end]
    parts = _split(written) if len(written) <= _MAX_CACHED_CHARACTERS else _split.__wrapped__(written)
    if parts is not None:
        value = _VALUES.get(parts[1][-1])
        if value is not None:
            return Literal(parts[0], parts[1][:-1], value, start, end)
    return _unparsable(text, *_fault(text, start, end, "True or False", _VALUES))


def _read_declaration(text: str, start: int, end: int) -> Declaration | Finding:
    parts = _split.__wrapped__(text[start:end])
    if parts is not None and parts[1][-1] == "bool":
        return Declaration(parts[0], len(parts[1]) - 1, start, end)
    return _unparsable(text, *_fault(text, start, end, "bool", {"bool"}))


def _read_rule(text: str, start: int, end: int) -> Rule | Finding:
    sides: tuple[list[Literal], list[Literal]] = [], []
    side = 0
    first = start
    while True:
        operator = _OPERATOR.search(text, first, end)
        behind = operator.start() if operator else end
        place = first + len(text[first:behind]) - len(text[first:behind].lstrip(_BLANKS))
        literal = _read_literal(text, place, max(place, first + len(text[first:behind].rstrip(_BLANKS))))
        if isinstance(literal, Finding):
            wanted = literal.message.partition(", found")[0].removeprefix("expected ")
            closed = text.find(")", place, literal.start) >= 0  # a whole literal stands before the fault
            return _unparsable(text, literal.start, end, "&& or >>>" if closed and not side else "&&" if closed else wanted)
        sides[side].append(literal)
        if operator is None:
            if not side:
                return Finding(
                    end, end, UNPARSABLE_LINE, "expected >>> and what follows from the premises, found the end of the line"
                )
            return Rule(tuple(sides[0]), tuple(sides[1]), start, end)
        if operator[0] == ">>>":
            if side:
                return _unparsable(text, operator.start(), end, "one >>>")
            side = 1
        first = operator.end()


@lru_cache(1 << 13)
def _split(written: str) -> tuple[str, tuple[str, ...]] | None:
    """Name and arguments of a literal, the truth value as the last of them; None if it is no literal."""
    match = _LITERAL.fullmatch(written)
    if match is None:
        return None
    arguments = tuple(argument.strip(_BLANKS) for argument in match[2].split(","))
    return (match[1], arguments) if all(map(_TERM.fullmatch, arguments)) else None


def _fault(
    text: str, start: int, end: int, value: str, values: Sequence[str] | dict[str, bool] | set[str]
) -> tuple[int, int, str]:
    """Place of the first character that does not fit, the statement's end, and what was expected there."""
    name = _NAME.match(text, start, end)
    if name is None:
        return start, end, "a predicate"
    place = _skip(text, name.end(), end)
    if text[place:end][:1] != "(":
        return place, end, "("
    while True:
        term = _TERM.match(text, place + 1, end)
        if term is None:
            return _skip(text, place + 1, end), end, f"an argument or {value}"
        place = term.end()
        if text[place:end][:1] == ")":
            break
        if text[place:end][:1] != ",":
            return place, end, ", or )"
    if term[1] not in values:
        return term.start(1), end, value
    return _skip(text, place + 1, end), end, "the end of the line"


def _skip(text: str, place: int, end: int) -> int:
    while place < end and text[place] in _BLANKS:
        place += 1
    return place
