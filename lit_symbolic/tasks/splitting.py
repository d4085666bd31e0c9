"""Splits of problems that a generator makes without end: by a hash of their normal form, so that no problem is in two."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from lit_symbolic.tasks.base import Split

T = TypeVar("T")

HELD_OUT_SHARES: dict[Split, float] = {"validation": 0.05, "test": 0.1}
MAX_DRAWS_EACH = 1_000


def split_of(key: str, seed: int = 0) -> Split:
    """The split of a problem, always the same for the same normal form.

    Args:
        key: Its normal form: two problems with one key are the same to a person.
        seed: Of the cut.

    Example:
        >>> split_of("1 + 1"), split_of("1 + 1")
        ('train', 'train')
    """
    digest = hashlib.blake2b(f"{seed}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    at, end = int.from_bytes(digest, "big") / 2**64, 0.0
    for split, share in HELD_OUT_SHARES.items():
        end += share
        if at < end:
            return split
    return "train"


@dataclass(frozen=True)
class ProblemGenerator(Generic[T]):
    """Problems without end, each in one split by a hash of its normal form.

    Args:
        draw: Draws a problem.
        key_of: Its normal form.
        seed: Of the cut, and of the draws of a split.

    Example:
        >>> from itertools import islice
        >>> numbers = ProblemGenerator(lambda rng: rng.randrange(1000), str)
        >>> list(islice(numbers.split("test"), 3))
        [32, 527, 903]
    """

    draw: Callable[[random.Random], T]
    key_of: Callable[[T], str]
    seed: int = 0

    def split(self, split: Split) -> Iterator[T]:
        """Different problems of one split, in an order fixed by the seed, without end.

        Raises:
            ValueError: If the generator repeats itself: it has (nearly) no other problem of this split.
        """
        rng = random.Random(f"{self.seed}/{split}")
        seen: set[str] = set()
        misses = 0
        while True:
            found = self.draw(rng)
            key = self.key_of(found)
            if key in seen or split_of(key, self.seed) != split:
                misses += 1
                if misses > MAX_DRAWS_EACH:
                    raise ValueError(f"the generator has (nearly) no {split} problem beside {len(seen)}; widen its settings")
                continue
            misses = 0
            seen.add(key)
            yield found

    def one(self, rng: random.Random) -> T:
        """One training problem.

        Raises:
            ValueError: If the generator gives held-out problems alone.
        """
        for _ in range(MAX_DRAWS_EACH):
            found = self.draw(rng)
            if split_of(self.key_of(found), self.seed) == "train":
                return found
        raise ValueError(f"no training problem in {MAX_DRAWS_EACH} draws of the generator")
