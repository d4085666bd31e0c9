"""Which prompts are sampled together: prompts of like length, as many as rows and cache allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """What one turn may hold; a single prompt with its samples is always allowed.

    Args:
        rows: Answers.
        cache_tokens: Tokens of the key-value cache, padding and room for the answers included; None is no limit.
        padding: Columns of padding of any prompt.
    """

    rows: int
    cache_tokens: int | None = None
    padding: int = 128


def plan_turns(lengths: Sequence[int], samples: int, max_new_tokens: int, limits: TurnLimits) -> list[list[int]]:
    """Put prompts together in turns, the longest first: what needs the most memory is seen to fit at once.

    Args:
        lengths: Tokens of each prompt.
        samples: Answers per prompt.
        max_new_tokens: Longest answer in tokens.
        limits: Bounds of a turn.

    Returns:
        Indices of the prompts of each turn; within a turn they keep their order.

    Example:
        >>> plan_turns([5, 300, 6, 290], samples=2, max_new_tokens=10, limits=TurnLimits(rows=256))
        [[1, 3], [0, 2]]
    """
    turns: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        rows = (len(turns[-1]) + 1) * samples if turns else 0
        fits = (
            rows
            and rows <= limits.rows
            and longest - lengths[index] <= limits.padding
            and (limits.cache_tokens is None or rows * (longest + max_new_tokens) <= limits.cache_tokens)
        )
        if fits:
            turns[-1].append(index)
        else:
            turns.append([index])
            longest = lengths[index]
    return [sorted(turn) for turn in turns]


def parts_of(turn: Sequence[int], samples: int, threads: int, least_rows: int) -> list[list[int]]:
    """Split a turn's prompts into parts of about as many rows, at most one a thread.

    Args:
        turn: Indices of prompts.
        samples: Answers per prompt.
        threads: Parts at most.
        least_rows: Rows that a part has at least, unless it is the only one.

    Returns:
        The parts, in order.

    Example:
        >>> parts_of([0, 1, 2, 3, 4], samples=8, threads=2, least_rows=16)
        [[0, 1, 2], [3, 4]]
        >>> parts_of([0, 1, 2, 3, 4], samples=8, threads=2, least_rows=32)
        [[0, 1, 2, 3, 4]]
    """
    least = -(-least_rows // samples)
    count = max(1, min(threads, len(turn) // least))
    size, more = divmod(len(turn), count)
    starts = [k * size + min(k, more) for k in range(count + 1)]
    return [list(turn[a:b]) for a, b in pairwise(starts)]
