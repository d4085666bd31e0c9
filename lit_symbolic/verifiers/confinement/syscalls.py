"""The few system calls that Python's ``os`` does not offer, by ctypes; each raises ``OSError`` with the kernel's reason.

Nothing here imports anything beyond the standard library, and loading it starts no thread: the sandbox's server forks often.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from collections.abc import Iterable
from contextlib import suppress

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT = 1, 2, 4, 32
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x4_0000
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_IDMAP = 1, 2, 4, 0x10_0000

PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 22, 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN = 0, 5, 6, 7, 21

# Beyond 423 the numbers are the same on every architecture.
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
SYS_CLONE = {"x86_64": 56, "aarch64": 220}
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}

MACHINE = platform.machine()

_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_CAPABILITY_VERSION_3 = 0x2008_0522

_libc = ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: int | bytes | None) -> int:
    """Any system call by its number.

    Raises:
        OSError: If it failed.
    """
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *converted), f"system call {number}")


def clone(flags: int) -> int:
    """Fork into new namespaces: 0 in the child, which is the first process of a new pid namespace, else the child's pid.

    Unlike ``os.fork`` it runs no hooks of Python, which would cost more than the fork itself. Only for a process with one thread.
    """
    return syscall(SYS_CLONE[MACHINE], flags | signal.SIGCHLD, 0, 0, 0, 0)


def unshare(flags: int) -> None:
    """Give this process namespaces of its own (``CLONE_NEW…``)."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Join the namespaces of the process that a pidfd stands for."""
    _checked(_libc.setns(fd, flags), "setns")


def prctl(option: int, *arguments: int) -> int:
    """Set a property of this process."""
    padded = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return _checked(_libc.prctl(option, *padded), f"prctl {option}")


def set_seccomp_filter(program_address: int) -> None:
    """Install a seccomp program, given by the address of its ``struct sock_fprog``."""
    mode_filter = 2
    prctl(PR_SET_SECCOMP, mode_filter, program_address)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """``mount(2)``."""
    arguments = (source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _checked(_libc.mount(*arguments), f"mount {kind or 'change'} on {target}")


def unmount(target: str) -> None:
    """Detach a mount, busy or not."""
    _checked(_libc.umount2(os.fsencode(target), MNT_DETACH), f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make ``new`` the root of this mount namespace and put the old root at ``old``."""
    syscall(SYS_PIVOT_ROOT[MACHINE], os.fsencode(new), os.fsencode(old))


def clone_mount(path: str, attributes: int, owners: int | None = None) -> int:
    """A detached copy of the tree at ``path``, as a file descriptor.

    Args:
        path: On this mount namespace.
        attributes: ``MOUNT_ATTR_…``, set on all mounts of the copy.
        owners: User namespace whose map gives the files other owners in the copy, where the file system can do that.
    """
    try:
        fd = syscall(SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE)
        _set_mount_attributes(fd, attributes)
    except OSError as error:
        raise OSError(error.errno, f"bind {path}: {error.strerror}") from None
    if owners is not None:
        with suppress(OSError):
            _set_mount_attributes(fd, MOUNT_ATTR_IDMAP, owners)
    return fd


def _set_mount_attributes(fd: int, attributes: int, namespace: int = 0) -> None:
    structure = b"".join(value.to_bytes(8, "little") for value in (attributes, 0, 0, namespace))
    syscall(SYS_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, structure, len(structure))


def attach_mount(fd: int, target: str) -> None:
    """Put a detached mount at ``target``."""
    syscall(SYS_MOVE_MOUNT, fd, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)


def has_capabilities(capabilities: Iterable[int]) -> bool:
    """Whether this process has all of them in effect."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return all(effective >> capability & 1 for capability in capabilities)


def drop_capabilities() -> None:
    """Give up every capability; with ``PR_SET_NO_NEW_PRIVS`` for good."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4)
    syscall(SYS_CAPSET[MACHINE], header, bytes(24))


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
