"""Verifies answers in worker processes: in parallel, each under a deadline, no fault of a tool reaching the trainer.

Workers are loky processes: started by fork and exec, they do not import the trainer's ``__main__``, so torch stays out of
them. Below this file stand :mod:`~lit_symbolic.verifiers.dispatcher` (deadlines, replacing workers) and
:mod:`~lit_symbolic.verifiers.worker` (the process itself).
"""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from multiprocessing import util
from types import TracebackType
from typing import Any

from loky.backend.reduction import dumps

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.verifiers.dispatcher import Dispatchers, Job, PoolStatistics, Shared, Verification
from lit_symbolic.verifiers.worker import MAX_LOADED_VERIFIERS

__all__ = ["PendingVerifications", "PoolStatistics", "Verification", "VerificationResult", "VerifierPool"]


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


class PendingVerifications:
    """Answers that are verified while others are still being written; made by :meth:`VerifierPool.batch`."""

    def __init__(self, pool: VerifierPool) -> None:
        self._pool = pool
        self._pending: dict[int, Verification] = {}

    def add(self, index: int, verifier: Verifier, problem: Problem, text: str) -> None:
        """Start to verify the answer of row ``index``.

        Raises:
            ValueError: If the row was added before.
        """
        if index in self._pending:
            raise ValueError(f"row {index} was added to this batch before; give every answer its own index")
        self._pending[index] = self._pool.submit(verifier, problem, text)

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
        certificates = [verification.result() for verification in pending]
        waited = time.monotonic() - called
        intervals = [(v.began, v.ended) for v in pending if v.began is not None and v.ended is not None]
        return VerificationResult(
            certificates,
            seconds_waited=waited,
            seconds_busy=sum(ended - began for began, ended in intervals),
            seconds_hidden=_union_seconds((began, min(ended, called)) for began, ended in intervals),
        )


class VerifierPool:
    """Worker processes that verify answers.

    Nothing is started before the first :meth:`submit`, and a closed pool starts again by itself. A copy or a pickle of a pool
    holds its settings only. A worker is the leader of its own session, ignores Ctrl-C, runs one thread, and dies with the
    trainer. A worker's end, its own or by the deadline, is the end of its verifier's child processes too. Two are not covered:
    a child in a session of its own whose worker died by itself, and the children of a worker whose trainer was killed (SIGKILL).

    Args:
        workers: Number of worker processes.
        deadline_seconds: Time for one answer, counted from when a worker begins with it.
        start_seconds: Time for a worker to start, and for it to import and unpickle a verifier. Not part of the deadline.
        memory_megabytes: Address space of a worker, handed on to its children (who may raise it); ``None`` is no limit.

    Raises:
        ValueError: If an argument is not positive.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Even:
        ...     def verify(self, problem: Problem, text: str) -> Certificate:
        ...         return Certificate(True, 1.0) if int(text) % 2 == 0 else Certificate(False, 0.0)
        >>> problem = Problem("parity", "0", "Say an even number: ")
        >>> with VerifierPool(workers=1) as pool:
        ...     certificates = pool.verify(Even(), [(problem, "4"), (problem, "7"), (problem, "four")])
        >>> [(str(certificate.status), certificate.correct) for certificate in certificates]
        [('ok', True), ('ok', False), ('crashed', False)]
    """

    def __init__(
        self,
        workers: int = 2,
        deadline_seconds: float = 5.0,
        start_seconds: float = 60.0,
        memory_megabytes: int | None = 4096,
    ) -> None:
        if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
            raise ValueError(f"workers is the number of worker processes, at least 1; got {workers!r}")
        for name, seconds in (("deadline_seconds", deadline_seconds), ("start_seconds", start_seconds)):
            if not 0 < seconds < threading.TIMEOUT_MAX:
                raise ValueError(f"{name} is a positive, finite number of seconds; got {seconds!r}")
        if memory_megabytes is not None and memory_megabytes < 1:
            raise ValueError(f"memory_megabytes is a positive number, or None for no limit; got {memory_megabytes!r}")
        self.workers = workers
        self.deadline_seconds = deadline_seconds
        self.start_seconds = start_seconds
        self.memory_megabytes = memory_megabytes
        self._statistics = PoolStatistics()
        self._pickles: OrderedDict[int, tuple[Verifier, str, bytes]] = OrderedDict()
        self._lock = threading.Lock()
        self._live: Dispatchers | None = None
        self._finalizer: util.Finalize | None = None

    def submit(self, verifier: Verifier, problem: Problem, text: str) -> Verification:
        """Queue one answer and return at once.

        Args:
            verifier: Pickled when it is first seen; what changes in it later is not seen.
            problem: The question.
            text: The answer.

        Returns:
            A future whose result is a certificate, whatever the verifier does: :attr:`Status.TIMEOUT` after its deadline,
            :attr:`Status.CRASHED`, with the end of the traceback as evidence, if it raised, died, or could not be loaded.

        Raises:
            TypeError: If the verifier or the problem cannot be pickled.
        """
        with self._lock:
            key, pickled = self._pickle(verifier)
            try:
                payload = pickle.dumps((problem, text), protocol=pickle.HIGHEST_PROTOCOL)
            except Exception as error:
                raise TypeError(
                    f"problem {problem.id!r} cannot be sent to a worker, its facts must be plain values: {error}"
                ) from error
            if self._live is None or self._live.pid != os.getpid():
                self._start()
            assert self._live is not None
            job = Job(Verification(), key, pickled, payload)
            self._live.queue.put(job)
            return job.future

    def verify(self, verifier: Verifier, items: Iterable[tuple[Problem, str]]) -> list[Certificate]:
        """Certify all answers, in their order, and block until it is done."""
        pending = [self.submit(verifier, problem, text) for problem, text in items]
        return [verification.result() for verification in pending]

    def batch(self) -> PendingVerifications:
        """Collect the answers of one iteration as they are finished."""
        return PendingVerifications(self)

    @property
    def statistics(self) -> PoolStatistics:
        """What happened so far, as a copy."""
        with self._lock:
            return replace(self._statistics)

    def close(self) -> None:
        """Kill the workers and their children; answers not yet verified are cancelled. May be called any number of times."""
        with self._lock:
            finalizer, self._live, self._finalizer = self._finalizer, None, None
        if finalizer is not None:
            finalizer()

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("workers", "deadline_seconds", "start_seconds", "memory_megabytes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _start(self) -> None:
        settings = {name: getattr(self, name) for name in ("deadline_seconds", "start_seconds", "memory_megabytes")}
        self._live = Dispatchers(self.workers, Shared(**settings, statistics=self._statistics, lock=self._lock))
        # Runs also when the pool is collected as garbage, and at exit before multiprocessing would join the workers for ever.
        self._finalizer = util.Finalize(self, self._live.close, exitpriority=100)

    def _pickle(self, verifier: Verifier) -> tuple[str, bytes]:
        known = self._pickles.get(id(verifier))
        if known is None:
            try:
                pickled = bytes(dumps(verifier))
            except Exception as error:
                raise TypeError(
                    f"verifier {type(verifier).__name__} cannot be sent to a worker, make it picklable: {error}"
                ) from error
            # The verifier is kept with its id, or the id could come to mean another one.
            known = self._pickles[id(verifier)] = verifier, hashlib.sha256(pickled).hexdigest(), pickled
            if len(self._pickles) > MAX_LOADED_VERIFIERS:
                self._pickles.popitem(last=False)
        return known[1], known[2]


def _union_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals; those with an end before their start are empty."""
    total, reached = 0.0, float("-inf")
    for began, ended in sorted(intervals):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total
