"""The compiler with its linker, and its precompiled header: found once, built once for all workers and all runs.

Reading ``bits/stdc++.h`` takes g++ most of a second; the header precompiled, about a tenth of that. It is kept in a folder
named by everything that it depends on. Workers of any number of trainers may want it at once: one builds it under a lock and
moves it into place whole. Programs in the sandbox can read it and not write it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lit_symbolic.verifiers.base import ToolUnavailable

BUILD_SECONDS = 900
QUICK_LINKER = "-fuse-ld=gold"
"""The usual linker of binutils takes a third of the time of compiling and linking a short program; this one, which binutils has too, a
third of that."""
INSTALL = "Debian and Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; Arch: pacman -S gcc"


class CompilerUnavailable(ToolUnavailable):
    """The compiler is missing or does not work; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A compiler of this machine.

    Args:
        path: Its executable.
        identity: Text that changes whenever the compiler does.
        readable: Folders outside ``/usr`` that it lives in.
        quick_linker: Flags that choose :data:`QUICK_LINKER`; none if the compiler does not find it.
    """

    path: str
    identity: str
    readable: tuple[str, ...]
    quick_linker: tuple[str, ...]


@lru_cache
def toolchain(compiler: str) -> Toolchain:
    """Find a compiler.

    Args:
        compiler: Its name or path.

    Raises:
        CompilerUnavailable: If it is not there, or is not g++.
    """
    path = shutil.which(compiler)
    if path is None:
        raise CompilerUnavailable(f"C++ answers are verified with {compiler}, which was not found. Install it ({INSTALL})")
    try:
        asked = [[path, "--version"], [path, "-print-prog-name=cc1plus"]]
        version, cc1plus = (subprocess.run(ask, capture_output=True, text=True, timeout=60).stdout for ask in asked)
        quick = subprocess.run([path, QUICK_LINKER, "-Wl,--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.SubprocessError) as error:
        raise CompilerUnavailable(f"{path} does not run: {error}") from error
    back_end = Path(cc1plus.strip())
    if not back_end.is_absolute():
        raise CompilerUnavailable(f"{path} is no g++ with a C++ compiler behind it. Install one ({INSTALL})")
    facts = back_end.resolve().stat()
    folders = {str(Path(tool).resolve().parent.parent) for tool in (path, back_end)}
    return Toolchain(
        path=path,
        identity=f"{path}\n{version}\n{back_end}\n{facts.st_size}\n{facts.st_mtime_ns}",
        readable=tuple(sorted(folder for folder in folders if not folder.startswith("/usr"))),
        quick_linker=(QUICK_LINKER,) if quick else (),
    )


def prelude(compiler: str, flags: Sequence[str], headers: Sequence[str], cache_dir: str | None = None) -> Path:
    """The header that includes ``headers``, precompiled beside it; built if it is not there yet (seconds).

    Args:
        compiler: Name or path of g++.
        flags: Those that the programs are compiled with: a precompiled header serves no others.
        headers: Names as between ``<`` and ``>``.
        cache_dir: Folder that keeps it; None is the user's cache.

    Returns:
        Path for ``-include``; it stands in a folder that holds nothing else.

    Raises:
        CompilerUnavailable: If there is no compiler, or it cannot compile the headers.
    """
    tool = toolchain(compiler)
    key = hashlib.sha256("\0".join([tool.identity, *flags, "", *headers]).encode()).hexdigest()[:24]
    root = Path(cache_dir) if cache_dir is not None else default_cache_dir()
    # Closed to others: what lies in it is compiled into every answer. The sandbox mounts the header's own folder, open to all,
    # from within the rights of who asked, so that who executes needs no way through this one.
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    if root.stat().st_uid != os.geteuid():
        raise CompilerUnavailable(f"{root} belongs to somebody else: name a folder of your own as cache_dir")
    folder = root / key
    if not (folder / "prelude.h.gch").exists():
        with open(root / f"{key}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "prelude.h.gch").exists():
                _build(tool, flags, headers, folder)
    return folder / "prelude.h"


def _build(tool: Toolchain, flags: Sequence[str], headers: Sequence[str], folder: Path) -> None:
    """Build it beside its place and move it there. Called under the lock: what lies beside it, somebody's end left there."""
    for left_behind in folder.parent.glob(f"{folder.name}.*.partial"):
        shutil.rmtree(left_behind, ignore_errors=True)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        source = partial / "prelude.h"
        source.write_text("".join(f"#include <{header}>\n" for header in headers))
        command = [tool.path, *flags, "-w", "-x", "c++-header", str(source), "-o", f"{source}.gch"]
        built = _run_whole(command)
        if built.returncode != 0:
            words = built.stderr.strip()[-1000:]
            raise CompilerUnavailable(f"the shared header <{'>, <'.join(headers)}> does not compile: {words}")
        for path, mode in ((partial, 0o755), (source, 0o644), (Path(f"{source}.gch"), 0o644)):
            path.chmod(mode)  # programs in the sandbox have no user's rights
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run_whole(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the compiler; what it starts ends with it, also when it is out of time: a process group, in this session."""
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, process_group=0, **options) as process:
        try:
            _, words = process.communicate(timeout=BUILD_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise CompilerUnavailable(f"the shared header was not compiled within {BUILD_SECONDS} s: {command}") from error
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, "", words)


def default_cache_dir() -> Path:
    """``lit_symbolic/cpp`` in the user's cache folder, or in the folder for temporary files where that cannot be written."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    for root in (cache / "lit_symbolic", Path(tempfile.gettempdir(), f"lit_symbolic-{os.geteuid()}")):
        try:
            (root / "cpp").mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(root / "cpp", os.W_OK):
            return root / "cpp"
    raise CompilerUnavailable("no folder for the shared header can be written: name one as cache_dir")
