"""Verifiers that fail in every way a tool can, for the tests of the pool. ``Obedient`` fails as its answer tells it to."""

import ctypes
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from lit_symbolic.certificate import Certificate, Finding, Problem

GOOD = Certificate(True, 1.0)


def _hang() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1000)


def _hang_holding_the_interpreter_lock() -> None:
    ctypes.PyDLL(None).sleep(1000)


def _segfault() -> None:
    ctypes.string_at(0)


def _exhaust_memory() -> None:
    bytearray(2**36)


def _raise_long() -> None:
    raise ValueError("x" * 100_000 + " the end")


def _overflow() -> None:
    def down(n: int) -> int:
        return down(n + 1) + 1

    down(0)


FAULTS = {
    "hang": _hang,
    "hang holding the lock": _hang_holding_the_interpreter_lock,
    "segfault": _segfault,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "_exit": lambda: os._exit(3),
    "sys.exit": lambda: sys.exit(3),
    "raise": lambda: {}["no such key"],
    "raise long": _raise_long,
    "overflow": _overflow,
    "memory": _exhaust_memory,
}


@dataclass(frozen=True)
class Obedient:
    """The answer is ``good``, a number of seconds to sleep, or a key of ``FAULTS``. The score of ``wrong N`` is 1 / (N + 2)."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        if text in FAULTS:
            FAULTS[text]()
        elif text.startswith("wrong"):
            return Certificate(False, 1 / (int(text.split()[1]) + 2), (Finding(0, len(text), "goal", text),))
        elif text != "good":
            time.sleep(float(text))
        return GOOD


class Echo:
    """Puts what it was asked into the evidence, after a sleep that differs from call to call."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        time.sleep(random.random() / 50)
        return Certificate(False, 0.0, evidence=f"{problem.id}:{text}")


class Returns:
    """Returns ``value``, whatever it is."""

    def __init__(self, value: object) -> None:
        self.value = value

    def verify(self, problem: Problem, text: str) -> Certificate:
        return self.value  # type: ignore[return-value]


class Unpicklable:
    """Its certificate cannot leave the worker."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        return Certificate(False, 0.0, measures={"a": lambda: 1.0})  # type: ignore[dict-item]


class Talkative:
    """Prints, from Python and below it, and certifies with the largest evidence."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        print("TALK")
        os.write(1, b"TALK")
        subprocess.run(["echo", "TALK"], check=True)
        return Certificate(False, 0.0, evidence="x" * 5_000_000)


class Modules:
    """Says what was imported, and how the process is set up."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        heavy = [name for name in ("torch", "lightning", "numpy", "transformers") if name in sys.modules]
        return Certificate(False, 0.0, evidence=f"{heavy} {os.environ.get('OMP_NUM_THREADS')} {os.getpid() == os.getsid(0)}")


class Pid:
    """Says in which process it runs."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        return Certificate(False, 0.0, evidence=str(os.getpid()))


class Parent:
    """Starts a child that sleeps, writes its process id into the file named by the answer, and fails as the problem says."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        child = subprocess.Popen(["sleep", "1000"], process_group=problem.facts.get("process_group"))
        with open(text + ".part", "w") as file:
            file.write(str(child.pid))
        os.rename(text + ".part", text)
        FAULTS[problem.facts["fault"]]()
        return GOOD


@dataclass
class Leaky:
    """Keeps 100 MB of every call, as a tool with a leak does."""

    kept: list[bytearray] = field(default_factory=list)

    def verify(self, problem: Problem, text: str) -> Certificate:
        self.kept.append(bytearray(100 * 2**20))
        return GOOD


class Unloadable:
    """Fails while a worker unpickles it: raises, hangs or dies as ``fault`` says."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def __setstate__(self, state: dict[str, str]) -> None:
        FAULTS[state["fault"]]()

    def verify(self, problem: Problem, text: str) -> Certificate:
        return GOOD


class HoldsTheFirst:
    """Hangs the first process that unpickles it; ``path`` then exists."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __setstate__(self, state: dict[str, str]) -> None:
        if not os.path.exists(state["path"]):
            Path(state["path"]).touch()
            _hang()


class Heavy:
    """Slow to unpickle; says how often this process did so, and how large it is."""

    unpickled = 0

    def __init__(self, table: bytes) -> None:
        self.table = table

    def __setstate__(self, state: dict[str, bytes]) -> None:
        self.__dict__.update(state)
        Heavy.unpickled += 1
        time.sleep(0.8)

    def verify(self, problem: Problem, text: str) -> Certificate:
        return Certificate(False, 0.0, evidence=f"{Heavy.unpickled} {len(self.table)}")


@dataclass(frozen=True)
class Counted:
    """Notes each call in a file, sleeps, and certifies what the answer says."""

    path: str
    seconds: float = 0.0
    version: ClassVar[str] = "1"

    def verify(self, problem: Problem, text: str) -> Certificate:
        with open(self.path, "a", errors="backslashreplace") as file:
            file.write(text + "\n")
        time.sleep(self.seconds)
        return Certificate(False, 0.25, (Finding(0, len(text), "goal", text),), {"length": len(text)}, evidence=problem.id)

    def calls(self) -> list[str]:
        return Path(self.path).read_text().split("\n")[:-1] if Path(self.path).exists() else []


@dataclass(frozen=True)
class CountedToo(Counted):
    """The same by another name."""


@dataclass(frozen=True)
class Wraps:
    """Leaves the work to another verifier."""

    inner: Counted

    def verify(self, problem: Problem, text: str) -> Certificate:
        return self.inner.verify(problem, text)


@dataclass(frozen=True)
class Littering:
    """Leaves files, an unreadable folder and a child that goes on writing, and certifies a function of the answer."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        folder = tempfile.mkdtemp()
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
            file.write(text)
        child = subprocess.Popen(["sh", "-c", "while :; do mktemp >/dev/null; sleep 0.01; done"], stderr=subprocess.DEVNULL)
        time.sleep(random.random() / 50)
        child.kill()
        child.wait()
        os.chmod(folder, 0)
        return Certificate(False, 1 / (int(text) + 2), (Finding(0, len(text), "goal", text),), {"number": float(text)})


@dataclass(frozen=True)
class Solver:
    """z3 with a time limit of its own, which it does not keep while it reads a large number."""

    milliseconds: int = 100

    def verify(self, problem: Problem, text: str) -> Certificate:
        import z3

        solver = z3.Solver()
        solver.set("timeout", self.milliseconds)
        x = z3.Int("x")
        solver.add(x * x == z3.IntVal(text))
        return GOOD if solver.check() == z3.sat else Certificate(False, 0.0)


class HarmsItsParent:
    """Sends the process that started the worker the signal that the answer names."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        if text in ("SIGKILL", "SIGSTOP"):
            os.kill(os.getppid(), getattr(signal, text))
            time.sleep(1000)
        return GOOD
