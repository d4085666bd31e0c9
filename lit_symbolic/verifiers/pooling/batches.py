"""Answers that belong together: added as they are written, waited for once, under one deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lit_symbolic.certificate import Certificate, Problem, Status
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.verifiers.pooling.jobs import Verification

if TYPE_CHECKING:
    from lit_symbolic.verifiers.pool import AnswerPool


@dataclass(frozen=True)
class VerificationResult:
    """One batch, certified.

    Args:
        certificates: In the order of their index.
        seconds_waited: How long ``wait()`` stood.
        seconds_busy: Sum of the workers' time over the answers.
        seconds_hidden: Wall time before ``wait()`` was called in which at least one answer was being verified, that is, the
            length of the union of all intervals [began, ended], cut at the call. Starting a worker is not verifying.
    """

    certificates: list[Certificate]
    seconds_waited: float
    seconds_busy: float
    seconds_hidden: float


class Patience:
    """For how long a batch may make its caller stand; runs down while it is entered.

    Args:
        seconds: ``None`` is for ever.
    """

    def __init__(self, seconds: float | None) -> None:
        if seconds is not None and not 0 < seconds < threading.TIMEOUT_MAX:
            raise ValueError(f"a batch's deadline is a positive, finite number of seconds, or None; got {seconds!r}")
        self.granted = seconds
        self.left = seconds
        self._entered = 0.0

    def __enter__(self) -> None:
        self._entered = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self.left is not None:
            self.left = max(0.0, self.left - (time.monotonic() - self._entered))

    def over(self) -> Certificate:
        """What is said of an answer that was not verified in time."""
        return Certificate.without_evidence(Status.TIMEOUT, f"not verified when the batch's {self.granted:g} s were over")


UNLIMITED = Patience(None)


class PendingVerifications:
    """Answers that are verified while others are still being written; made by :meth:`AnswerPool.batch`.

    The batch's deadline is on the time for which it makes its caller stand: in :meth:`wait`, and in :meth:`add` where too many
    answers are out already. What is not verified by then has a certificate without evidence.
    """

    def __init__(self, pool: AnswerPool, patience: Patience) -> None:
        self._pool = pool
        self._patience = patience
        self._pending: dict[int, Verification] = {}

    def add(self, index: int, verifier: Verifier, problem: Problem, text: str) -> None:
        """Start to verify the answer of row ``index``.

        Raises:
            ValueError: If the row was added before.
        """
        if index in self._pending:
            raise ValueError(f"row {index} was added to this batch before; give every answer its own index")
        self._pending[index] = self._pool._submit(verifier, problem, text, self._patience)

    def __len__(self) -> int:
        return len(self._pending)

    def wait(self) -> VerificationResult:
        """Block until every answer has its certificate.

        Raises:
            CancelledError: If the pool was closed meanwhile.
            RuntimeError: If a worker process could not be started.
        """
        called = time.monotonic()
        pending = [self._pending[index] for index in sorted(self._pending)]
        certificates = self._pool._results(pending, self._patience)
        waited = time.monotonic() - called
        intervals = [(v.began, v.ended) for v in pending if v.began is not None and v.ended is not None]
        return VerificationResult(
            certificates,
            seconds_waited=waited,
            seconds_busy=sum(ended - began for began, ended in intervals),
            seconds_hidden=_union_seconds((began, min(ended, called)) for began, ended in intervals),
        )


def _union_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals; those with an end before their start are empty."""
    total, reached = 0.0, float("-inf")
    for began, ended in sorted(intervals):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total
