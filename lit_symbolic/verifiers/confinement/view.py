"""What an execution sees of the file system: a few paths of the host, read-only, and its own directory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

WORK, TEMPORARY = "/work", "/tmp"
"""Where an execution may write: one private tmpfs, seen at both; or a directory of the host, and the tmpfs at the second."""
DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What the dynamic linker and the names g++, cc, python3 need of /etc.
_ETC = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives")


@dataclass(frozen=True, slots=True)
class View:
    """Paths of the host as an execution sees them.

    Args:
        readable: Pairs of a path without links on the host, and where it is seen; a folder stands before what lies in it.
        links: Symbolic links: their place and where they point.
        extra: Those of ``readable`` that are not the system's.
        identities: Device and inode of each of those: what was removed and made anew is not the same.
    """

    readable: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]
    extra: tuple[tuple[str, str], ...] = ()
    identities: tuple[tuple[int, int], ...] = ()


def minimal_view(extra: Sequence[str] = ()) -> View:
    """The system's programs and libraries, and ``extra`` paths of the host.

    Raises:
        ValueError: If an extra path is not absolute, is the whole file system, or does not exist.

    Example:
        >>> any(seen == "/usr" for _, seen in minimal_view().readable)
        True
        >>> any(seen.startswith("/etc/passwd") or seen == "/etc" for _, seen in minimal_view().readable)
        False
    """
    system = _system()
    if not extra:
        return system
    for path in extra:
        if not os.path.isabs(path) or os.path.realpath(path) == "/":
            raise ValueError(f"a readable path is absolute and not the whole file system, got {path!r}")
        if not os.path.exists(path):
            raise ValueError(f"a readable path exists, {path!r} does not")
        if os.path.normpath(path) in (WORK, TEMPORARY):
            raise ValueError(f"{path} is where an execution writes; only what lies in it can be readable")
    wanted = {(os.path.realpath(path), os.path.normpath(path)) for path in extra}
    # A folder comes before what lies in it, which it would else hide; what a folder shows already is not shown again.
    shown: list[tuple[str, str]] = []
    for source, seen in sorted({*system.readable, *wanted}, key=lambda pair: pair[1]):
        if not any(within(seen, above) and source == at + seen[len(above) :] for at, above in shown):
            shown.append((source, seen))
    added = tuple(pair for pair in shown if pair not in system.readable)
    found = [os.stat(source) for source, _ in added]
    return View(tuple(shown), system.links, added, tuple((stat.st_dev, stat.st_ino) for stat in found))


@cache
def _system() -> View:
    readable, links = [], []
    for path in (*_SYSTEM, *_ETC):
        if os.path.islink(path) and path in _SYSTEM:
            links.append((path, os.readlink(path)))
        elif os.path.exists(path):
            readable.append((os.path.realpath(path), path))
    return View(tuple(sorted(readable, key=lambda pair: pair[1])), tuple(links))


def within(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it.

    Example:
        >>> within("/work/a", "/work"), within("/workshop", "/work")
        (True, False)
    """
    return path == folder or path.startswith(folder + "/")
