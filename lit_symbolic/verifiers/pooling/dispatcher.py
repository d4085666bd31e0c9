"""What stands between a :class:`~lit_symbolic.verifiers.pool.VerifierPool` and its workers: one thread for each.

Answers are sent to a worker a little ahead and come back one by one in the order sent, so a deadline that passes, or a worker
that dies, belongs to exactly one answer: the first that is not back.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from queue import Empty, SimpleQueue

from lit_symbolic.certificate import Certificate, Status
from lit_symbolic.verifiers.pooling.jobs import Job, Ledger
from lit_symbolic.verifiers.pooling.worker import Outcome, Reply, WorkerDied, WorkerHandle

AHEAD_SECONDS = 0.01
"""Work sent to a busy worker ahead of time, so that cheap answers do not wait for the trainer's interpreter lock."""
AHEAD_ANSWERS = 32
AHEAD_BYTES = 32_768
"""Well below what a pipe holds: sending ahead never blocks."""
LEND_SECONDS = 0.1
"""Time after which those that were sent ahead behind a slow answer are offered to the other workers too."""
LOOK_SECONDS = 0.5
"""Pause between looks for another worker, where none is up yet."""
ABANDONED_SECONDS = 0.1
"""Time for an answer that a worker was sent before all who waited for it gave up."""
START_ATTEMPTS = 5
START_PAUSE_SECONDS = 0.05
LOAD_ATTEMPTS = 5
RETRY_SECONDS = 5.0
"""Pause after a worker could not be started while others are up."""
PING_KEY, PING = "", pickle.dumps(None)
"""A verifier that is none: a worker that has loaded it is up."""


@dataclass
class Shared:
    """What the dispatchers of one pool share. It must not know the pool, or that would never be collected."""

    deadline_seconds: float
    grace_seconds: float
    """Beyond the deadline, for workers that keep it themselves."""
    start_seconds: float
    new_worker: Callable[[], WorkerHandle]
    max_losses: int
    ledger: Ledger
    queue: SimpleQueue[Job | None] = field(default_factory=SimpleQueue)
    unloadable: dict[str, Certificate] = field(default_factory=dict)
    up: set[Dispatcher] = field(default_factory=set)
    """Those whose worker is up."""


class Dispatchers:
    """The running part of a pool, from its start to its close."""

    def __init__(self, workers: int, shared: Shared, on_closed: Callable[[], None]) -> None:
        self.pid = os.getpid()
        self.queue = shared.queue
        self._ledger = shared.ledger
        self._on_closed = on_closed
        self._dispatchers = [Dispatcher(shared) for _ in range(workers)]
        for dispatcher in self._dispatchers:
            dispatcher.start()

    def evict(self) -> None:
        """Kill the workers that are busy with an answer for which nobody waits any more."""
        for dispatcher in self._dispatchers:
            dispatcher.evict()

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
                    self._ledger.cancel(job)
        except Empty:
            pass
        self._ledger.wake()
        self._on_closed()


class _Closed(Exception):
    """The pool was closed while this dispatcher was at work."""


class _NoWorker(Exception):
    """The worker is gone; begin again with another."""


