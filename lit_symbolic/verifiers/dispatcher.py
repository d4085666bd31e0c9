"""What stands between a :class:`~lit_symbolic.verifiers.pool.VerifierPool` and its workers: one thread for each.

Answers are sent to a worker a little ahead and come back one by one in the order sent, so a deadline that passes, or a worker
that dies, belongs to exactly one answer: the first that is not back.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections import deque
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from lit_symbolic.certificate import Certificate, Status
from lit_symbolic.verifiers.worker import Outcome, Reply, Worker, WorkerDied

AHEAD_SECONDS = 0.01
"""Work sent to a busy worker ahead of time, so that cheap answers do not wait for the trainer's interpreter lock."""
AHEAD_ANSWERS = 32
AHEAD_BYTES = 32_768
"""Well below what a pipe holds: sending ahead never blocks."""
START_ATTEMPTS = 5
PING_KEY, PING = "", pickle.dumps(None)
"""A verifier that is none: a worker that has loaded it is up."""


class Verification(Future[Certificate]):
    """The certificate to come. ``began`` and ``ended`` are the worker's times by ``time.monotonic()``, set when it is done."""

    began: float | None = None
    ended: float | None = None


@dataclass
class PoolStatistics:
    """Counts since the pool was made: ``verified`` answers with a certificate of their verifier, the others by their fault."""

    verified: int = 0
    timeouts: int = 0
    crashes: int = 0
    restarts: int = 0
    busy_seconds: float = 0.0


@dataclass(slots=True)
class Job:
    """One answer on its way: its future, and verifier and ``(problem, text)`` as pickles; ``key`` is the verifier's digest."""

    future: Verification
    key: str
    verifier: bytes
    payload: bytes


@dataclass
class Shared:
    """What the dispatchers of one pool share. It must not know the pool, or that would never be collected."""

    deadline_seconds: float
    start_seconds: float
    memory_megabytes: int | None
    statistics: PoolStatistics
    lock: threading.Lock
    queue: SimpleQueue[Job | None] = field(default_factory=SimpleQueue)
    unloadable: dict[str, Certificate] = field(default_factory=dict)


class Dispatchers:
    """The running part of a pool, from its start to its close."""

    def __init__(self, workers: int, shared: Shared) -> None:
        self.pid = os.getpid()
        self.queue = shared.queue
        self._dispatchers = [Dispatcher(shared) for _ in range(workers)]
        for dispatcher in self._dispatchers:
            dispatcher.start()

    def close(self) -> None:
        """Kill all workers, end all threads, cancel what is not verified."""
        for dispatcher in self._dispatchers:
            dispatcher.stop()
        for _ in self._dispatchers:
            self.queue.put(None)
        for dispatcher in self._dispatchers:
            if dispatcher is not threading.current_thread():
                dispatcher.join(timeout=10.0)
        try:
            while True:
                job = self.queue.get_nowait()
                if job is not None:
                    _cancel(job)
        except Empty:
            pass


class _Closed(Exception):
    """The pool was closed while this dispatcher was at work."""


