"""Verifies answers in worker processes: in parallel, each under a deadline, no fault of a tool reaching the trainer.

:class:`VerifierPool` has its workers on this machine; :class:`~lit_symbolic.verifiers.ray_pool.RayVerifierPool` has them on the
nodes of a Ray cluster. Both are an :class:`AnswerPool`. Under this file stand, in ``pooling/``,
:mod:`~lit_symbolic.verifiers.pooling.batches` (answers of one iteration), :mod:`~lit_symbolic.verifiers.pooling.jobs` (who waits
for what), :mod:`~lit_symbolic.verifiers.pooling.cache`, :mod:`~lit_symbolic.verifiers.pooling.dispatcher` (deadlines, replacing
workers) and :mod:`~lit_symbolic.verifiers.pooling.worker` (the process itself).
"""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from multiprocessing import util
from types import TracebackType
from typing import Any, Self

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.verifiers.pooling.batches import UNLIMITED, Patience, PendingVerifications, VerificationResult
from lit_symbolic.verifiers.pooling.cache import CertificateCache, Uncacheable, answer_digest, digest_of, verifier_digest
from lit_symbolic.verifiers.pooling.dispatcher import Dispatcher, Dispatchers, Shared
from lit_symbolic.verifiers.pooling.jobs import Job, Ledger, PoolStatistics, Verification
from lit_symbolic.verifiers.pooling.worker import MAX_LOADED_VERIFIERS, Worker, WorkerHandle
from lit_symbolic.verifiers.pooling.workspace import Workspace

__all__ = ["AnswerPool", "PendingVerifications", "PoolStatistics", "Verification", "VerificationResult", "VerifierPool"]

MAX_KNOWN_PROBLEMS = 4096