class Dispatcher(threading.Thread):
    """Feeds one worker, replaces it when it is gone, and gives every answer its certificate."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(name="verifier-dispatcher", daemon=True)
        self._shared = shared
        self._ledger = shared.ledger
        self._worker: WorkerHandle | None = None
        self._worker_lock = threading.Lock()
        self._closed = threading.Event()
        self._evicted = False  # the worker was killed for an answer that nobody waits for any more
        self._waiting: deque[Job] = deque()  # taken from the queue, not with the worker
        self._sent: deque[Job] = deque()  # with the worker; it is busy with the first
        self._head_began = 0.0
        self._lent = False  # those behind the first were put back into the queue
        self._mean_seconds = 1.0
        self._load_deaths: Counter[str] = Counter()

    def stop(self) -> None:
        """Kill the worker, which also wakes this thread, and start no other. For another thread to call."""
        with self._worker_lock:
            self._closed.set()
            if self._worker is not None:
                self._worker.kill()

    def evict(self) -> None:
        """Kill the worker if the answer that it is busy with was abandoned. For another thread to call."""
        with self._worker_lock, suppress(IndexError):
            if self._sent[0].abandoned and self._worker is not None:
                # Should it just have gone on to another answer, that one is not to blame: see _collect.
                self._evicted = True
                self._worker.kill()

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        try:
            while True:
                try:
                    self._await_worker()
                    self._fill()
                    if self._sent:
                        self._collect()
                except _NoWorker:
                    continue
                except _Closed:
                    return
                except Exception as error:  # no verifier's fault: the caller must hear of it
                    failed = [*self._sent, *self._waiting]
                    self._sent.clear()
                    self._waiting.clear()
                    self._discard_worker()
                    for job in failed:
                        self._ledger.fail(job, error)
        finally:
            self._discard_worker()
            for job in (*self._sent, *self._waiting):
                self._ledger.cancel(job)
            if self._ledger.cache is not None:
                self._ledger.cache.close()

    def _await_worker(self) -> None:
        """Have a worker that is up. Without one no answer is held here that another worker could verify meanwhile.

        Raises:
            RuntimeError: If none can be started, here or elsewhere, and there is an answer to verify.
        """
        while self._worker is None or not self._worker.knows(PING_KEY):
            while self._waiting:
                self._shared.queue.put(self._waiting.popleft())
            ending, attempts, end = "", 0, time.monotonic() + self._shared.start_seconds
            while attempts < START_ATTEMPTS and time.monotonic() < end:
                try:
                    self._start_worker().load(PING_KEY, PING, end - time.monotonic())
                    self._shared.up.add(self)
                    return
                except (TimeoutError, WorkerDied, OSError) as error:
                    self._discard_worker()
                    ending = str(error) or f"it was not ready after {self._shared.start_seconds:g} s"
                    # Killed by someone else is not unable to start.
                    attempts += not (isinstance(error, WorkerDied) and error.killed)
                    self._closed.wait(START_PAUSE_SECONDS)
            if self._shared.up:
                self._closed.wait(RETRY_SECONDS)
                continue
            job = self._take(block=True)
            if job is not None:
                self._waiting.append(job)
                if not self._shared.up:
                    raise RuntimeError(f"no verifier worker could be started: {ending}")

    def _take(self, block: bool) -> Job | None:
        """The next job of the queue; ``None`` if it needs nothing more, or there is none and this does not block."""
        try:
            job = self._shared.queue.get(block=block)
        except Empty:
            return None
        if job is None:
            raise _Closed
        # One that was lent may come back to where it is already.
        return job if job not in self._sent and self._ledger.begin(job) else None

    def _fill(self) -> None:
        """Send what the worker should have at hand; block while there is nothing to do."""
        if self._lent:
            return
        limit = min(AHEAD_ANSWERS, 1 + int(AHEAD_SECONDS / max(self._mean_seconds, 1e-6)))
        while len(self._sent) < limit:
            if not self._waiting:
                job = self._take(block=not self._sent)
                if job is not None:
                    self._waiting.append(job)
                elif self._sent and self._shared.queue.empty():
                    return
                else:
                    continue
            job = self._waiting[0]
            if job.abandoned or (not self._sent and not self._prepare(job)):
                self._waiting.popleft()
                continue
            worker = self._worker
            assert worker is not None
            if self._sent and (not worker.knows(job.key) or sum(j.size for j in (*self._sent, job)) > AHEAD_BYTES):
                return
            try:
                worker.send(job.key, job.problem, job.text)
            except WorkerDied:
                if self._sent:
                    return  # whose fault it was shows when the replies are read
                self._discard_worker()  # it died idle, which is not this answer's fault
                raise _NoWorker from None
            if not self._sent:
                self._head_began = time.monotonic()
            self._sent.append(self._waiting.popleft())

    def _collect(self) -> None:
        """Wait for the certificate of the first answer that is out, at most until its deadline."""
        assert self._worker is not None
        deadline = self._shared.deadline_seconds
        job = self._sent[0]
        end = self._head_began + (ABANDONED_SECONDS if job.abandoned else deadline + self._shared.grace_seconds)
        lend = self._head_began + LEND_SECONDS
        may_lend = not self._lent and len(self._sent) > 1 and lend < end
        # Where no other worker is up yet, those behind the first wait for one: it is looked for now and then.
        until = max(lend, time.monotonic() + (0 if len(self._shared.up) > 1 else LOOK_SECONDS)) if may_lend else end
        try:
            reply = self._worker.receive(min(until, end) - time.monotonic())
        except (TimeoutError, WorkerDied) as error:
            if until < end and isinstance(error, TimeoutError):
                if len(self._shared.up) < 2:
                    return
                self._lent = True
                for behind in islice(self._sent, 1, None):
                    self._shared.queue.put(behind)
                return
            evicted, lent = self._evicted, self._lent
            self._discard_worker()
            if self._closed.is_set():
                raise _Closed from None
            # Those behind the first were not begun: they go to the next worker.
            self._waiting.extendleft([job] if lent else reversed(self._sent))
            self._sent.clear()
            if evicted and not job.abandoned:
                return
            if isinstance(error, WorkerDied) and error.lost and job.losses < self._shared.max_losses:
                job.losses += 1  # it goes to another machine
            else:
                self._waiting.popleft()
                if isinstance(error, TimeoutError):
                    fault = Certificate.without_evidence(Status.TIMEOUT, f"stopped after {deadline:g} s")
                else:
                    fault = Certificate.without_evidence(Status.CRASHED, f"the verifier's process died: {error}")
                self._ledger.settle(job, fault, None, self._head_began, time.monotonic())
            return
        self._sent.popleft()
        self._lent = False
        self._head_began = time.monotonic()
        self._mean_seconds = (self._mean_seconds + reply.ended - reply.began) / 2
        if reply.restarts:
            self._ledger.replaced_workers(reply.restarts)
        if reply.outcome is Outcome.OUT_OF_MEMORY:  # perhaps by what earlier answers left behind
            self._waiting.extendleft(reversed(self._sent))
            self._sent.clear()
            self._discard_worker()
        self._ledger.settle(job, reply.certificate or _fault(reply), reply.pickled, reply.began, reply.ended)

    def _prepare(self, job: Job) -> bool:
        """Have the job's verifier loaded; if that cannot be, settle the job without evidence and return False."""
        assert self._worker is not None
        unloadable, key, seconds = self._shared.unloadable, job.key, self._shared.start_seconds
        if key not in unloadable:
            if self._worker.knows(key):
                return True
            try:
                reply = self._worker.load(key, job.verifier, seconds)
            except TimeoutError:
                self._discard_worker()
                unloadable[key] = Certificate.without_evidence(Status.TIMEOUT, f"not loaded after {seconds:g} s")
            except WorkerDied as error:
                self._discard_worker()
                self._load_deaths[key] += 1
                if self._load_deaths[key] < LOAD_ATTEMPTS:
                    raise _NoWorker from None
                died = f"the process died each time it loaded the verifier: {error}"
                unloadable[key] = Certificate.without_evidence(Status.CRASHED, died)
            else:
                if reply.outcome is Outcome.DONE:
                    self._load_deaths.pop(key, None)
                    return True
                unloadable[key] = _fault(reply)
        now = time.monotonic()
        self._ledger.settle(job, unloadable[key], None, now, now)
        if self._worker is None:
            self._waiting.popleft()
            raise _NoWorker
        return False

    def _start_worker(self) -> WorkerHandle:
        with self._worker_lock:
            if self._closed.is_set():
                raise _Closed
            if self._worker is None:
                self._worker = self._shared.new_worker()
            return self._worker

    def _discard_worker(self) -> None:
        self._shared.up.discard(self)
        with self._worker_lock:
            worker, self._worker = self._worker, None
            self._evicted = self._lent = False
            if worker is not None:
                worker.close()
                if not self._closed.is_set():
                    self._ledger.replaced_workers(1)


def _fault(reply: Reply) -> Certificate:
    return Certificate.without_evidence(Status.CRASHED, reply.trace or "the worker ran out of memory")
