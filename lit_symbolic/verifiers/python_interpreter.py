"""Starts the interpreters that run answers: which executable, what of this machine it may read, one sandbox each."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from lit_symbolic.verifiers.sandbox import Execution, Limits, Sandbox

HARNESS = "python_harness.py"
OPTIONS = ("-s", "-P", "-S", "-B", "-X", "utf8")
"""No site-packages, nothing of the user's, no bytecode written. Not ``-I``: it would ignore the fixed hash seed."""


def execute(
    request: Mapping[str, Any], libraries: tuple[str, ...], mode: Literal["required", "best_effort", "off"], limits: Limits
) -> Execution:
    """Run the harness on one request in an interpreter and a sandbox of its own."""
    folders = library_folders(libraries)
    paths = sorted({os.path.dirname(folder) for folder in folders})
    return Sandbox(mode=mode).run(
        [interpreter(), *OPTIONS, HARNESS],
        stdin=json.dumps({**request, "paths": paths}).encode() + b"\n",
        files={HARNESS: harness()},
        readable=(*installation(), *folders),
        environment={"PYTHONHASHSEED": "0"},
        limits=limits,
    )


@cache
def interpreter() -> str:
    """The Python that this one's virtual environment was made of, or this one."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


@cache
def installation() -> tuple[str, ...]:
    """What that Python needs to run."""
    places = [interpreter(), sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    library = sysconfig.get_config_var("INSTSONAME")
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and library:
        places.append(os.path.join(sysconfig.get_config_var("LIBDIR"), library))
    return tuple(dict.fromkeys(place for place in places if os.path.exists(place)))


@cache
def harness() -> bytes:
    """The script that runs inside."""
    return Path(__file__).with_name(HARNESS).read_bytes()


@cache
def library_folders(libraries: tuple[str, ...]) -> tuple[str, ...]:
    """Where the packages are installed.

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
