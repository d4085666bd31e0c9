"""The pool on the nodes of a Ray cluster, for when one machine is not enough.

Each worker is a Ray actor with a worker process of its own beside it, the same as on one machine: there the deadline of an
answer is kept, there a segfault ends, and there memory is limited, as close to the tool as can be. Ray carries the answers. An
actor that does not reply although its deadline has passed, or one that is gone with its node, is replaced by another wherever
the cluster has room; answers that a lost node had are verified anew on another.

Needs Ray: ``pip install 'lit-symbolic[ray]'``, and this package at the same version on every node.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import lit_symbolic
from lit_symbolic.verifiers.pool import AnswerPool, VerifierPool
from lit_symbolic.verifiers.pooling.jobs import Job
from lit_symbolic.verifiers.pooling.worker import MAX_LOADED_VERIFIERS, Outcome, Reply, WorkerDied, WorkerHandle

GRACE_SECONDS = 15.0
"""An actor keeps the deadline itself; one that is so much later than that hangs, or cannot be reached."""
CLOSE_SECONDS = 3.0
CONTROL = "control"
"""Calls of this group do not wait for the answers before them."""


class RayVerifierPool(AnswerPool):
    """Workers on the nodes of a Ray cluster that verify answers: :class:`VerifierPool` for more than one machine.

    The first answer connects to the cluster, or starts one on this machine if there is none; one that was started here ends
    with :meth:`close`. Ray's usage reports are off unless ``RAY_USAGE_STATS_ENABLED`` says otherwise. Sending an answer costs
    about a millisecond: a verifier that takes less is better served by :class:`VerifierPool`.

    Args:
        workers: Number of workers in the whole cluster. Those for which there is no room wait for it, while others work.
        deadline_seconds: Time for one answer, counted from when a worker begins with it.
        start_seconds: Time for a worker to be placed and to start, and for it to load a verifier. Not part of the deadline.
        memory_megabytes: Address space of a worker, handed on to its children (who may raise it); ``None`` is no limit.
        batch_deadline_seconds: See :class:`VerifierPool`.
        max_outstanding: See :class:`VerifierPool`.
        cache_megabytes: See :class:`VerifierPool`; the cache is the trainer's.
        cache_directory: See :class:`VerifierPool`.
        cache_disk_megabytes: See :class:`VerifierPool`.
        address: The cluster, as ``ray.init`` takes it (``auto``, ``ray://host:port``); ``None`` is the one to which this process
            is connected or which ``RAY_ADDRESS`` names, or else a new one on this machine.
        cpus_per_worker: Processors that Ray sets aside for a worker.
        max_losses: How often an answer is verified anew after its node was lost; then there is no evidence about it.

    Raises:
        ValueError: If an argument is out of its range.
        ImportError: If Ray is not installed, when the first answer is given.

    Example:
        >>> RayVerifierPool(workers=64, address="auto").workers  # nothing is started yet
        64
    """

    def __init__(
        self,
        workers: int = 2,
        deadline_seconds: float = 5.0,
        start_seconds: float = 120.0,
        memory_megabytes: int | None = 4096,
        batch_deadline_seconds: float | None = None,
        max_outstanding: int = 10_000,
        cache_megabytes: float = 64.0,
        cache_directory: str | None = None,
        cache_disk_megabytes: float = 1024.0,
        address: str | None = None,
        cpus_per_worker: float = 1.0,
        max_losses: int = 2,
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
        if cpus_per_worker <= 0 or max_losses < 0:
            raise ValueError(
                f"cpus_per_worker is positive and max_losses is not negative; got {cpus_per_worker!r} and {max_losses!r}"
            )
        self._settings |= {"address": address, "cpus_per_worker": cpus_per_worker, "max_losses": max_losses}
        self.address = address
        self.cpus_per_worker = cpus_per_worker
        self.max_losses = self._max_losses = max_losses
        self._grace_seconds = GRACE_SECONDS

    def _open(self) -> tuple[Callable[[], WorkerHandle], Callable[[], None]]:
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            alone = self.address is None and "RAY_ADDRESS" not in os.environ
            ray.init(
                address=self.address,
                num_cpus=max(1, round(self.workers * self.cpus_per_worker)) if alone else None,
                include_dashboard=False if alone else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        settings = {
            "workers": 1,
            "deadline_seconds": self.deadline_seconds,
            "start_seconds": self.start_seconds,
            "memory_megabytes": self.memory_megabytes,
            "cache_megabytes": 0,
        }
        remote = ray.remote(
            num_cpus=self.cpus_per_worker,
            scheduling_strategy="SPREAD",
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={CONTROL: 1},
        )
        actor = remote(_Actor)
        arguments = settings, list(sys.path), lit_symbolic.__version__
        return lambda: RayWorker(actor.remote(*arguments)), ray.shutdown if started else _nothing


class RayWorker(WorkerHandle):
    """The trainer's handle on an actor."""

    def __init__(self, actor: Any) -> None:
        super().__init__()
        self._ray = _ray()
        self._actor = actor
        self._replies: deque[Any] = deque()
        self._killed = False

    def load(self, key: str, pickled: bytes, seconds: float) -> Reply:
        """Have the worker process load the verifier, in the time that it has for that."""
        return super().load(key, pickled, seconds + (GRACE_SECONDS if key else 0))

    def receive(self, seconds: float) -> Reply:
        """The next reply, its times by this machine's clock."""
        reply = super().receive(seconds)
        now = time.monotonic()
        reply.began, reply.ended = now - (reply.ended - reply.began), now
        return reply

    def _post(self, message: bytes) -> None:
        try:
            self._replies.append(self._actor.answer.remote(message))
        except self._ray.exceptions.RayError as error:
            raise WorkerDied(_first_line(error), lost=True) from None

    def _take(self, seconds: float) -> bytes:
        try:
            message: bytes = self._ray.get(self._replies[0], timeout=max(0.0, seconds))
        except self._ray.exceptions.GetTimeoutError:
            raise TimeoutError from None
        except (self._ray.exceptions.RayError, RuntimeError) as error:
            # Nothing of a verifier runs in the actor's own process: it went with its node, or was killed.
            raise WorkerDied(_first_line(error), lost=True) from None
        self._replies.popleft()  # only now: who gave up waiting asks for the same one again
        return message

    def kill(self) -> None:
        """Have the actor end its worker process and remove its files, if it still can; then have Ray kill it."""
        if self._killed:
            return
        self._killed = True
        with suppress(Exception):  # it is dead or does not reply, or Ray was shut down and the actor with it
            if self._loaded:
                closed = self._actor.close.options(concurrency_group=CONTROL).remote()
                self._ray.get(closed, timeout=CLOSE_SECONDS)
        with suppress(Exception):
            self._ray.kill(self._actor, no_restart=True)

    def close(self) -> None:
        """As :meth:`kill`."""
        self.kill()


class _Actor:
    """Runs on a node: answers messages by a local pool of one worker."""

    def __init__(self, settings: dict[str, Any], path: list[str], version: str) -> None:
        if version != lit_symbolic.__version__:
            raise RuntimeError(f"this node has lit-symbolic {lit_symbolic.__version__}, the trainer has {version}")
        # A verifier in a file beside the trainer is found where that file is, as on one machine.
        sys.path += [folder for folder in path if folder not in sys.path]
        self._pool = VerifierPool(**settings)
        self._verifiers: dict[str, bytes] = {}
        self._restarts = 0

    def answer(self, message: bytes) -> bytes:
        """Fields of a reply, pickled."""
        key, verifier, problem, text = pickle.loads(message)
        began = time.monotonic()
        if verifier is not None:
            if len(self._verifiers) >= MAX_LOADED_VERIFIERS:
                self._verifiers.clear()
            self._verifiers[key] = verifier
        verification = self._pool._enqueue(Job(key, self._verifiers[key], problem or b"", text or ""))
        certificate = verification.result()
        times = verification.began or began, verification.ended or time.monotonic()
        restarts, self._restarts = self._pool.statistics.restarts - self._restarts, self._pool.statistics.restarts
        if verifier is None:
            return pickle.dumps((Outcome.DONE, *times, pickle.dumps(certificate), "", restarts))
        outcome = Outcome.DONE if certificate.is_evidence else Outcome.RAISED
        return pickle.dumps((outcome, *times, None, certificate.evidence, restarts))

    def close(self) -> None:
        """End the worker process."""
        self._pool.close()


def _ray() -> Any:
    """The library, imported when first needed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise ImportError("RayVerifierPool needs ray: pip install 'lit-symbolic[ray]'") from None
    return ray


def _nothing() -> None:
    pass


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
