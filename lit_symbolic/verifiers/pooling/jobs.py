"""The books of a pool: which answers are out, who waits for each, how many there are, and what became of them.

Everything here happens under one lock and never waits under it; results are handed over outside it, since callbacks of a
future may be anyone's code.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, replace

from lit_symbolic.certificate import Certificate, Status
from lit_symbolic.verifiers.pooling.cache import CertificateCache


class Verification(Future[Certificate]):
    """The certificate to come. ``began`` and ``ended`` are the worker's times by ``time.monotonic()``, set when it is done.

    They stay ``None`` where no worker was busy for it: taken from the cache, or equal to an answer that was being verified.
    """

    began: float | None = None
    ended: float | None = None
    job: Job | None = None


@dataclass
class PoolStatistics:
    """Counts since the pool was made. Every answer is counted once: ``verified``, ``timeouts`` or ``crashes``.

    Args:
        verified: Answers with a certificate of their verifier.
        timeouts: Those stopped at their deadline or at their batch's.
        crashes: Those whose verifier raised, died or could not be loaded.
        hits: Answers whose certificate was in the cache.
        duplicates: Answers that waited for an equal one that was being verified.
        restarts: Workers that were replaced.
        busy_seconds: Sum of the workers' time.
    """

    verified: int = 0
    timeouts: int = 0
    crashes: int = 0
    hits: int = 0
    duplicates: int = 0
    restarts: int = 0
    busy_seconds: float = 0.0


class Job:
    """One verification to do, and all who wait for it.

    Args:
        key: The verifier's digest.
        verifier: The verifier, pickled.
        problem: The problem, pickled.
        text: The answer.
        digest: Its key in the cache; ``None`` where it has none.
    """

    __slots__ = ("abandoned", "begun", "digest", "futures", "key", "losses", "problem", "text", "verifier")

    def __init__(self, key: str, verifier: bytes, problem: bytes, text: str, digest: bytes | None = None) -> None:
        self.key = key
        self.verifier = verifier
        self.problem = problem
        self.text = text
        self.digest = digest
        self.futures: list[Verification] = []
        self.begun = False
        self.abandoned = False
        """Nobody waits for it any more."""
        self.losses = 0
        """How often the machine that verified it was lost."""

    @property
    def size(self) -> int:
        """Bytes that it takes in a message, or a few more."""
        return len(self.problem) + (1 if self.text.isascii() else 4) * len(self.text)


class Ledger:
    """Keeps count of the answers that are out and tells those who wait for them.

    Args:
        max_outstanding: Answers that may be out at a time; those who bring more wait in :meth:`admit`.
        cache: Where certificates are kept; ``None`` for nowhere, and then equal answers are not recognised either.
    """

    def __init__(self, max_outstanding: int, cache: CertificateCache | None) -> None:
        self.max_outstanding = max_outstanding
        self.cache = cache
        self.lock = threading.Lock()
        self.outstanding = 0
        self._room = threading.Condition(self.lock)
        self._statistics = PoolStatistics()
        self._in_flight: dict[bytes, Job] = {}

    @property
    def statistics(self) -> PoolStatistics:
        """A copy."""
        with self.lock:
            return replace(self._statistics)

    def recall(self, digest: bytes) -> Verification | None:
        """The certificate of an equal answer, if it is in the cache."""
        certificate = None if self.cache is None else self.cache.get(digest)
        if certificate is None:
            return None
        with self.lock:
            self._statistics.hits += 1
            self._statistics.verified += 1
        known = Verification()
        known.set_result(certificate)
        return known

    def admit(
        self, job: Job, start: Callable[[Job], None], closed: Callable[[], bool], seconds: float | None, bounded: bool
    ) -> Verification:
        """Enter an answer: have an equal one's certificate when that is there, or else start it, once there is room.

        Args:
            job: The answer.
            start: Puts it into the queue.
            closed: Whether the pool was closed since the caller came.
            seconds: Time to wait for room. ``None`` is for ever, 0 turns the answer away.
            bounded: Whether to wait for room at all. Not for who makes the room.

        Raises:
            TimeoutError: If there was no room in time.
            CancelledError: If the pool was closed meanwhile.
        """
        verification = Verification()
        end = None if seconds is None else time.monotonic() + seconds
        with self.lock:
            if seconds is not None and seconds <= 0:
                raise TimeoutError
            while bounded and self.outstanding >= self.max_outstanding and not closed():
                if not self._room.wait(None if end is None else max(0.0, end - time.monotonic())):
                    raise TimeoutError
            if closed():
                raise CancelledError("the verifier pool was closed")
            same = None if job.digest is None else self._in_flight.get(job.digest)
            if same is None:
                start(job)
                if job.digest is not None:
                    self._in_flight[job.digest] = job
            else:
                job = same
                self._statistics.duplicates += 1
                if job.begun:
                    verification.set_running_or_notify_cancel()
            verification.job = job
            job.futures.append(verification)
            self.outstanding += 1
        return verification

    def turn_away(self, certificate: Certificate) -> Verification:
        """An answer that was not entered: it has this certificate without evidence."""
        with self.lock:
            self._count(certificate, 1)
        verification = Verification()
        verification.set_result(certificate)
        return verification

    def begin(self, job: Job) -> bool:
        """A worker is about to take it: from now on it cannot be cancelled. False if nobody waits for it any more."""
        with self.lock:
            if not job.begun:
                job.begun = True
                waiting = [future for future in job.futures if future.set_running_or_notify_cancel()]
                self._leave(len(job.futures) - len(waiting))
                job.futures = waiting
            if not job.futures:
                self._forget(job)
            return bool(job.futures)

    def settle(self, job: Job, certificate: Certificate, pickled: bytes | None, began: float, ended: float) -> None:
        """Hand a certificate to all who wait for it."""
        if self.cache is not None and job.digest is not None:
            self.cache.put(job.digest, certificate, pickled)
        with self.lock:
            futures = self._close(job)
            self._count(certificate, len(futures))
            self._statistics.busy_seconds += ended - began
        for i, future in enumerate(futures):
            if i == 0:
                future.began, future.ended = began, ended
            future.job = None
            future.set_result(certificate)

    def fail(self, job: Job, error: BaseException) -> None:
        """Tell all who wait that it cannot be verified, for no fault of the verifier."""
        with self.lock:
            futures = self._close(job)
        for future in futures:
            with suppress(InvalidStateError):  # cancelled
                future.set_exception(error)

    def cancel(self, job: Job) -> None:
        """Tell all who wait that the pool was closed."""
        with self.lock:
            futures = self._close(job)
        for future in futures:
            if not future.cancel():
                future.set_exception(CancelledError("the verifier pool was closed"))

    def expire(self, verifications: Iterable[Verification], certificate: Certificate) -> None:
        """Give those that are not done this certificate without evidence, and abandon what nobody else waits for."""
        expired = []
        with self.lock:
            for verification in verifications:
                job = verification.job
                if job is None or verification not in job.futures:
                    continue
                job.futures.remove(verification)
                expired.append(verification)
                if not job.futures:
                    self._forget(job)
            self._count(certificate, sum(not verification.cancelled() for verification in expired))
            self._leave(len(expired))
        for verification in expired:
            with suppress(InvalidStateError):  # cancelled
                verification.set_result(certificate)

    def replaced_workers(self, count: int) -> None:
        """Count workers that were replaced."""
        with self.lock:
            self._statistics.restarts += count

    def wake(self) -> None:
        """Have those who wait for room look whether the pool was closed."""
        with self.lock:
            self._room.notify_all()

    # Below: only under the lock.

    def _close(self, job: Job) -> list[Verification]:
        futures, job.futures = job.futures, []
        self._forget(job)
        self._leave(len(futures))
        return futures

    def _forget(self, job: Job) -> None:
        job.abandoned = True
        if job.digest is not None and self._in_flight.get(job.digest) is job:
            del self._in_flight[job.digest]

    def _leave(self, count: int) -> None:
        self.outstanding -= count
        # Not for each place that gets free: who waits would wake, bring one answer, and wait again.
        if self.outstanding <= self.max_outstanding * 3 // 4:
            self._room.notify_all()

    def _count(self, certificate: Certificate, answers: int) -> None:
        self._statistics.verified += answers * certificate.is_evidence
        self._statistics.timeouts += answers * (certificate.status is Status.TIMEOUT)
        self._statistics.crashes += answers * (certificate.status is Status.CRASHED)
