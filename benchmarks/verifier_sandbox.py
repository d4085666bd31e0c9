"""What the sandbox costs: one execution in it beside the same command without it, and prestarted interpreters.

Everything is measured in one process, the variants in turn, since the machine's speed changes under other programs. Processor time
is that of all processes together: the caller, the sandbox's servers and what they ran.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sysconfig
import time
from collections.abc import Callable
from statistics import median

from lit_symbolic.verifiers.confinement.server import close_servers
from lit_symbolic.verifiers.sandbox import Sandbox, SandboxUnavailable
from verifier_tables import Speed

COMMAND = ["/bin/true"]
STDLIB = tuple({path for path in (sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED")) if os.path.isdir(path)})


def speed(quick: bool) -> list[Speed]:
    """Overhead by wall clock, paired, and by processor time; interpreters per second of processor time on two cores."""
    repeats, runs = (3, 20) if quick else (9, 100)
    rows = []
    for means in ("bubblewrap", "kernel"):
        sandbox = Sandbox(means=means)  # type: ignore[arg-type]
        try:
            sandbox.run(COMMAND)
        except SandboxUnavailable:
            continue
        target = "under 15 ms" if means == sandbox.layers().means else ""
        pairs = [_seconds(lambda: sandbox.run(COMMAND)) - _seconds(_bare) for _ in range(repeats * runs)]  # noqa: B023
        walls = [1e3 * median(pairs[start : start + runs]) for start in range(0, len(pairs), runs)]
        rows.append(_row(f"{means}: overhead of an execution, ms by the clock (a bare subprocess beside it)", walls, target))
        costs = [
            1e3 * (_processor_seconds(lambda: sandbox.run(COMMAND), runs) - _processor_seconds(_bare, runs))  # noqa: B023
            for _ in range(repeats)
        ]
        rows.append(_row(f"{means}: overhead of an execution, ms of processor time", costs, target))
    if not rows:
        return []

    def interpreter() -> None:
        with Sandbox().prestart(None, readable=STDLIB) as prepared:
            if prepared.run(b"print(6 * 7)").stdout != b"42\n":
                raise RuntimeError("the interpreter did not execute its program")

    per_second = [2 / _processor_seconds(interpreter, runs) for _ in range(repeats)]
    rows.append(_row("Python programs per second on two cores, by processor time", per_second, "at least 40"))
    return rows


def _bare() -> None:
    subprocess.run(COMMAND, stdin=subprocess.DEVNULL, capture_output=True, check=True)


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _processor_seconds(action: Callable[[], object], runs: int) -> float:
    """Of one action, all processes together; without the start of the servers."""

    def used(count: int) -> float:
        close_servers()
        before = _used()
        for _ in range(count):
            action()
        close_servers()  # when a process was waited for, its time is accounted for
        return _used() - before

    return (used(runs + 1) - used(1)) / runs


def _used() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def _row(what: str, values: list[float], target: str) -> Speed:
    return Speed(what, median(values), min(values), max(values), target)
