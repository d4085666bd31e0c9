"""Reads and writes exact arithmetic: a step ``4 + 8 = 12 (left: 4 6 12)`` and a one-line expression ``(10-4)*(13-9)``.

Nothing is evaluated by Python: the text goes through regular expressions and a small recursive descent whose numbers,
depth and length are bounded. Values are rationals; every part that was read knows its span of characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

Number = int | Fraction
"""An exact rational: an ``int`` wherever it is whole (faster, and equal in value and hash to the fraction)."""

OPERATORS = "+-*/"
MAX_DIGITS = 12
MAX_DEPTH = 32

_BLANKS = re.compile(r"[ \t\r]*")
# "[0-9]" and not "\d": a Unicode digit is no number here.
_DIGITS = f"[0-9]{{1,{MAX_DIGITS}}}"
_NUMBER = re.compile(rf"[ \t\r]*(-?{_DIGITS}(?:/{_DIGITS}(?![0-9]))?)(?![0-9])")
_NATURAL = re.compile(rf"({_DIGITS})(?![0-9])")
_OPERATOR = re.compile(r"[ \t\r]*([-+*/])")
_EQUALS = re.compile(r"[ \t\r]*=")
_LEFT = re.compile(r"[ \t\r]*\([ \t]*left[ \t]*:")
_CLOSE = re.compile(r"[ \t\r]*(\))")


class Literal(NamedTuple):
    """A number as written, with its span of characters."""

    value: Number
    start: int
    end: int


class Operation(NamedTuple):
    """A node of an expression, with its span of characters (parentheses around it left out)."""

    operator: str
    left: Literal | Operation
    right: Literal | Operation
    start: int
    end: int


class StepReading(NamedTuple):
    """What could be read of one step; parts behind ``fault`` are None.

    ``fault`` is the first character that could not be read (the line's end if something is missing there) and
    ``expected`` says what should have stood there. ``close`` is the place of the closing parenthesis, ``left`` holds
    the numbers of the list that were read, also of a list that is not closed.
    """

    a: Literal | None = None
    operator: str | None = None
    operator_start: int = 0
    b: Literal | None = None
    result: Literal | None = None
    left: tuple[Literal, ...] | None = None
    close: int | None = None
    fault: int | None = None
    expected: str = ""


class ExpressionReading(NamedTuple):
    """What could be read of a one-line expression with an optional ``= number`` behind it.

    ``literals`` are the numbers up to ``fault`` in order; ``tree`` is None where the expression itself is faulty.
    """

    tree: Literal | Operation | None
    literals: tuple[Literal, ...]
    stated: Literal | None = None
    fault: int | None = None
    expected: str = ""


def apply(operator: str, a: Number, b: Number) -> Number | None:
    """The exact value of ``a operator b``; None for a division by zero.

    Example:
        >>> apply("/", 8, 3), apply("*", Fraction(8, 3), 3), apply("/", 1, 0)
        (Fraction(8, 3), 8, None)
    """
    value: Number
    if operator == "+":
        value = a + b
    elif operator == "-":
        value = a - b
    elif operator == "*":
        value = a * b
    elif not b:
        return None
    elif type(a) is int and type(b) is int and a % b == 0:
        return a // b
    else:
        value = Fraction(a) / b
    return whole(value)


def whole(value: Number) -> Number:
    """The same number, as an ``int`` if it is one.

    Example:
        >>> whole(Fraction(4, 2))
        2
    """
    return value if type(value) is int or value.denominator != 1 else value.numerator


def write_step(a: Number, operator: str, b: Number, result: Number, left: Iterable[Number]) -> str:
    """One step in canonical text, the list in the order given.

    Example:
        >>> write_step(8, "/", 3, Fraction(8, 3), [8, Fraction(8, 3)])
        '8 / 3 = 8/3 (left: 8 8/3)'
    """
    return f"{a} {operator} {b} = {result} (left: {' '.join(map(str, left))})"


def read_step(text: str, start: int, end: int) -> StepReading:
    """Read ``a op b = c (left: x y z)`` from ``text[start:end]``.

    Blanks may be missing or doubled. A slash between two digits always makes a fraction: ``8/3``, never ``8 / 3``.
    A sign belongs to a number only where a number must begin: ``6-4`` is a subtraction, ``6 - -4`` has a negative number.

    Args:
        text: The answer.
        start: First character of the step.
        end: One past its last character; the step is one line.

    Example:
        >>> step = read_step("6 - 4 = 2 (left: 2 12)", 0, 22)
        >>> step.a, step.operator, [n.value for n in step.left], step.fault
        (Literal(value=6, start=0, end=1), '-', [2, 12], None)
        >>> read_step("6 - x", 0, 5).fault
        4
    """
    a = _number(text, start, end)
    if a is None:
        return StepReading(fault=_skip(text, start, end), expected="a number")
    operator = _OPERATOR.match(text, a.end, end)
    if operator is None:
        return StepReading(a, fault=_skip(text, a.end, end), expected="one of + - * /")
    sign, sign_start = operator[1], operator.start(1)
    b = _number(text, operator.end(), end)
    if b is None:
        return StepReading(a, sign, sign_start, fault=_skip(text, operator.end(), end), expected="a number")
    equals = _EQUALS.match(text, b.end, end)
    if equals is None:
        return StepReading(a, sign, sign_start, b, fault=_skip(text, b.end, end), expected="=")
    result = _number(text, equals.end(), end)
    if result is None:
        return StepReading(a, sign, sign_start, b, fault=_skip(text, equals.end(), end), expected="a number")
    opening = _LEFT.match(text, result.end, end)
    if opening is None:
        return StepReading(a, sign, sign_start, b, result, fault=_skip(text, result.end, end), expected="(left: …)")

    left: list[Literal] = []
    position, fault, close, expected = opening.end(), None, None, ""
    while True:
        if closing := _CLOSE.match(text, position, end):
            close, behind = closing.start(1), _skip(text, closing.end(), end)
            if behind < end:
                fault, expected = behind, "the end of the line"
            break
        number = _number(text, position, end)
        if number is None or (left and number.start == position):  # "3-4" in a list is not 3 and -4
            fault, expected = _skip(text, position, end), "a number or )"
            break
        left.append(number)
        position = number.end
    return StepReading(a, sign, sign_start, b, result, tuple(left), close, fault, expected)


def read_expression(text: str, start: int, end: int) -> ExpressionReading:
    """Read ``(10-4)*(13-9)``, optionally with ``= 24`` behind it, from ``text[start:end]``.

    Natural numbers, the four operators and parentheses only; a slash is always a division. Never raises: a fault is
    a position in the answer of this function.

    Example:
        >>> reading = read_expression("(10-4)*(13-9) = 24", 0, 18)
        >>> [n.value for n in reading.literals], reading.stated.value, reading.fault
        ([10, 4, 13, 9], 24, None)
        >>> read_expression("9**9", 0, 4).fault
        2
    """
    parser = _Parser(text, start, end)
    tree: Literal | Operation | None = None
    try:
        tree = parser.sum(0)
        if parser.peek() == "":
            return ExpressionReading(tree, tuple(parser.literals))
        if parser.peek() != "=":
            tree = None
            raise _FaultError("an operator or =")
        stated = _number(text, parser.position + 1, end)
        parser.position += 1
        if stated is None:
            raise _FaultError("a number")
        parser.position = stated.end
        if parser.peek() != "":
            raise _FaultError("the end of the line")
        return ExpressionReading(tree, tuple(parser.literals), stated)
    except _FaultError as error:
        return ExpressionReading(tree, tuple(parser.literals), fault=_skip(text, parser.position, end), expected=str(error))


class ZeroDivisor(Exception):
    """A division by zero; ``start`` and ``end`` are the divisor's span of characters."""

    def __init__(self, start: int, end: int) -> None:
        super().__init__(start, end)
        self.start, self.end = start, end


def evaluate(tree: Literal | Operation) -> Number:
    """The exact value of an expression.

    Recursive: for trees of few numbers. The caller bounds their count, since :func:`read_expression` does not.

    Raises:
        ZeroDivisor: With the span of the divisor.

    Example:
        >>> evaluate(read_expression("8/(3-8/3)", 0, 9).tree)
        24
    """
    if isinstance(tree, Literal):
        return tree.value
    value = apply(tree.operator, evaluate(tree.left), evaluate(tree.right))
    if value is None:
        raise ZeroDivisor(tree.right.start, tree.right.end)
    return value


class _FaultError(Exception):
    """Says what was expected at the parser's position."""


class _Parser:
    """Recursive descent over sums, products and atoms; chains are loops, only parentheses recurse."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text, self.position, self.end = text, start, end
        self.literals: list[Literal] = []

    def peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        self.position = _skip(self.text, self.position, self.end)
        return self.text[self.position] if self.position < self.end else ""

    def sum(self, depth: int) -> Literal | Operation:
        node = self.product(depth)
        while (operator := self.peek()) and operator in "+-":
            self.position += 1
            right = self.product(depth)
            node = Operation(operator, node, right, node.start, right.end)
        return node

    def product(self, depth: int) -> Literal | Operation:
        node = self.atom(depth)
        while (operator := self.peek()) and operator in "*/":
            self.position += 1
            right = self.atom(depth)
            node = Operation(operator, node, right, node.start, right.end)
        return node

    def atom(self, depth: int) -> Literal | Operation:
        if self.peek() == "(":
            if depth == MAX_DEPTH:
                raise _FaultError(f"at most {MAX_DEPTH} nested parentheses")
            self.position += 1
            node = self.sum(depth + 1)
            if self.peek() != ")":
                raise _FaultError(")")
            self.position += 1
            return node
        match = _NATURAL.match(self.text, self.position, self.end)
        if match is None:
            raise _FaultError("a number or (")
        self.position = match.end()
        self.literals.append(Literal(int(match[1]), match.start(), match.end()))
        return self.literals[-1]


def _skip(text: str, position: int, end: int) -> int:
    match = _BLANKS.match(text, position, end)
    return match.end() if match else position


def _number(text: str, position: int, end: int) -> Literal | None:
    """The integer or fraction behind any blanks, None if there is none (a denominator of zero is none)."""
    match = _NUMBER.match(text, position, end)
    if match is None:
        return None
    numerator, slash, denominator = match[1].partition("/")
    if not slash:
        return Literal(int(numerator), match.start(1), match.end())
    if not int(denominator):
        return None
    return Literal(whole(Fraction(int(numerator), int(denominator))), match.start(1), match.end())
