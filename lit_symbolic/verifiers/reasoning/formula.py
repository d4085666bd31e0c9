"""Formulas of first-order logic: read with the span of every part, and written.

Two alphabets are read, also mixed: ``∀x (Dog(x) ∧ ¬Barks(x) → ∃y Owns(y, x))`` as in FOLIO and MALLS, and
``forall x (Dog(x) & ~Barks(x) -> exists y Owns(y, x))``. From tight to loose: ``¬``, ``∧``, ``∨``, ``⊕``, ``→`` (to the right), ``↔``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_DEPTH = 64

NEGATION = "¬"
QUANTIFIERS = "∀∃"
CONNECTIVES = "∧∨⊕→↔"
"""From tight to loose."""
_UNARY, _LOOSEST = -1, len(CONNECTIVES) - 1

# What may stand for a symbol, longest first. A hyphen or a point inside a name belongs to it: ``gpt-3``, ``mr.smith``.
_ALPHABET = {
    "∀": ("∀", r"\\forall\b", r"forall\b"),
    "∃": ("∃", r"\\exists\b", r"exists\b"),
    "↔": ("↔", "<->", "<=>", "⇔", "≡"),
    "→": ("→", "->", "=>", "⇒"),
    "∧": ("∧", r"\^", "&&?", r"/\\", r"and\b"),
    "∨": ("∨", r"\|\|?", r"\\/", r"or\b"),
    "⊕": ("⊕", r"xor\b", "⊻"),
    "≠": ("≠", "!=", "<>"),
    "¬": ("¬", "~", "!", r"not\b", "-(?!>)"),
    "=": ("=(?!>)",),
    "(": (r"\(", r"\["),
    ")": (r"\)", r"\]"),
    ",": (",",),
    ".": (r"[.:](?!::)",),
}
_SYMBOL = re.compile("|".join(f"({'|'.join(forms)})" for forms in _ALPHABET.values()))
_SYMBOLS = tuple(_ALPHABET)
_NAME = re.compile(r"\w+(?:[-.'’^+]\w+|\+\+?(?!\w))*")
_BLANKS = re.compile(r"[ \t\r\xa0]*")


@dataclass(frozen=True, slots=True)
class Term:
    """A constant, a variable, or a function of terms."""

    name: str
    arguments: tuple[Term, ...] = ()
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Predicate:
    """A predicate of terms; without arguments, a proposition. ``left = right`` is the predicate ``=``."""

    name: str
    arguments: tuple[Term, ...] = ()
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Negation:
    """``¬operand``."""

    operand: Formula
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Connective:
    """Two or more operands joined by one of ``∧∨⊕↔``, those of ``⊕`` and ``↔`` from the left; two by ``→``."""

    symbol: str
    operands: tuple[Formula, ...]
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Quantified:
    """``∀variable body`` or ``∃variable body``."""

    quantifier: str
    variable: str
    body: Formula
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


Formula = Predicate | Negation | Connective | Quantified


class FormulaError(Exception):
    """A text is no formula.

    Args:
        place: First character that cannot be read.
        expected: What should have stood there.
    """

    def __init__(self, place: int, expected: str) -> None:
        super().__init__(f"expected {expected} at {place}")
        self.place, self.expected = place, expected


def read_formula(text: str, start: int = 0, end: int | None = None) -> Formula:
    """Read ``text[start:end]``.

    A quantifier binds what follows it as tightly as ``¬`` does. Where this would leave its variable free further on, as in
    ``∀x Dog(x) → Barks(x)``, or with a point behind the variable, it binds all that follows. A full stop at the end is skipped.

    Raises:
        FormulaError: If it is no formula, or nested deeper than ``MAX_DEPTH``.

    Example:
        >>> write(read_formula("forall x (Dog(x) & -Barks(x) -> Odd(x))"))
        '∀x (Dog(x) ∧ ¬Barks(x) → Odd(x))'
        >>> write(read_formula("∀x Dog(x) → Barks(x)"))
        '∀x (Dog(x) → Barks(x))'
        >>> formula = read_formula("A(x) ∧ B(y, f(z))")
        >>> [(part.name, part.start, part.end) for part in terms(formula)]
        [('x', 2, 3), ('y', 9, 10), ('f', 12, 16), ('z', 14, 15)]
    """
    stop = len(text) if end is None else end
    formula = _Parser(text, start, stop, wide=False).whole()
    if loose := free_names(formula) & {part.variable for part in parts(formula) if isinstance(part, Quantified)}:
        wide = _Parser(text, start, stop, wide=True).whole()
        if not loose & free_names(wide):
            return wide
    return formula


def parts(formula: Formula) -> Iterator[Formula]:
    """The formula and all formulas in it, from left to right."""
    stack = [formula]
    while stack:
        part = stack.pop()
        yield part
        if isinstance(part, Negation):
            stack.append(part.operand)
        elif isinstance(part, Quantified):
            stack.append(part.body)
        elif isinstance(part, Connective):
            stack.extend(reversed(part.operands))


def terms(formula: Formula) -> Iterator[Term]:
    """All terms in the formula, from left to right."""
    for part in parts(formula):
        if isinstance(part, Predicate):
            stack = list(reversed(part.arguments))
            while stack:
                term = stack.pop()
                yield term
                stack.extend(reversed(term.arguments))


def free_names(formula: Formula) -> set[str]:
    """Names of constants and of variables that no quantifier binds."""
    return {term.name for term in free_terms(formula)}


def free_terms(formula: Formula) -> Iterator[Term]:
    """Constants, and variables where no quantifier binds them."""
    stack: list[tuple[Formula, frozenset[str]]] = [(formula, frozenset())]
    while stack:
        part, bound = stack.pop()
        if isinstance(part, Predicate):
            yield from (term for term in terms(part) if not term.arguments and term.name not in bound)
        elif isinstance(part, Negation):
            stack.append((part.operand, bound))
        elif isinstance(part, Quantified):
            stack.append((part.body, bound | {part.variable}))
        else:
            stack.extend((operand, bound) for operand in reversed(part.operands))


def write(formula: Formula) -> str:
    """The formula with as few parentheses as it needs.

    Example:
        >>> write(Connective("→", (Negation(Predicate("Rain")), Connective("∧", (Predicate("Dry"), Predicate("Warm"))))))
        '¬Rain → Dry ∧ Warm'
    """
    if isinstance(formula, Predicate):
        if formula.name == "=":
            return " = ".join(map(_write_term, formula.arguments))
        return _write_term(Term(formula.name, formula.arguments))
    if isinstance(formula, Negation):
        return NEGATION + _write_operand(formula.operand, _UNARY)
    if isinstance(formula, Quantified):
        return f"{formula.quantifier}{formula.variable} {_write_operand(formula.body, _UNARY)}"
    level = CONNECTIVES.index(formula.symbol)
    *firsts, last = formula.operands
    written = [_write_operand(operand, level - 1) for operand in firsts]
    # Only → groups to the right.
    written.append(_write_operand(last, level if formula.symbol == "→" else level - 1))
    return f" {formula.symbol} ".join(written)


def _write_operand(formula: Formula, level: int) -> str:
    """In parentheses if it binds looser than ``level``."""
    if isinstance(formula, Connective) and CONNECTIVES.index(formula.symbol) > level:
        return f"({write(formula)})"
    return f"({write(formula)})" if isinstance(formula, Predicate) and formula.name == "=" and level == _UNARY else write(formula)


def _write_term(term: Term) -> str:
    return f"{term.name}({', '.join(map(_write_term, term.arguments))})" if term.arguments else term.name


class _Parser:
    """Precedence climbing; chains of one connective are loops, only parentheses, ¬, → and quantifiers recurse."""

    def __init__(self, text: str, start: int, end: int, wide: bool) -> None:
        self.text, self.end, self.wide = text, end, wide
        self.depth = 0
        self.position = start
        self.behind = start  # of the last token read
        self.advance()

    def advance(self) -> None:
        """Read the token at the position: its ``kind`` is a symbol, ``name``, or empty at the end."""
        blanks = _BLANKS.match(self.text, self.position, self.end)
        self.start = blanks.end() if blanks else self.position
        symbol = _SYMBOL.match(self.text, self.start, self.end)
        match = symbol or _NAME.match(self.text, self.start, self.end)
        if symbol:
            self.kind = _SYMBOLS[(symbol.lastindex or 1) - 1]
        else:
            self.kind = "name" if match else "" if self.start == self.end else "?"
        self.word = match[0] if match else ""
        self.position = match.end() if match else self.start

    def take(self) -> str:
        """Step over the token."""
        word, self.behind = self.word, self.position
        self.advance()
        return word

    def expect(self, kind: str, expected: str) -> str:
        if self.kind != kind:
            raise FormulaError(self.start, expected)
        return self.take()

    def whole(self) -> Formula:
        formula = self.chain(_LOOSEST)
        if self.kind == ".":
            self.take()
        if self.kind:
            raise FormulaError(self.start, "a connective or the end of the formula")
        return formula

    def chain(self, level: int) -> Formula:
        """Operands joined by the connective of a level."""
        if level == _UNARY:
            return self.unary()
        start = self.start
        first = self.chain(level - 1)
        symbol = CONNECTIVES[level]
        if self.kind != symbol:
            return first
        operands = [first]
        while self.kind == symbol:
            self.take()
            if symbol == "→":
                operands.append(self.deeper(level))
                break
            operands.append(self.chain(level - 1))
        return Connective(symbol, tuple(operands), start, self.behind)

    def deeper(self, level: int) -> Formula:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise FormulaError(self.start, f"at most {MAX_DEPTH} nested formulas")
        formula = self.chain(level)
        self.depth -= 1
        return formula

    def unary(self) -> Formula:
        start = self.start
        if self.kind == NEGATION:
            self.take()
            operand = self.deeper(_UNARY)
            return Negation(operand, start, self.behind)
        if self.kind and self.kind in QUANTIFIERS:
            quantifier = self.kind
            self.take()
            variables = [self.expect("name", "a variable")]
            while self.kind == ",":  # ∀x, y P(x, y)
                self.take()
                variables.append(self.expect("name", "a variable"))
            formula = self.body()
            for variable in reversed(variables):
                formula = Quantified(quantifier, variable, formula, start, self.behind)
            return formula
        if self.kind == "(":
            self.take()
            formula = self.deeper(_LOOSEST)
            self.expect(")", "a connective or )")
            return formula
        return self.atom()

    def body(self) -> Formula:
        """What a quantifier binds."""
        if self.kind == ".":
            self.take()
            return self.deeper(_LOOSEST)
        return self.deeper(_LOOSEST if self.wide else _UNARY)

    def atom(self) -> Formula:
        start = self.start
        name = self.expect("name", "a formula")
        arguments = self.arguments()
        if self.kind not in ("=", "≠"):
            return Predicate(name, arguments, start, self.behind)
        left = Term(name, arguments, start, self.behind)
        negated = self.take() != "="
        equality = Predicate("=", (left, self.term()), start, self.behind)
        return Negation(equality, start, self.behind) if negated else equality

    def term(self) -> Term:
        start = self.start
        name = self.expect("name", "a constant or a variable")
        return Term(name, self.arguments(), start, self.behind)

    def arguments(self) -> tuple[Term, ...]:
        if self.kind != "(":
            return ()
        self.take()
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise FormulaError(self.start, f"at most {MAX_DEPTH} nested formulas")
        found = [self.term()]
        while self.kind == ",":
            self.take()
            found.append(self.term())
        self.expect(")", ", or )")
        self.depth -= 1
        return tuple(found)
