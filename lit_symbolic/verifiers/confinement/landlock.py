"""Landlock: the kernel's own list of what a process may do with files, sockets and other processes, from within.

It holds beside the mount namespace: what is mounted is what can be seen, Landlock is what can be done with it. A small module of
its own, since the package on PyPI is a pre-release without the rules for networks and signals.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from enum import IntFlag

from lit_symbolic.verifiers.confinement.syscalls import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_CREATE_RULESET_VERSION = 1


class Access(IntFlag):
    """What can be allowed beneath a path."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


READ = Access.EXECUTE | Access.READ_FILE | Access.READ_DIR
DEVICE = Access.READ_FILE | Access.WRITE_FILE
HOST_DIRECTORY = (
    READ
    | Access.WRITE_FILE
    | Access.REMOVE_DIR
    | Access.REMOVE_FILE
    | Access.MAKE_DIR
    | Access.MAKE_REG
    | Access.REFER
    | Access.TRUNCATE
)
"""A directory that outlives the execution: no links, pipes or sockets are left in it."""
PRIVATE_DIRECTORY = HOST_DIRECTORY | Access.MAKE_SYM | Access.MAKE_FIFO

_OF_FILES = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
# Which rights a kernel knows, by its version of Landlock.
_SINCE = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}


def abi() -> int:
    """The kernel's version of Landlock.

    Raises:
        OSError: If it has none, or it is switched off.
    """
    return syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)


def restrict(rules: Iterable[tuple[str, Access]]) -> None:
    """Allow this process and all it starts these accesses and no other; a path that this process
    cannot see is passed over.

    Where the kernel knows how (Linux 6.7 and 6.12), TCP is refused too, and so are signals and abstract sockets to processes
    outside. ``PR_SET_NO_NEW_PRIVS`` must be set.

    Raises:
        OSError: If the kernel has no Landlock or refuses.
    """
    version = abi()
    handled = _SINCE[max(known for known in _SINCE if known <= version)]
    tcp = 0b11 if version >= 4 else 0  # bind, connect
    scoped = 0b11 if version >= 6 else 0  # abstract sockets, signals
    attributes = b"".join(value.to_bytes(8, "little") for value in (handled, tcp, scoped))
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = syscall(_CREATE_RULESET, attributes, size, 0)
    try:
        for path, access in rules:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except (FileNotFoundError, PermissionError):
                continue
            try:
                allowed = int(access) & handled
                if not stat.S_ISDIR(os.fstat(fd).st_mode):
                    allowed &= int(_OF_FILES)
                rule = allowed.to_bytes(8, "little") + fd.to_bytes(4, "little")
                syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
            finally:
                os.close(fd)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
