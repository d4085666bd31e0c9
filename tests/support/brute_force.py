"""The Game of 24 by plain recursion, to compare the solver and the verifier with."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import permutations

OPERATORS: dict[str, Callable[[Fraction, Fraction], Fraction | None]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else None,
}


def brute_final_values(numbers: Sequence[int | Fraction]) -> set[int | Fraction]:
    """All last numbers, over ordered pairs and fractions."""
    if len(numbers) == 1:
        return set(numbers)
    values: set[int | Fraction] = set()
    for i, j in permutations(range(len(numbers)), 2):
        rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
        for operate in OPERATORS.values():
            result = operate(Fraction(numbers[i]), Fraction(numbers[j]))
            if result is not None:
                values |= brute_final_values([*rest, result])
    return values
