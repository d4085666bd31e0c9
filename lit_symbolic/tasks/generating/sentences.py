"""Lines and expressions of drawn programs, in C++ and in words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from lit_symbolic.tasks.listing import Line

NAMES = ("a", "b", "c", "d", "k", "m", "n", "p", "q", "s", "t", "x", "y", "z", "ans", "cnt", "res", "sum")

LARGEST_INPUT = 30
MOST_TURNS = 100
LARGEST_VALUE = 1_000_000

SAID = {
    "+": ("{0} + {1}", "{0} plus {1}", "the sum of {0} and {1}"),
    "-": ("{0} - {1}", "{0} minus {1}"),
    "*": ("{0} * {1}", "{0} times {1}", "the product of {0} and {1}"),
    "/": ("{0} / {1}", "{0} divided by {1}"),
    "%": ("{0} % {1}", "{0} mod {1}", "the remainder of {0} divided by {1}"),
    "max": ("the larger of {0} and {1}", "max of {0} and {1}"),
    "min": ("the smaller of {0} and {1}", "min of {0} and {1}"),
    "<": ("{0} < {1}", "{0} is less than {1}"),
    ">": ("{0} > {1}", "{0} is greater than {1}"),
    "<=": ("{0} <= {1}", "{0} is at most {1}"),
    ">=": ("{0} >= {1}", "{0} is at least {1}"),
    "==": ("{0} = {1}", "{0} is equal to {1}", "{0} equals {1}"),
    "!=": ("{0} != {1}", "{0} is not equal to {1}"),
}


@dataclass(frozen=True, slots=True)
class Expression:
    """Code, its words, and the largest size of its value."""

    code: str
    text: str
    bound: int


class Sentences:
    """Writes lines that are sound where they stand, and remembers how large each variable can be.

    Args:
        rng: Source of randomness.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines: list[Line] = []
        self.depth = 0
        self.bounds: dict[str, int] = {}
        """What can be read here, each with the largest size of its value."""
        self.changed: list[str] = []
        """Variables in the order of their last change: what is worth printing."""
        self.turning = ""
        """What differs in each turn of the loop that is open."""
        self.names = rng.sample(NAMES, len(NAMES))

    def declare(self, names: Sequence[str]) -> None:
        """Variables without values, to be read."""
        one = ("create integer {v}", "declare integer {v}", "let {v} be an integer")
        more = ("create integers {v}", "declare integers {v}", "let {v} be integers")
        self.line(f"int {', '.join(names)};", one if len(names) == 1 else more, v=", ".join(names))

    def read(self, names: Sequence[str]) -> None:
        """They are read."""
        self.line(f"cin >> {' >> '.join(names)};", ("read {v}", "input {v}"), v=self.rng.choice((", ", " and ")).join(names))

    def print(self, names: Sequence[str]) -> None:
        """They are printed, on one line."""
        code = ' << " " << '.join(names)
        said = (
            ("print {v}", "output {v}")
            if len(names) == 1
            else ("print {v} separated by a space", "output {v} with a space between")
        )
        self.line(f"cout << {code} << endl;", said, v=" and ".join(names))

    def line(self, code: str, said: Sequence[str] = (), **parts: object) -> None:
        """A line, said in one of several ways with these parts; without any it goes unsaid."""
        self.lines.append(Line(code, self.rng.choice(said).format(**parts) if said else "", self.depth))

    def note(self, name: str, bound: int) -> None:
        """A variable has changed."""
        self.bounds[name] = bound
        self.changed = [*(other for other in self.changed if other != name), name]

    # ---------------------------------------------------------------- expressions

    def one_of(self, names: Sequence[str]) -> str:
        """One of these; empty if there is none."""
        return self.rng.choice(names) if names else ""

    def number(self, number: int) -> Expression:
        """A constant."""
        return Expression(str(number), str(number), abs(number))

    def operand(self, besides: str, constants: float) -> Expression:
        """A constant or a variable."""
        names = [name for name in self.bounds if name != besides]
        if not names or self.rng.random() < constants:
            return self.number(self.rng.randint(1, LARGEST_INPUT))
        name = self.turning if self.turning and self.rng.random() < 0.6 else self.rng.choice(names)
        return Expression(name, name, self.bounds[name])

    def computed(self, besides: str = "", constants: float = 0.1) -> Expression:
        """A variable, or two operands with an operator; never one whose value could be too large."""
        while True:
            one, kind = self.operand(besides, constants), self.rng.choice(("", "", "+", "-", "*", "/", "%", "max", "min"))
            if not kind:
                return one
            other = self.operand(besides, constants=0.6)
            if kind in "/%":
                other = self.number(self.rng.randint(2, 10))
            bound = one.bound * other.bound if kind == "*" else one.bound + other.bound
            if MOST_TURNS * bound <= LARGEST_VALUE and one.code != other.code:
                code = f"{kind}({one.code}, {other.code})" if kind in ("max", "min") else f"{one.code} {kind} {other.code}"
                return Expression(code, self.rng.choice(SAID[kind]).format(one.text, other.text), bound)

    def condition(self) -> Expression:
        """Something true or false."""
        one = self.operand("", constants=0.0)
        if self.rng.random() < 0.3:
            base = self.rng.randint(2, 5)
            said = {2: "{0} is even"}.get(base, "{0} is divisible by {1}")
            return Expression(f"{one.code} % {base} == 0", said.format(one.text, base), 1)
        other = self.operand(one.code, constants=0.6)
        kind = self.rng.choice(("<", ">", "<=", ">=", "==", "!="))
        return Expression(f"{one.code} {kind} {other.code}", self.rng.choice(SAID[kind]).format(one.text, other.text), 1)
