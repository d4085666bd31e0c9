"""How tests get a sandbox, and look at what it runs."""

import contextlib
import os
import shutil
import sysconfig
import textwrap
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from lit_symbolic.verifiers.sandbox import Execution, Sandbox, SandboxUnavailable

STDLIB = tuple({path for path in (sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED")) if os.path.isdir(path)})


def available(sandbox: Sandbox) -> Sandbox:
    """The sandbox, or a skip where a system package or a kernel's ability is missing."""
    if sandbox.means == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap")
    missing = sandbox.layers().missing
    if missing:
        pytest.skip(f"needs a kernel that has all layers: {missing}")
    return sandbox


@cache
def runs_programs() -> pytest.MarkDecorator:
    """Mark of tests that compile and run programs: they skip, with the reason, where that cannot be."""
    if shutil.which("g++") is None:
        return pytest.mark.skip(reason="needs g++")
    try:
        sandboxed = Sandbox().run(["true"]).returncode == 0
    except SandboxUnavailable:
        sandboxed = False
    return pytest.mark.skipif(not sandboxed, reason="needs bubblewrap, or a kernel that lets users make namespaces")


def python(sandbox: Sandbox, source: str) -> Execution:
    with sandbox.prestart(None, readable=STDLIB) as prepared:
        return prepared.run(textwrap.dedent(source).encode())


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether it comes true in time. It is not asked again: what was seen once may have moved on."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)
    return True


def running(word: str) -> list[int]:
    """Processes with a word in their command line."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):  # not by glob, which fails where a process ends meanwhile
        with contextlib.suppress(OSError):
            if word in Path(f"/proc/{pid}/cmdline").read_text() and pid != os.getpid():
                found.append(pid)
    return found
