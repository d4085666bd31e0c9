"""Folders for the temporary files of workers, which are killed and cannot clean up behind themselves."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

PREFIX = "lit-symbolic-pool-"
YOUNG_SECONDS = 60.0
"""A folder younger than this may belong to a pool that is about to lock it."""


class Workspace:
    """A folder for as long as the pool is open, locked so that others see it is in use.

    A trainer that is killed leaves its folder; the next pool of the same user on this machine removes it.

    Example:
        >>> workspace = Workspace()
        >>> workspace.path.is_dir()
        True
        >>> workspace.close()
        >>> workspace.path.exists()
        False
    """

    def __init__(self) -> None:
        remove_orphans()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = _locked(self.path / "lock")

    def close(self) -> None:
        """Remove the folder."""
        remove_folder(self.path)
        if self._lock is not None:
            self._lock.close()


def remove_orphans() -> None:
    """Remove the folders whose owner is gone."""
    if os.name != "posix":
        return
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            found = path.lstat()
            if found.st_uid != os.getuid() or path.is_symlink() or time.time() - found.st_mtime < YOUNG_SECONDS:
                continue
            lock = _locked(path / "lock")
            if lock is not None:
                remove_folder(path)
                lock.close()


def remove_folder(path: str | Path) -> None:
    """Remove a folder, also one in which permissions were taken away, or a process that is dying still writes."""
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return
        for parent, folders, _ in os.walk(path):
            for folder in folders:
                inside = os.path.join(parent, folder)
                if not os.path.islink(inside):
                    with suppress(OSError):
                        os.chmod(inside, 0o700)
        time.sleep(0.02)


def _locked(path: Path) -> IO[bytes] | None:
    """The file, opened and locked; ``None`` where another process has the lock."""
    if os.name != "posix":
        return None
    import fcntl

    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