class Dispatcher(threading.Thread):
    """Feeds one worker, replaces it when it is gone, and gives every answer its certificate."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(name="verifier-dispatcher", daemon=True)
        self._shared = shared
        self._worker: Worker | None = None
        self._worker_lock = threading.Lock()
        self._closed = False
        self._waiting: deque[Job] = deque()  # taken from the queue, not with the worker
        self._sent: deque[Job] = deque()  # with the worker; it is busy with the first
        self._head_began = 0.0
        self._mean_seconds = 1.0

    def stop(self) -> None:
        """Kill the worker, which also wakes this thread, and start no other. For another thread to call."""
        with self._worker_lock:
            self._closed = True
            if self._worker is not None:
                self._worker.kill()

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        try:
            while True:
                try:
                    with suppress(OSError):  # if it cannot be started, the next job reports it
                        self._start_worker()
                    self._fill()
                    if self._sent:
                        self._collect()
                except _Closed:
                    return
                except Exception as error:  # no verifier's fault: the caller must hear of it
                    failed = [*self._sent, *self._waiting]
                    self._sent.clear()
                    self._waiting.clear()
                    self._discard_worker()
                    for job in failed:
                        job.future.set_exception(error)
        finally:
            self._discard_worker()
            for job in (*self._sent, *self._waiting):
                _cancel(job)

    def _fill(self) -> None:
        """Send what the worker should have at hand; block while there is nothing to do."""
        limit = min(AHEAD_ANSWERS, 1 + int(AHEAD_SECONDS / max(self._mean_seconds, 1e-6)))
        while len(self._sent) < limit:
            if not self._waiting:
                try:
                    job = self._shared.queue.get(block=not self._sent)
                except Empty:
                    return
                if job is None:
                    raise _Closed
                if not job.future.set_running_or_notify_cancel():
                    continue
                self._waiting.append(job)
            job = self._waiting[0]
            if not self._sent and not self._prepare(job):
                self._waiting.popleft()
                continue
            worker = self._start_worker()
            if self._sent and (not worker.knows(job.key) or sum(len(j.payload) for j in (*self._sent, job)) > AHEAD_BYTES):
                return
            try:
                worker.send(job.key, job.payload)
            except WorkerDied:
                if self._sent:
                    return  # whose fault it was shows when the replies are read
                self._discard_worker()  # it died idle, which is not this answer's fault
                continue
            if not self._sent:
                self._head_began = time.monotonic()
            self._sent.append(self._waiting.popleft())

    def _collect(self) -> None:
        """Wait for the certificate of the first answer that is out, at most until its deadline."""
        assert self._worker is not None
        deadline = self._shared.deadline_seconds
        try:
            reply = self._worker.receive(self._head_began + deadline - time.monotonic())
        except (TimeoutError, WorkerDied) as error:
            self._discard_worker()
            if self._closed:
                raise _Closed from None
            job = self._sent.popleft()
            self._waiting.extendleft(reversed(self._sent))  # not begun yet: they go to the next worker
            self._sent.clear()
            if isinstance(error, WorkerDied):
                fault = Certificate.without_evidence(Status.CRASHED, f"the verifier's process died: {error}")
            else:
                fault = Certificate.without_evidence(Status.TIMEOUT, f"stopped after {deadline:g} s")
            self._settle(job, fault, self._head_began, time.monotonic())
            return
        job = self._sent.popleft()
        self._head_began = time.monotonic()
        self._mean_seconds = (self._mean_seconds + reply.ended - reply.began) / 2
        if reply.outcome is Outcome.OUT_OF_MEMORY:  # perhaps by what earlier answers left behind
            self._waiting.extendleft(reversed(self._sent))
            self._sent.clear()
            self._discard_worker()
        self._settle(job, reply.certificate or _fault(reply), reply.began, reply.ended)

    def _prepare(self, job: Job) -> bool:
        """Have a worker that is up and has the job's verifier; else settle the job without evidence and return False.

        Raises:
            RuntimeError: If no worker starts.
        """
        unloadable, seconds, ending = self._shared.unloadable, self._shared.start_seconds, ""
        for _ in range(START_ATTEMPTS):
            if job.key in unloadable:
                break
            worker, up = self._start_worker(), False
            try:
                if not worker.knows(PING_KEY):
                    worker.load(PING_KEY, PING, seconds)
                up = True
                if worker.knows(job.key):
                    return True
                reply = worker.load(job.key, job.verifier, seconds)
            except (TimeoutError, WorkerDied) as error:
                self._discard_worker()
                ending = str(error) or f"it was not ready after {seconds:g} s"
                if isinstance(error, TimeoutError):
                    if not up:
                        break
                    unloadable[job.key] = Certificate.without_evidence(Status.TIMEOUT, f"not loaded after {seconds:g} s")
            else:
                if reply.outcome is Outcome.DONE:
                    return True
                unloadable[job.key] = _fault(reply)
        if job.key not in unloadable:
            if not up:
                raise RuntimeError(f"no verifier worker could be started: {ending}")
            died = f"the process died each time it loaded the verifier: {ending}"
            unloadable[job.key] = Certificate.without_evidence(Status.CRASHED, died)
        now = time.monotonic()
        self._settle(job, unloadable[job.key], now, now)
        return False

    def _start_worker(self) -> Worker:
        with self._worker_lock:
            if self._closed:
                raise _Closed
            if self._worker is None:
                self._worker = Worker(self._shared.memory_megabytes)
            return self._worker

    def _discard_worker(self) -> None:
        with self._worker_lock:
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.close()
                if not self._closed:
                    with self._shared.lock:
                        self._shared.statistics.restarts += 1

    def _settle(self, job: Job, certificate: Certificate, began: float, ended: float) -> None:
        with self._shared.lock:
            statistics = self._shared.statistics
            statistics.verified += certificate.is_evidence
            statistics.timeouts += certificate.status is Status.TIMEOUT
            statistics.crashes += certificate.status is Status.CRASHED
            statistics.busy_seconds += ended - began
        job.future.began, job.future.ended = began, ended
        job.future.set_result(certificate)


def _fault(reply: Reply) -> Certificate:
    return Certificate.without_evidence(Status.CRASHED, reply.trace or "the worker ran out of memory")


def _cancel(job: Job) -> None:
    if not job.future.cancel() and not job.future.done():
        job.future.set_exception(CancelledError("the verifier pool was closed"))
