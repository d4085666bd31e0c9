"""One worker process of a :class:`~lit_symbolic.verifiers.pool.VerifierPool`: the trainer's handle on it, and what it runs.

Messages are pickles. The trainer sends ``(key, verifier, None, None)`` to load a verifier and ``(key, None, problem, text)`` to use
it, verifier and problem pickled on their own; every message is answered by the fields of one :class:`Reply`, in order.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection
from pathlib import Path

from lit_symbolic.certificate import MAX_EVIDENCE_CHARACTERS, Certificate
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.verifiers.pooling.workspace import remove_folder

MAX_LOADED_VERIFIERS = 32
LOADED = Certificate(True, 1.0)
"""Answer to an empty problem: the verifier is loaded, and nothing was asked of it."""
PR_SET_PDEATHSIG = 1
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Outcome(Enum):
    """What became of one message."""

    DONE = "done"
    RAISED = "raised"
    OUT_OF_MEMORY = "out of memory"


@dataclass(slots=True)
class Reply:
    """Answer to one message.

    Args:
        outcome: What became of it.
        began: When it was begun with, by the ``time.monotonic()`` of the trainer's machine.
        ended: When it was done.
        pickled: The certificate as it came; ``None`` if there is none.
        trace: The traceback, if something was raised.
        restarts: Processes that were replaced behind this worker meanwhile.
    """

    outcome: Outcome
    began: float
    ended: float
    pickled: bytes | None = None
    trace: str = ""
    restarts: int = 0
    certificate: Certificate | None = None


class WorkerDied(Exception):
    """The process ended, or is about to; the message says how.

    Args:
        message: How it ended.
        lost: It went with its machine, for which no answer is to blame.
        killed: By a signal that no process sends itself by a fault.
    """

    def __init__(self, message: str, lost: bool = False, killed: bool = False) -> None:
        super().__init__(message)
        self.lost = lost
        self.killed = killed


class WorkerHandle(ABC):
    """What a dispatcher sees of a worker, wherever that runs. Messages are answered one by one, in their order."""

    def __init__(self) -> None:
        self._loaded: set[str] = set()

    def knows(self, key: str) -> bool:
        """Whether the verifier was sent to this process."""
        return key in self._loaded

    def load(self, key: str, pickled: bytes, seconds: float) -> Reply:
        """Have the verifier unpickled; also waits until a fresh process is up.

        Raises:
            TimeoutError: If there is no reply in time.
            WorkerDied: If the process ended.
        """
        if len(self._loaded) >= MAX_LOADED_VERIFIERS:
            self._loaded.clear()
        self._post(pickle.dumps((key, pickled, None, None), protocol=pickle.HIGHEST_PROTOCOL))
        reply = self.receive(seconds)
        if reply.outcome is Outcome.DONE:
            self._loaded.add(key)
        return reply

    def send(self, key: str, problem: bytes, text: str) -> None:
        """Ask for one verification. Raises :class:`WorkerDied` if the process ended."""
        self._post(pickle.dumps((key, None, problem, text), protocol=pickle.HIGHEST_PROTOCOL))

    def receive(self, seconds: float) -> Reply:
        """The next reply. Raises as :meth:`load` does."""
        message = self._take(seconds)
        try:
            reply = Reply(*pickle.loads(message))
            if reply.pickled is not None:
                reply.certificate = pickle.loads(reply.pickled)
        except Exception as error:
            now = time.monotonic()
            reply = Reply(Outcome.RAISED, now, now, trace=f"the certificate cannot be unpickled: {error}")
        return reply

    @abstractmethod
    def _post(self, message: bytes) -> None:
        """Send a message. Raises :class:`WorkerDied`."""

    @abstractmethod
    def _take(self, seconds: float) -> bytes:
        """The next reply, pickled. Raises :class:`TimeoutError`, :class:`WorkerDied`."""

    @abstractmethod
    def kill(self) -> None:
        """Kill the process and its children, which also wakes who waits for its reply. For any thread."""

    @abstractmethod
    def close(self) -> None:
        """Kill it and leave nothing of it; only for the thread that reads from it."""


class Worker(WorkerHandle):
    """A started process of this machine. It is killed with the thread that made it (Linux), so that thread must stay.

    Args:
        memory_megabytes: Limit of its address space, ``None`` for no limit.
        folder: Where its folder for temporary files is made, which goes with it; ``None`` is the system's.
    """

    def __init__(self, memory_megabytes: int | None = None, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="worker-", dir=folder)
        try:
            from loky.backend import get_context  # not at the top: a run without worker processes does not need loky

            context = get_context("loky")
            self.connection, theirs = context.Pipe()
            environment = {**ONE_THREAD, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self.folder)}
            self.process = context.Process(target=serve, args=(theirs, memory_megabytes), name="verifier-worker", env=environment)
            self.process.start()
        except BaseException:
            remove_folder(self.folder)
            raise
        theirs.close()

    def _post(self, message: bytes) -> None:
        try:
            self.connection.send_bytes(message)
        except OSError:
            raise self._death() from None

    def _take(self, seconds: float) -> bytes:
        try:
            # Once more without waiting: this thread may have got the interpreter lock long after the time was over.
            if not (self.connection.poll(max(0.0, seconds)) or self.connection.poll(0)):
                raise TimeoutError
            return self.connection.recv_bytes()
        except TimeoutError:
            raise
        except (EOFError, OSError):
            raise self._death() from None

    def kill(self) -> None:
        """Kill the process and its children. Any thread may call it, the pipe stays open."""
        from loky.backend.utils import kill_process_tree

        kill_process_tree(self.process)
        # Children that a dead worker left behind are no longer in its tree, but still in its session.
        if self.process.pid is not None and sys.platform == "linux":
            for _ in range(10):  # again, if one forked meanwhile
                if not _kill_session(self.process.pid):
                    break
        self.process.join(timeout=5.0)

    def close(self) -> None:
        """Kill it, close the pipe, and remove what it left of temporary files; only for the thread that reads from it."""
        self.kill()
        self.connection.close()
        remove_folder(self.folder)

    def _death(self) -> WorkerDied:
        self.process.join(timeout=1.0)
        code = self.process.exitcode
        if code is None:
            return WorkerDied("it closed its pipe")
        if code >= 0:
            return WorkerDied(f"it exited with code {code}")
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return WorkerDied(f"it was killed by {name}", killed=name in ("SIGKILL", "SIGTERM"))


def _kill_session(leader: int) -> bool:
    """Kill the processes of a session; whether there were any. Zombies are none: nothing of them runs."""
    found = False
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError, ValueError):
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    state, _, _, session = stat.read().rpartition(b")")[2].split()[:4]
                if int(session) == leader and state not in b"ZX":
                    os.kill(int(entry), signal.SIGKILL)
                    found = True
    return found


def serve(connection: Connection, memory_megabytes: int | None) -> None:
    """Main function of the worker process: answer messages until the trainer closes the pipe."""
    _confine(memory_megabytes)
    verifiers: dict[str, Verifier] = {}
    while True:
        try:
            message = connection.recv_bytes()
        except (EOFError, OSError):
            return
        connection.send_bytes(_answer(verifiers, message))


def _answer(verifiers: dict[str, Verifier], message: bytes) -> bytes:
    began = time.monotonic()
    try:
        key, verifier, pickled_problem, text = pickle.loads(message)
        certified = None
        if verifier is not None:
            if len(verifiers) >= MAX_LOADED_VERIFIERS:
                verifiers.clear()
            verifiers[key] = pickle.loads(verifier)
        else:
            certificate = verifiers[key].verify(pickle.loads(pickled_problem), text) if pickled_problem else LOADED
            if not isinstance(certificate, Certificate):
                raise TypeError(
                    f"a verifier returns a Certificate, {type(verifiers[key]).__name__} gave {type(certificate).__name__}"
                )
            certified = pickle.dumps(certificate, protocol=pickle.HIGHEST_PROTOCOL)
        return pickle.dumps((Outcome.DONE, began, time.monotonic(), certified), protocol=pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        return pickle.dumps((Outcome.OUT_OF_MEMORY, began, time.monotonic()))
    except BaseException:  # sys.exit() of a verifier too: nothing that it raises ends the worker
        trace = traceback.format_exc(limit=-8)
        if len(trace) > MAX_EVIDENCE_CHARACTERS:  # its end says what it was
            trace = "…" + trace[1 - MAX_EVIDENCE_CHARACTERS :]
        return pickle.dumps((Outcome.RAISED, began, time.monotonic(), None, trace))


def _confine(memory_megabytes: int | None) -> None:
    """Make this process harmless to the trainer: its terminal, its memory, its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a verifier prints would tear the trainer's progress bar. Its stderr is left: a native crash speaks there.
    quiet = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(quiet, standard)
    os.close(quiet)
    if os.name == "posix":
        import resource

        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if memory_megabytes is not None:
            limit, hard = memory_megabytes * 2**20, resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
