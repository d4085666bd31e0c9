"""The interpreters that run answers: started ahead of time, each in a sandbox of its own, for one answer each."""

from __future__ import annotations

import importlib.util
import json
import os
import sysconfig
import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal

from lit_symbolic.verifiers.sandbox import Execution, Limits, Outcome, Prepared, Sandbox, SandboxUnavailable

HARNESS = "lit_symbolic.verifiers.interpreting.harness"
MAX_WAITING, ATTEMPTS = 4, 3

Mode = Literal["required", "best_effort", "off"]
Key = tuple[tuple[str, ...], Mode, Limits]


def execute(request: Mapping[str, Any], libraries: tuple[str, ...], mode: Mode, limits: Limits) -> Execution:
    """Run the harness on one request, in an interpreter that no other request was or will be given.

    Args:
        request: See :mod:`~lit_symbolic.verifiers.interpreting.harness`; ``paths`` is added.
        libraries: Packages that may be imported; they are imported ahead, in a process that never runs a program.
        mode: Of the sandbox.
        limits: Of the program.

    Raises:
        ValueError: If a library is not installed.
        SandboxUnavailable: If the sandbox is required and cannot be had.
    """
    paths = sorted({os.path.dirname(folder) for folder in library_folders(libraries)})
    text = json.dumps({**request, "paths": paths})
    source = f"from {HARNESS} import serve\nserve({text!r})\n".encode()
    nonce = request["nonce"].encode()
    for attempt in range(1, ATTEMPTS + 1):
        # An interpreter may have been killed while it waited: short of memory, the kernel takes these first.
        try:
            execution = _Waiting.take((libraries, mode, limits)).run(source)
        except SandboxUnavailable:
            if attempt == ATTEMPTS:
                raise
            continue
        if nonce in execution.stdout or execution.outcome is Outcome.TIMEOUT:
            break
    return execution


class _Waiting:
    """One interpreter for each kind that was asked for lately, started while the one before it is at work.

    Belongs to this process. What it leaves when the process ends is ended by the sandbox.
    """

    _lock: ClassVar = threading.Lock()
    _ready: ClassVar[OrderedDict[Key, Prepared]] = OrderedDict()

    @classmethod
    def take(cls, key: Key) -> Prepared:
        """An interpreter, and another one for the next time."""
        with cls._lock:
            prepared = cls._ready.pop(key, None) or start(*key)
            cls._ready[key] = start(*key)
            while len(cls._ready) > MAX_WAITING:
                cls._ready.popitem(last=False)[1].close()
        return prepared

    @classmethod
    def forget(cls) -> None:
        """In a forked process: its parent's interpreters are not its own."""
        cls._lock, cls._ready = threading.Lock(), OrderedDict()


os.register_at_fork(after_in_child=_Waiting.forget)


def start(libraries: tuple[str, ...], mode: Mode, limits: Limits) -> Prepared:
    """Start an interpreter that waits for one program."""
    return Sandbox(mode=mode).prestart(
        None,
        modules=(HARNESS, *libraries),
        readable=(*standard_library(), *library_folders(libraries)),
        limits=limits,
    )


@cache
def standard_library() -> tuple[str, ...]:
    """Where programs import the standard library from."""
    folders = (sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED"))
    return tuple(dict.fromkeys(folder for folder in folders if folder and os.path.isdir(folder)))


@cache
def library_folders(libraries: tuple[str, ...]) -> tuple[str, ...]:
    """Where packages are installed.

    Raises:
        ValueError: If one is not.
    """
    folders = []
    for name in libraries:
        found = importlib.util.find_spec(name) if name.isidentifier() else None
        if found is None or found.origin is None:
            raise ValueError(f"the library {name!r} is not installed; programs could not import it")
        folders.append(os.path.dirname(found.origin) if found.submodule_search_locations else found.origin)
    return tuple(folders)
