"""Small C++ programs with pseudo-code for every line, drawn from a grammar; all of them end, and no number overflows.

A program reads a few integers, computes, and prints. Every statement can be said in several ways. Numbers stay small by
construction: a variable carries a bound, and what a loop gathers is not read in what it adds.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lit_symbolic.tasks.generating.sentences import (
    LARGEST_INPUT,
    LARGEST_VALUE,
    MOST_TURNS,
    NAMES,
    Expression,
    Sentences,
)
from lit_symbolic.tasks.listing import Line

ARRAYS = ("v", "w", "arr")
WORDS = ("YES", "NO", "big", "small", "win", "lose")

MOST_NUMBERS = 6
"""So many are read by a loop at most."""

_WORD = re.compile(r"\"[^\"]*\"|[A-Za-z_]\w*")
_NUMBER = re.compile(r"\b\d+\b")
_BY_ONE = re.compile(r" \+= 1;")
_VARIABLES = frozenset((*NAMES, "i", *ARRAYS))


@dataclass(frozen=True, slots=True)
class Read:
    """A part of a program's input.

    Args:
        ranges: Smallest and largest value of each number.
        times: Index of the earlier part whose number says how often this one comes; None is once.
    """

    ranges: tuple[tuple[int, int], ...]
    times: int | None = None


@dataclass(frozen=True, slots=True)
class DrawnProgram:
    """A program of the grammar.

    Args:
        lines: From ``int main() {`` to its last brace.
        reads: What it reads, in order.
    """

    lines: tuple[Line, ...]
    reads: tuple[Read, ...]

    @property
    def key(self) -> str:
        """Normal form: the code, its variables renamed in the order in which they come; constants stay."""
        return normal_form(line.code for line in self.lines)

    def input(self, rng: random.Random) -> str:
        """An input of the form that the program reads; every third number is one that the program speaks of, or stands beside one."""
        spoken_of = [int(word) for line in self.lines for word in _NUMBER.findall(line.code)]
        words: list[int] = []
        last: list[int] = []
        for read in self.reads:
            for _ in range(1 if read.times is None else last[read.times]):
                words += [_number(low, high, spoken_of, rng) for low, high in read.ranges]
            last.append(words[-1])
        return " ".join(map(str, words)) + "\n"


def _number(low: int, high: int, spoken_of: Sequence[int], rng: random.Random) -> int:
    if spoken_of and rng.random() < 1 / 3:
        return min(max(rng.choice(spoken_of) + rng.randint(-1, 1), low), high)
    return rng.randint(low, high)


def normal_form(code: Iterable[str]) -> str:
    """Lines of code with the grammar's variables renamed in the order in which they come; what is said alike is one.

    Example:
        >>> normal_form(["int b, a;", "a = b + 7;", 'cout << "a";'])
        'int v0, v1;\\nv1 = v0 + 7;\\ncout << "a";'
        >>> normal_form(["n += 1;"]) == normal_form(["k++;"])
        True
    """
    names: dict[str, str] = {}
    return _WORD.sub(
        lambda match: names.setdefault(match[0], f"v{len(names)}") if match[0] in _VARIABLES else match[0],
        _BY_ONE.sub("++;", "\n".join(code)),
    )


def draw_program(rng: random.Random, blocks: tuple[int, int] = (1, 1)) -> DrawnProgram:
    """Draw a program.

    Args:
        rng: Source of randomness.
        blocks: Fewest and most statements, whole loops and branches among them, between what it reads and what it prints.

    Example:
        >>> for line in draw_program(random.Random(6), blocks=(1, 1)).lines:
        ...     print(f"{line.indent} {line.code:20} {line.text}".rstrip())
        0 int main() {
        1 int k, b;            let k, b be integers
        1 cin >> k >> b;       read k and b
        1 int x = b * 4;       declare integer x = b * 4
        1 cout << x << endl;   output x
        1 return 0;
        0 }
    """
    draft = _Draft(rng)
    draft.begin()
    for _ in range(rng.randint(*blocks)):
        draft.block()
    draft.end()
    return DrawnProgram(tuple(draft.lines), tuple(draft.reads))


class _Draft(Sentences):
    """A program that is being written."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.reads: list[Read] = []
        self.kept: set[str] = set()
        """What is not to be changed: a loop goes by it."""
        self.count = ""
        """The variable that says how many numbers a loop reads; it is the first that is read."""
        self.array = ""
        """An array of so many numbers, once it is read."""

    def begin(self) -> None:
        """The head, and one to three numbers read."""
        self.line("int main() {")
        self.depth = 1
        names = [self.names.pop() for _ in range(self.rng.choice((1, 2, 2, 3)))]
        self.declare(names)
        self.read(names)
        if self.rng.random() < 0.5:
            self.count = names[0]
            self.kept.add(self.count)
        for name in names:
            self.bounds[name] = MOST_NUMBERS if name == self.count else LARGEST_INPUT
            self.reads.append(Read(((1, self.bounds[name]),)))

    def end(self) -> None:
        """What was computed is printed."""
        if self.changed:
            self.print(self.changed[-2:] if self.rng.random() < 0.3 else self.changed[-1:])
        self.line("return 0;")
        self.depth = 0
        self.line("}")

    def block(self) -> None:
        """One statement, which may be a loop or a branch."""
        loops = (self.reading_loop, self.reading_loop) if self.count else (self.loop,)
        self.rng.choice((self.assignment, self.change, self.branch, self.branch, self.loop, *loops))()

    # ---------------------------------------------------------------- statements

    def assignment(self) -> None:
        """A new variable for something computed."""
        self.new(self.computed(constants=0.0))

    def new(self, value: Expression) -> str:
        """A new variable with this value."""
        name = self.names.pop()
        said = ("create integer {v} with value {e}", "let {v} be {e}", "declare integer {v} = {e}")
        self.line(f"int {name} = {value.code};", said, v=name, e=value.text)
        self.note(name, value.bound)
        return name

    def change(self, name: str = "", turns: int = 1) -> None:
        """A variable is changed: any that may be, or this one in each of so many turns."""
        given = name or self.one_of([name for name in self.bounds if name not in self.kept])
        if not given:
            return self.assignment()
        value, before = self.computed(besides=given), self.bounds[given]
        kinds = [
            (f"{given} += {value.code};", ("add {e} to {v}", "increase {v} by {e}"), before + turns * value.bound),
            (f"{given} -= {value.code};", ("subtract {e} from {v}", "decrease {v} by {e}"), before + turns * value.bound),
            (f"{given}++;", ("increment {v}", "increase {v} by 1"), before + turns),
            (f"{given} = {value.code};", ("set {v} to {e}", "assign {e} to {v}"), value.bound),
        ]
        plain = value.code.isidentifier() or value.code.isdigit()
        for which, words in (("max", "larger"), ("min", "smaller")) if plain else ():
            said = (f"set {{v}} to the {words} of {{v}} and {{e}}", f"{{v}} = {which} of {{v}} and {{e}}")
            kinds.append((f"{given} = {which}({given}, {value.code});", said, max(before, value.bound)))
        if turns == 1:
            factor = self.rng.randint(2, 9)
            kinds.append(
                (f"{given} *= {factor};", (f"multiply {{v}} by {factor}", f"set {{v}} to {{v}} * {factor}"), before * factor)
            )
        code, said, bound = self.rng.choice([kind for kind in kinds if kind[2] <= LARGEST_VALUE])
        self.line(code, said, v=given, e=value.text)
        self.note(given, max(before, bound))
        return None

    def branch(self, name: str = "", turns: int = 1) -> None:
        """Something is done under a condition, and perhaps something else otherwise; arguments as for :meth:`change`."""
        words = self.rng.sample(WORDS, 2) if not name and self.rng.random() < 0.4 else []
        free = [name] if name else [name for name in self.bounds if name not in self.kept]
        if not words and not free:
            free = [self.new(self.number(0))]
        condition = self.condition()
        self.line(f"if ({condition.code}) {{", ("if {c}",), c=condition.text)
        for part in range(2 if words or self.rng.random() < 0.6 else 1):
            if part:
                self.line("} else {", ("else", "otherwise"))
            self.depth += 1
            if words:
                self.print([f'"{words[part]}"'])
            else:
                self.change(self.rng.choice(free), turns)
            self.depth -= 1
        self.line("}")

    def loop(self) -> None:
        """Something is gathered over the numbers up to a variable, or over its digits."""
        limit = self.one_of([name for name, bound in self.bounds.items() if bound <= MOST_TURNS]) or self.new(self.number(9))
        total = self.new(self.number(0))
        if limit not in self.kept and self.rng.random() < 0.35:
            self.digits(limit, total)
            return
        turns = self.bounds[limit]
        below = self.rng.random() < 0.5
        with self.counting(limit, below):
            self.turning, self.bounds["i"] = "i", turns
            self.gather(total, turns)

    def digits(self, number: str, total: str) -> None:
        """A number is divided until nothing is left of it."""
        base = self.rng.choice((2, 3, 10, 10))
        self.line(f"while ({number} > 0) {{", ("while {v} is greater than 0", "while {v} > 0"), v=number)
        self.depth += 1
        if self.rng.random() < 0.5:
            self.line(
                f"{total} += {number} % {base};",
                ("add {v} mod {k} to {s}", "increase {s} by {v} % {k}"),
                v=number,
                k=base,
                s=total,
            )
        else:
            self.line(f"{total}++;", ("increment {s}", "increase {s} by 1"), s=total)
        self.line(f"{number} /= {base};", ("divide {v} by {k}", "set {v} to {v} / {k}"), v=number, k=base)
        self.depth -= 1
        self.line("}")
        self.note(total, MOST_TURNS)

    def reading_loop(self) -> None:
        """Something is gathered over numbers that are read one by one, or that stand in an array."""
        if not self.array and self.rng.random() < 0.5:
            self.array = self.rng.choice(ARRAYS)
            said = ("create integer array {v} of size {k}", "let {v} be an array of {k} integers")
            self.line(f"int {self.array}[{MOST_NUMBERS}];", said, v=self.array, k=MOST_NUMBERS)
            with self.counting(self.count, below=True):
                self.read([f"{self.array}[i]"])
            self.reads.append(Read(((-LARGEST_INPUT // 3, LARGEST_INPUT),), times=0))
        total = self.new(self.number(0))
        if self.array:
            with self.counting(self.count, below=True):
                self.turning = f"{self.array}[i]"
                self.bounds[self.turning] = LARGEST_INPUT
                self.gather(total, MOST_NUMBERS)
            return
        with self.counting(self.count, below=True):
            self.turning = name = self.names.pop()
            self.declare([name])
            self.read([name])
            self.reads.append(Read(((-LARGEST_INPUT // 3, LARGEST_INPUT),), times=0))
            self.bounds[name] = LARGEST_INPUT
            self.gather(total, MOST_NUMBERS)

    def gather(self, total: str, turns: int) -> None:
        """What a loop does in each turn."""
        (self.branch if self.rng.random() < 0.4 else self.change)(total, turns)

    @contextmanager
    def counting(self, limit: str, below: bool) -> Iterator[None]:
        """A loop over ``i``, from 0 to below a variable, or from 1 up to it; what is declared in it is forgotten behind it."""
        if below:
            said = ("for i from 0 to {v} exclusive", "for i = 0 to {v} - 1")
            self.line(f"for (int i = 0; i < {limit}; i++) {{", said, v=limit)
        else:
            said = ("for i from 1 to {v} inclusive", "for i = 1 to {v}")
            self.line(f"for (int i = 1; i <= {limit}; i++) {{", said, v=limit)
        self.depth += 1
        outside, kept = list(self.bounds), set(self.kept)
        self.kept |= {limit}
        yield
        self.bounds = {name: self.bounds[name] for name in outside}
        self.kept, self.turning = kept, ""
        self.depth -= 1
        self.line("}")
