"""Exact solver of the Game of 24 and its kin: any count of cards (up to about six), any rational target.

A position is the multiset of numbers still on the table. A step takes two of them and puts back their sum,
difference, product or quotient; the game is won if the last number is the target. The search is exhaustive over
rationals, so its "no" is a proof.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import combinations, combinations_with_replacement
from math import comb, prod
from typing import NamedTuple

from lit_symbolic.verifiers.calculating.arithmetic import OPERATORS, Number, apply, whole

_CACHED_POSITIONS = 1 << 17  # about 30 MB when full


class Step(NamedTuple):
    """``a operator b = result``, the order of the operands as written."""

    a: Number
    operator: str
    b: Number
    result: Number


def solvable(numbers: Iterable[Number], target: Number) -> bool:
    """Whether the target can be made of all the numbers, each used once.

    Example:
        >>> solvable((3, 3, 8, 8), 24), solvable((1, 1, 1, 1), 24)
        (True, False)
    """
    return _solvable(tuple(sorted(numbers)), whole(target))


def legal_steps(numbers: Sequence[Number]) -> tuple[Step, ...]:
    """Every step that can be taken, ordered pairs of numbers apart, equal numbers not.

    Example:
        >>> [str(s.result) for s in legal_steps((3, 8))]
        ['11', '-5', '24', '3/8', '11', '5', '24', '8/3']
    """
    return _legal_steps(tuple(sorted(numbers)))


def winning_steps(numbers: Sequence[Number], target: Number) -> tuple[Step, ...]:
    """The legal steps after which the target can still be reached, ordered pairs apart.

    Example:
        >>> [(s.a, s.operator, s.b) for s in winning_steps((2, 12), 24)]
        [(2, '*', 12), (12, '*', 2)]
    """
    return _winning_steps(tuple(sorted(numbers)), whole(target))


def begins_winning_step(numbers: Sequence[Number], target: Number, a: Number, operator: str | None = None) -> bool:
    """Whether some winning step is written ``a operator …`` (``a …`` without an operator); stops at the first.

    Example:
        >>> begins_winning_step((2, 12), 24, 2), begins_winning_step((2, 12), 24, 2, "+")
        (True, False)
    """
    target = whole(target)
    return any(
        step.a == a and (operator is None or step.operator == operator) and _solvable(play(numbers, step), target)
        for step in legal_steps(numbers)
    )


def play(numbers: Sequence[Number], step: Step) -> tuple[Number, ...]:
    """The numbers after a step, ascending.

    Raises:
        ValueError: If an operand is not among the numbers.

    Example:
        >>> play((4, 4, 6, 8), Step(4, "+", 8, 12))
        (4, 6, 12)
    """
    left = list(numbers)
    left.remove(step.a)
    left.remove(step.b)
    left.append(step.result)
    return tuple(sorted(left))


def plainest(steps: Sequence[Step], max_value: int | None = None) -> Sequence[Step]:
    """Those of the steps whose results are easiest to write: natural numbers up to ``max_value``, else no negative
    numbers, else all.

    Example:
        >>> [str(s.result) for s in plainest(legal_steps((3, 8)), max_value=20)]
        ['11', '11', '5']
    """
    ranks = [_plainness(step, max_value) for step in steps]
    best = min(ranks, default=0)
    return [step for step, rank in zip(steps, ranks, strict=True) if rank == best]


def solve(numbers: Sequence[Number], target: Number) -> list[Step]:
    """One solution, the same for the same arguments; plain numbers where there is a choice.

    Raises:
        ValueError: If there is none.

    Example:
        >>> [f"{s.a} {s.operator} {s.b} = {s.result}" for s in solve((3, 3, 8, 8), 24)]
        ['8 / 3 = 8/3', '3 - 8/3 = 1/3', '8 / 1/3 = 24']
    """
    if not solvable(numbers, target):
        raise ValueError(f"{target} cannot be made of {' '.join(map(str, numbers))}")
    solution: list[Step] = []
    while len(numbers) > 1:
        for step in sorted(legal_steps(numbers), key=_plainness):
            left = play(numbers, step)
            if solvable(left, target):
                solution.append(step)
                numbers = left
                break
    return solution


def final_values(numbers: Iterable[Number]) -> frozenset[Number]:
    """Every number that can be the last one: the set that a proof of "out of reach" exhausts.

    Example:
        >>> sorted(final_values((2, 12))) == [-10, whole(apply("/", 1, 6)), 6, 10, 14, 24]
        True
    """
    return _final_values(tuple(sorted(numbers)))


def states_exhausted(numbers: Sequence[Number]) -> int:
    """How many end states a proof of "out of reach" rules out: one for every way to play on, undefined ones included.

    With k numbers on the table there are k(k-1)/2 pairs and six results of each (a-b and b-a, a/b and b/a are two).

    Example:
        >>> states_exhausted((2, 12)), states_exhausted((1, 2, 12)), states_exhausted((1, 1, 2, 12))
        (6, 108, 3888)
    """
    return prod(6 * comb(count, 2) for count in range(2, len(numbers) + 1))


def all_card_sets(count: int = 4, max_card: int = 13) -> list[tuple[int, ...]]:
    """Every multiset of ``count`` cards from 1 to ``max_card``, ascending.

    Example:
        >>> len(all_card_sets())
        1820
    """
    return list(combinations_with_replacement(range(1, max_card + 1), count))


def _plainness(step: Step, max_value: int | None = None) -> int:
    if step.result < 0:
        return 2
    return int(type(step.result) is not int or (max_value is not None and step.result > max_value))


@lru_cache(_CACHED_POSITIONS)
def _results(a: Number, b: Number) -> frozenset[Number]:
    """Everything that one step makes of two numbers, either order."""
    values = (a + b, a - b, b - a, a * b, apply("/", a, b), apply("/", b, a))
    return frozenset(whole(value) for value in values if value is not None)


@lru_cache(_CACHED_POSITIONS)
def _partners(number: Number, target: Number) -> frozenset[Number] | None:
    """Every x that one step with ``number`` turns into the target; None if any x does (zero times x is zero)."""
    if not number and not target:
        return None
    values: list[Number | None] = [target - number, number - target, target + number]
    if number:
        values += [apply("/", target, number), target * number, apply("/", number, target)]
    return frozenset(whole(value) for value in values if value is not None)


@lru_cache(_CACHED_POSITIONS)
def _solvable(numbers: tuple[Number, ...], target: Number) -> bool:
    if len(numbers) == 1:
        return numbers[0] == target
    if len(numbers) == 2:
        return target in _results(*numbers)
    if len(numbers) == 3:  # one step forwards meets one step backwards
        a, b, c = numbers
        for x, y, last in ((a, b, c), (a, c, b), (b, c, a)):
            partners = _partners(last, target)
            if partners is None or not partners.isdisjoint(_results(x, y)):
                return True
        return False
    return any(_solvable(tuple(sorted((*rest, result))), target) for x, y, rest in _pairs(numbers) for result in _results(x, y))


def _pairs(numbers: tuple[Number, ...]) -> Iterable[tuple[Number, Number, tuple[Number, ...]]]:
    """Every pair of places with what is left beside it, equal pairs once."""
    seen = set()
    for i, j in combinations(range(len(numbers)), 2):
        pair = numbers[i], numbers[j]
        if pair not in seen:
            seen.add(pair)
            yield (*pair, numbers[:i] + numbers[i + 1 : j] + numbers[j + 1 :])


@lru_cache(1 << 14)
def _legal_steps(numbers: tuple[Number, ...]) -> tuple[Step, ...]:
    steps = []
    for x, y, _ in _pairs(numbers):
        for a, b in [(x, y)] if x == y else [(x, y), (y, x)]:
            for operator in OPERATORS:
                result = apply(operator, a, b)
                if result is not None:
                    steps.append(Step(a, operator, b, result))
    return tuple(steps)


@lru_cache(1 << 14)
def _winning_steps(numbers: tuple[Number, ...], target: Number) -> tuple[Step, ...]:
    return tuple(step for step in _legal_steps(numbers) if _solvable(play(numbers, step), target))


@lru_cache(1 << 14)
def _final_values(numbers: tuple[Number, ...]) -> frozenset[Number]:
    if len(numbers) == 1:
        return frozenset(numbers)
    if len(numbers) == 2:
        return _results(*numbers)
    values: set[Number] = set()
    for x, y, rest in _pairs(numbers):
        for result in _results(x, y):
            values |= _final_values(tuple(sorted((*rest, result)))) if len(rest) > 1 else _results(rest[0], result)
    return frozenset(values)
