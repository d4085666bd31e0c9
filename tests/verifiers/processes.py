"""What the tests of the pools look for: processes, zombies and threads that should be gone."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

EARLIER: set[int | None] = set()
"""Children and threads that other tests of this process left."""


def children(pid: int | None = None) -> dict[int, str]:
    """Workers and zombies among the direct children of a process, by default this one, with their state."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):  # not by glob, which fails where a process ends meanwhile
        try:
            state, parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:2]
            command = Path(f"/proc/{name}/cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        child = int(name)
        if int(parent) == (pid or os.getpid()) and child not in EARLIER and (state == "Z" or "verifier-worker" in command):
            found[child] = state
    return found


def workers() -> list[int]:
    """The children that run: a zombie cannot be killed once more."""
    return [pid for pid, state in children().items() if state != "Z"]


def dispatchers() -> set[int | None]:
    return {thread.ident for thread in threading.enumerate() if thread.name == "verifier-dispatcher"} - EARLIER


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    EARLIER.update(children(), dispatchers())
    yield
    assert not children()
    assert not dispatchers()