class AnswerPool(ABC):
    """Workers that verify answers, wherever they run.

    Nothing is started before the first :meth:`submit`, and a closed pool starts again by itself. A copy or a pickle of a pool
    holds its settings only. Equal answers to one question are verified once, as long as the certificate is in the cache or the
    first of them is being verified; see :mod:`~lit_symbolic.verifiers.pooling.cache`.
    """

    _grace_seconds = 0.0
    """Beyond the deadline, for workers that keep it themselves."""
    _max_losses = 0
    """How often an answer is verified anew after its worker was lost with its machine."""

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        s = settings
        workers, memory_megabytes = s["workers"], s["memory_megabytes"]
        if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
            raise ValueError(f"workers is the number of worker processes, at least 1; got {workers!r}")
        for name in ("deadline_seconds", "start_seconds", "batch_deadline_seconds"):
            if not (s[name] is None and name.startswith("batch")) and not 0 < s[name] < threading.TIMEOUT_MAX:
                raise ValueError(f"{name} is a positive, finite number of seconds; got {s[name]!r}")
        if memory_megabytes is not None and memory_megabytes < 1:
            raise ValueError(f"memory_megabytes is a positive number, or None for no limit; got {memory_megabytes!r}")
        if s["max_outstanding"] < 1:
            raise ValueError(
                f"max_outstanding is the number of answers that may be out, at least 1; got {s['max_outstanding']!r}"
            )
        if s["cache_megabytes"] < 0 or s["cache_disk_megabytes"] <= 0:
            sizes = f"{s['cache_megabytes']!r} and {s['cache_disk_megabytes']!r}"
            raise ValueError(f"cache_megabytes is 0 (no cache) or more, cache_disk_megabytes is positive; got {sizes}")
        if s["cache_directory"] is not None and not s["cache_megabytes"]:
            raise ValueError("a cache_directory without a cache: cache_megabytes is 0; give it some, or no directory")
        self.workers: int = workers
        self.deadline_seconds: float = s["deadline_seconds"]
        self.batch_deadline_seconds: float | None = s["batch_deadline_seconds"]
        self.start_seconds: float = s["start_seconds"]
        self.memory_megabytes: int | None = memory_megabytes
        self.cache: CertificateCache | None = None
        if s["cache_megabytes"]:
            self.cache = CertificateCache(s["cache_megabytes"], s["cache_directory"], s["cache_disk_megabytes"])
        self._verifiers: OrderedDict[int, tuple[Verifier, str, bytes, bytes | None]] = OrderedDict()
        self._problems: OrderedDict[bytes, bytes | None] = OrderedDict()
        self._lock = threading.RLock()
        self._ledger = Ledger(s["max_outstanding"], self.cache)
        self._live: Dispatchers | None = None
        self._finalizer: util.Finalize | None = None

    def submit(self, verifier: Verifier, problem: Problem, text: str) -> Verification:
        """Queue one answer and return; at once, unless ``max_outstanding`` answers are out, then when fewer are.

        Args:
            verifier: Pickled when it is first seen; what changes in it later is not seen.
            problem: The question.
            text: The answer.

        Returns:
            A future whose result is a certificate, whatever the verifier does: :attr:`Status.TIMEOUT` after its deadline,
            :attr:`Status.CRASHED`, with the end of the traceback as evidence, if it raised, died, or could not be loaded.

        Raises:
            TypeError: If the verifier or the problem cannot be pickled.
            CancelledError: If the pool was closed while this stood.
        """
        return self._submit(verifier, problem, text, UNLIMITED)

    def verify(self, verifier: Verifier, items: Iterable[tuple[Problem, str]]) -> list[Certificate]:
        """Certify all answers, in their order, and block until it is done. They are a batch, with its deadline.

        Items are drawn as there is room for them: any number may be given by a generator.
        """
        patience = Patience(self.batch_deadline_seconds)
        pending: deque[Verification] = deque()
        certificates: list[Certificate] = []
        for problem, text in items:
            pending.append(self._submit(verifier, problem, text, patience))
            while pending and (pending[0].done() or len(pending) > 2 * self._ledger.max_outstanding):
                certificates += self._results([pending.popleft()], patience)
        return certificates + self._results(list(pending), patience)

    def batch(self, deadline_seconds: float | None = None) -> PendingVerifications:
        """Collect the answers of one iteration as they are finished.

        Args:
            deadline_seconds: Its deadline; ``None`` takes the pool's ``batch_deadline_seconds``.
        """
        return PendingVerifications(self, Patience(deadline_seconds or self.batch_deadline_seconds))

    @property
    def statistics(self) -> PoolStatistics:
        """What happened so far, as a copy."""
        return self._ledger.statistics

    def close(self) -> None:
        """Kill the workers and their children; answers not yet verified are cancelled. May be called any number of times."""
        with self._lock:
            finalizer, self._finalizer = self._finalizer, None
            with self._ledger.lock:
                self._live = None
        if finalizer is not None:
            finalizer()
        if self.cache is not None:
            self.cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._settings)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @abstractmethod
    def _open(self) -> tuple[Callable[[], WorkerHandle], Callable[[], None]]:
        """Get ready for workers: what makes one, and what is to be done when all are gone. Neither may know the pool."""

    def _submit(self, verifier: Verifier, problem: Problem, text: str, patience: Patience) -> Verification:
        try:
            pickled = pickle.dumps(problem, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise TypeError(
                f"problem {problem.id!r} cannot be sent to a worker, its facts must be plain values: {error}"
            ) from error
        with self._lock:
            _, key, pickled_verifier, of_verifier = self._known_verifier(verifier)
            of_problem = None if of_verifier is None else self._problem_digest(problem, pickled)
        digest = None
        if of_verifier is not None and of_problem is not None:
            digest = answer_digest(of_verifier, of_problem, text)
            known = self._ledger.recall(digest)
            if known is not None:
                return known
        return self._enqueue(Job(key, pickled_verifier, pickled, text, digest), patience)

    def _enqueue(self, job: Job, patience: Patience = UNLIMITED) -> Verification:
        with self._lock:
            live = self._start()
        # A callback of a future runs in the thread that makes the room: it must not wait for it.
        bounded = not isinstance(threading.current_thread(), Dispatcher)
        try:
            with patience:
                return self._ledger.admit(job, live.queue.put, lambda: self._live is not live, patience.left, bounded)
        except TimeoutError:
            return self._ledger.turn_away(patience.over())

    def _results(self, pending: list[Verification], patience: Patience) -> list[Certificate]:
        """The certificates, when all are there or the patience is over."""
        end = None if patience.left is None else time.monotonic() + patience.left
        try:
            with patience:
                return [v.result(None if end is None else max(0.0, end - time.monotonic())) for v in pending]
        except TimeoutError:
            self._ledger.expire(pending, patience.over())
            live = self._live
            if live is not None:
                live.evict()
            return [v.result() for v in pending]

    def _start(self) -> Dispatchers:
        if self._live is not None and self._live.pid != os.getpid():  # a fork has neither its threads nor its workers
            self._live = self._finalizer = None
            self._ledger = Ledger(self._ledger.max_outstanding, self.cache)
        if self._live is None:
            new_worker, on_closed = self._open()
            limits = self.deadline_seconds, self._grace_seconds, self.start_seconds
            shared = Shared(*limits, new_worker, self._max_losses, self._ledger)
            self._live = Dispatchers(self.workers, shared, on_closed)
            # Runs also when the pool is collected as garbage, and at exit before multiprocessing would join the workers for ever.
            self._finalizer = util.Finalize(self, self._live.close, exitpriority=100)
        return self._live

    def _known_verifier(self, verifier: Verifier) -> tuple[Verifier, str, bytes, bytes | None]:
        known = self._verifiers.get(id(verifier))
        if known is None:
            from loky.backend.reduction import dumps  # here, so that a run without worker processes does not need loky

            try:
                pickled = bytes(dumps(verifier))
            except Exception as error:
                raise TypeError(
                    f"verifier {type(verifier).__name__} cannot be sent to a worker, make it picklable: {error}"
                ) from error
            digest = None
            if self.cache is not None:
                try:
                    digest = verifier_digest(verifier)
                except Uncacheable:
                    digest = None
            # The verifier is kept with its id, or the id could come to mean another one.
            known = self._verifiers[id(verifier)] = verifier, hashlib.sha256(pickled).hexdigest(), pickled, digest
            if len(self._verifiers) > MAX_LOADED_VERIFIERS:
                self._verifiers.popitem(last=False)
        return known

    def _problem_digest(self, problem: Problem, pickled: bytes) -> bytes | None:
        """The canonical digest, found again by the pickle: one problem has many answers, and equal pickles mean equal problems."""
        fast = hashlib.blake2b(pickled, digest_size=32).digest()
        if fast not in self._problems:
            try:
                self._problems[fast] = digest_of(problem)
            except Uncacheable:
                self._problems[fast] = None
            if len(self._problems) > MAX_KNOWN_PROBLEMS:
                self._problems.popitem(last=False)
        return self._problems[fast]


class VerifierPool(AnswerPool):
    """Worker processes of this machine that verify answers.

    They are loky processes: started by fork and exec, they do not import the trainer's ``__main__``, so torch stays out of
    them. A worker is the leader of its own session, ignores Ctrl-C, runs one thread, and dies with the trainer. Its temporary
    files go into a folder of its own (``TMPDIR``), which is removed with it. A worker's end, its own or by the deadline, is the
    end of its verifier's child processes too. Two are not covered: a child in a session of its own whose worker died by itself,
    and the children of a worker whose trainer was killed (SIGKILL).

    Args:
        workers: Number of worker processes.
        deadline_seconds: Time for one answer, counted from when a worker begins with it.
        start_seconds: Time for a worker to start, and for it to import and unpickle a verifier. Not part of the deadline.
        memory_megabytes: Address space of a worker, handed on to its children (who may raise it); ``None`` is no limit.
        batch_deadline_seconds: Time for which a batch may make its caller stand; answers not verified by then have no evidence,
            and workers busy with them are replaced. ``None`` is no limit.
        max_outstanding: Answers that may be queued and in work; :meth:`submit` waits while there are more.
        cache_megabytes: Certificates kept in memory; 0 is no cache, and equal answers are then verified each.
        cache_directory: Folder in which certificates are kept on disk as well; ``None`` is none.
        cache_disk_megabytes: Bound of that folder.

    Raises:
        ValueError: If an argument is out of its range.
        ImportError: If ``cache_directory`` is given and ``diskcache`` is not installed.

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
        batch_deadline_seconds: float | None = None,
        max_outstanding: int = 10_000,
        cache_megabytes: float = 64.0,
        cache_directory: str | None = None,
        cache_disk_megabytes: float = 1024.0,
    ) -> None:
        super().__init__(
            workers=workers,
            deadline_seconds=deadline_seconds,
            start_seconds=start_seconds,
            memory_megabytes=memory_megabytes,
            batch_deadline_seconds=batch_deadline_seconds,
            max_outstanding=max_outstanding,
            cache_megabytes=cache_megabytes,
            cache_directory=cache_directory,
            cache_disk_megabytes=cache_disk_megabytes,
        )

    def _open(self) -> tuple[Callable[[], WorkerHandle], Callable[[], None]]:
        workspace, memory_megabytes = Workspace(), self.memory_megabytes
        return lambda: Worker(memory_megabytes, workspace.path), workspace.close
