"""What the pool costs beside its verifiers: the trainer's processor time per answer, and what its deadlines and restarts take.

Everything is measured in one process, the variants in turn, since the machine's speed changes under other programs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.verifiers.game24 import Game24Verifier
from lit_symbolic.verifiers.pool import VerifierPool
from lit_symbolic.verifiers.pooling.cache import digest_of, verifier_digest
from verifier_tables import Faults, Gold, Speed

VERIFIER = Game24Verifier()
SAMPLES = 8


@dataclass(frozen=True)
class Hangs:
    """Certifies an empty answer at once, and any other never."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Sleep for an hour."""
        if text:
            time.sleep(3600)
        return Certificate(True, 1.0)


def answers(count: int, first: int) -> list[tuple[Problem, str]]:
    """Answers of three lines, all different, eight to a problem, as a batch of training has them."""
    facts = {"cards": (4, 4, 6, 8), "target": 24}
    problems = [Problem("game24", f"24:{first}-{i}", "Make 24 of 4 4 6 8.\n" * 3, facts) for i in range(count // SAMPLES + 1)]
    text = "4 + 8 = 12 (left: 4 6 12)\n6 - 4 = 2 (left: 2 12)\n2 * {} = 24 (left: 24)"
    return [(problems[i // SAMPLES], text.format(first + i)) for i in range(count)]


def cost(pool: VerifierPool, items: list[tuple[Problem, str]]) -> float:
    """Microseconds of this process per answer, its threads included, the workers not."""
    began = time.process_time()
    pool.verify(VERIFIER, items)
    return (time.process_time() - began) / len(items) * 1e6


def speed(quick: bool) -> list[Speed]:
    """The trainer's time per answer without a cache, with it, with a folder, and for answers that are known; then the limits."""
    count, rounds = (500, 3) if quick else (4000, 9)
    figures: dict[str, list[float]] = {name: [] for name in ("no cache", "cache in memory", "cache on disk", "known")}
    with (
        tempfile.TemporaryDirectory() as folder,
        VerifierPool(cache_megabytes=0) as without,
        VerifierPool() as memory,
        VerifierPool(cache_directory=folder) as disk,
    ):
        pools = {"no cache": without, "cache in memory": memory, "cache on disk": disk}
        for pool in pools.values():
            pool.verify(VERIFIER, answers(50, -1000))
        for number in range(rounds):
            items = answers(count, number * count)
            for name, pool in pools.items():
                figures[name].append(cost(pool, items))
            figures["known"].append(cost(memory, items))
    rows = [row(f"trainer's processor time per answer, {name}, µs", values) for name, values in figures.items()]
    paired = [b - a for a, b in zip(figures["no cache"], figures["cache in memory"], strict=True)]
    rows.append(row("of that for the cache in memory (paired), µs", paired))
    problem, _ = answers(1, 0)[0]
    rows.append(row("canonical digest of a problem, once per problem, µs", each(lambda: digest_of(problem), rounds)))
    rows.append(row("canonical digest of a verifier, once, µs", each(lambda: verifier_digest(VERIFIER), rounds)))
    rows.append(row("a worker that hangs, past its deadline of 0.5 s until the next answer is certified, s", overruns(rounds)))
    return rows


def overruns(rounds: int) -> list[float]:
    """Wall time of one that hangs and one that does not, in one worker, less the deadline."""
    found = []
    problem = Problem("hang", "0", "")
    with VerifierPool(workers=1, deadline_seconds=0.5, cache_megabytes=0) as pool:
        pool.verify(Hangs(), [(problem, "")])
        for _ in range(rounds):
            began = time.monotonic()
            pool.verify(Hangs(), [(problem, "x"), (problem, "")])
            found.append(time.monotonic() - began - 0.5)
    return found


def each(action: Callable[[], object], rounds: int, times: int = 2000) -> list[float]:
    """Microseconds of processor time of one call, in each round."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(times):
            action()
        found.append((time.process_time() - began) / times * 1e6)
    return found


def row(what: str, values: list[float], target: str = "") -> Speed:
    """Median and spread."""
    return Speed(what, statistics.median(values), min(values), max(values), target)


def gold(quick: bool) -> list[Gold]:
    """None: the pool certifies nothing itself."""
    return []


def faults(quick: bool) -> list[Faults]:
    """None: the pool finds nothing itself."""
    return []
