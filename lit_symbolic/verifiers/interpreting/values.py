"""Reads the values that the Python harness reports, and says whether a value is the one that was expected.

A report comes out of a process in which a hostile program ran: whatever it holds, reading it takes bounded time and raises
nothing but ``ValueError``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

MAX_DIGITS = 5_000
"""Numbers with more digits are only ever equal to themselves."""
MAX_LINE = 1_000
"""Of a printed line, so many characters at its end are searched for a number."""

_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d)\.)?(?:[eE][+-]?\d{1,3})?(?:\s*/\s*\d+)?")
_CURRENCY = "$€£¥ \t"


@dataclass(frozen=True)
class Opaque:
    """A value of a type that is not reported: shown to a person, equal to nothing.

    Args:
        text: The value in words.
        number: What ``float()`` made of it, if it did (SymPy's ``sqrt(2)``).
    """

    text: str
    number: float | None = None

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__


def decode(report: Any) -> Any:
    """The value of a report, of plain types.

    Raises:
        ValueError: If this is no report.

    Example:
        >>> decode(["tuple", [["int", "0x2a"], ["fraction", ["0x1", "0x3"]]]])
        (42, Fraction(1, 3))
    """
    try:
        return _decode(report)
    except (TypeError, KeyError, IndexError, ArithmeticError, RecursionError, UnicodeError) as error:
        raise ValueError(f"not a report of a value: {type(error).__name__}") from None


def _decode(report: Any) -> Any:
    kind, parts = report
    return _DECODERS[kind](parts)


def _fraction(parts: Any) -> Fraction | Opaque:
    numerator, denominator = parts
    if max(len(numerator), len(denominator)) > MAX_DIGITS:  # the greatest common divisor takes time
        return Opaque("a fraction of too many digits")
    return Fraction(int(numerator, 16), int(denominator, 16))


def _decimal(parts: Any) -> Decimal | Opaque:
    value = Decimal(parts[:MAX_DIGITS])
    return Opaque(parts[:MAX_DIGITS]) if value.is_snan() else value  # which raises when it is compared


def _dict(parts: Any) -> dict[Any, Any]:
    return {_decode(key): _decode(value) for key, value in parts}


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "none": lambda parts: None,
    "bool": lambda parts: parts == "True",
    "int": lambda parts: int(parts, 16),
    "float": float,
    "complex": lambda parts: complex(float(parts[0]), float(parts[1])),
    "str": lambda parts: parts + "",
    "bytes": bytes.fromhex,
    "fraction": _fraction,
    "decimal": _decimal,
    "list": lambda parts: [_decode(part) for part in parts],
    "tuple": lambda parts: tuple(_decode(part) for part in parts),
    "set": lambda parts: {_decode(part) for part in parts},
    "frozenset": lambda parts: frozenset(_decode(part) for part in parts),
    "dict": _dict,
    "number": lambda parts: Opaque(parts[1] + "", float(parts[0])),
    "object": lambda parts: Opaque(parts + ""),
}


@dataclass(frozen=True)
class Expected:
    """What the result of a program should be.

    - A number (int, float, ``Fraction``, ``Decimal``): the result, a number or a text that is one, differs by at most
      ``tolerance``, or by ``relative_tolerance`` of the expected number. ``"$1,234.50"``, ``"3/4"`` are numbers; ``"25%"`` is
      read as 0.25 and as 25, since data sets write either. ``True`` is not the number 1.
    - A text: if it is a number, as above; else the same text, blanks and upper case aside. ``True`` is also ``yes``.
    - A list or tuple: as many parts, each as expected, in this order unless ``ordered`` is false; a set has no order. A printed
      list of numbers or words (``[1, 2]``, ``1, 2``) is a list.
    - A dict: the same keys, each value as expected. ``None``, ``True``, ``False``: just that, or their names.

    Args:
        value: The expected result.
        tolerance: Absolute.
        relative_tolerance: Of the expected number.
        ordered: Whether the order of a list counts.

    Example:
        >>> Expected(0.5).agrees(Fraction(1, 2)), Expected(0.5).agrees("50 %"), Expected(1000).agrees("$1,000"), Expected(1).agrees(True)
        (True, True, True, False)
        >>> Expected((1, 2), ordered=False).agrees("[2, 1]"), Expected("Blue").agrees(" blue\\n")
        (True, True)
    """

    value: Any
    tolerance: float = 1e-3
    relative_tolerance: float = 1e-9
    ordered: bool = True

    def agrees(self, result: Any) -> bool:
        """Whether ``result``, of plain types, is the expected value."""
        return self._agree(self.value, result)

    def _agree(self, expected: Any, result: Any) -> bool:
        if isinstance(expected, bool) or expected is None:
            if isinstance(result, str):
                words = ("true", "yes") if expected else ("none",) if expected is None else ("false", "no")
                return result.strip().casefold() in words
            return result is expected
        if isinstance(expected, str):
            return self._agree_text(expected, result)
        if isinstance(expected, (list, tuple, set, frozenset)):
            return self._agree_parts(expected, result)
        if isinstance(expected, dict):
            return (
                isinstance(result, dict)
                and expected.keys() == result.keys()
                and all(self._agree(value, result[key]) for key, value in expected.items())
            )
        if isinstance(result, str):
            return any(self._near(expected, number) for number in numbers_of(result))
        return self._near(expected, result)

    def _agree_text(self, expected: str, result: Any) -> bool:
        numbers = numbers_of(expected)
        if numbers and any(self._agree(number, result) for number in numbers):
            return True
        if isinstance(result, bool):
            return expected.strip().casefold() in (("true", "yes") if result else ("false", "no"))
        if isinstance(result, Opaque):
            result = result.text
        return isinstance(result, str) and _plain(expected) == _plain(result)

    def _agree_parts(self, expected: Any, result: Any) -> bool:
        if isinstance(result, str):
            result = _printed_list(result)
        if not isinstance(result, (list, tuple, set, frozenset)) or len(result) != len(expected):
            return False
        if self.ordered and not any(isinstance(parts, (set, frozenset)) for parts in (expected, result)):
            return all(self._agree(part, other) for part, other in zip(expected, result, strict=True))
        rest = list(result)
        for part in expected:
            place = next((place for place, other in enumerate(rest) if self._agree(part, other)), None)
            if place is None:
                return False
            del rest[place]
        return True

    def _near(self, expected: Any, result: Any) -> bool:
        if isinstance(result, Opaque):
            result = result.number
        if isinstance(result, complex) and not isinstance(expected, complex):
            if not abs(result.imag) <= self.tolerance:
                return False
            result = result.real
        if isinstance(expected, complex):
            if not isinstance(result, (int, float, complex)) or isinstance(result, bool):
                return False
            try:
                return bool(abs(complex(result) - expected) <= max(self.tolerance, self.relative_tolerance * abs(expected)))
            except OverflowError:
                return False
        if expected == result and not isinstance(result, bool):
            return True
        wanted, given = _exact(expected), _exact(result)
        if wanted is None or given is None:
            return False
        return abs(given - wanted) <= max(Fraction(self.tolerance), Fraction(self.relative_tolerance) * abs(wanted))


def numbers_of(text: str) -> tuple[Fraction, ...]:
    """The numbers that a text as a whole can stand for; a percentage stands for two.

    Example:
        >>> numbers_of("12.5 %"), numbers_of("twelve")
        ((Fraction(1, 8), Fraction(25, 2)), ())
    """
    text = text.strip()
    if len(text) > MAX_DIGITS:
        return ()
    percent = text.endswith("%")
    text = text.rstrip("%").strip(_CURRENCY)
    if not text or not text.isascii() or not _NUMBER.fullmatch(text):
        return ()
    numerator, _, denominator = text.replace(",", "").partition("/")
    try:
        number = Fraction(Decimal(numerator.strip())) / (Fraction(int(denominator)) if denominator else 1)
    except (InvalidOperation, ValueError, ZeroDivisionError):
        return ()
    return (number / 100, number) if percent else (number,)


def printed_result(output: str, expected: Any) -> str:
    """The part of a program's output that is its result: the last line that is not blank.

    All of the output if a text of several lines is expected. If a number is expected and the line is more than a number
    (``The answer is 42.``), its last number.

    Example:
        >>> printed_result("so\\nThe answer is $42.\\n", 42)
        '42'
    """
    if isinstance(expected, str) and "\n" in expected.strip():
        return output
    line = next((line for line in reversed(output.split("\n")) if line.strip()), "").strip()
    is_number = isinstance(expected, (int, float, Fraction, Decimal)) and not isinstance(expected, bool)
    if is_number and not numbers_of(line):
        words = re.findall(r"[+-]?[\d,]*\.?\d+(?:[eE][+-]?\d+)?(?:/\d+)?%?", line[-MAX_LINE:])
        return words[-1] if words else line
    return line


def _exact(value: Any) -> Fraction | None:
    """A number as a fraction; None if it is none, not finite, or too long to be made one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Fraction(value) if value.bit_length() <= 4 * MAX_DIGITS else None
    if isinstance(value, float):
        return Fraction(value) if math.isfinite(value) else None
    if isinstance(value, Fraction):
        return value
    if isinstance(value, Decimal):
        return Fraction(value) if value.is_finite() and abs(value.adjusted()) <= MAX_DIGITS else None
    return None


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _printed_list(text: str) -> Sequence[str] | None:
    text = text.strip()
    if text[:1] + text[-1:] in ("[]", "()", "{}"):
        text = text[1:-1]
    if any(bracket in text for bracket in "[](){}"):
        return None
    parts = [part.strip().strip("'\"") for part in text.split(",")]
    return parts[:-1] if parts and not parts[-1] else parts
