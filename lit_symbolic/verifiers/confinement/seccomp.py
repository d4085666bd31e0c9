"""The seccomp filter: which system calls are refused, and why, as a classic BPF program for x86_64 and aarch64.

What is refused fails with an error, as on a kernel that lacks it, so a program can go on; calls of another architecture kill
the program. Calls newer than :data:`LAST_REVIEWED` are refused unseen. Written out here rather than through libseccomp, since
its Python bindings are LGPL and need that library installed; the tests run the program in an interpreter of BPF.

Source: https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import struct
from dataclasses import dataclass
from functools import lru_cache

from lit_symbolic.verifiers.confinement.syscalls import MACHINE, set_seccomp_filter

LAST_REVIEWED = 450
"""``set_mempolicy_home_node``. Libraries fall back where a newer call is unknown."""

AUDIT_ARCH = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
X32_BIT = 0x4000_0000

ALLOW, KILL, ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
LOAD, AND, JUMP_EQUAL, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06

AF_UNIX, SOCK_STREAM, SOCK_TYPE_MASK = 1, 1, 0xF
SETUID_BITS = 0o6000
O_CREAT, O_TMPFILE_BIT = 0o100, 0o20000000
NEW_NAMESPACES = 0x7E02_0080  # CLONE_NEW… of all kinds
TIOCSTI, TIOCLINUX = 0x5412, 0x541C

# Numbers on x86_64 and on aarch64; None where the call does not exist. Grouped by why they are refused.
NUMBERS: dict[str, dict[str, tuple[int | None, int | None]]] = {
    "other views of the file system": {
        "unshare": (272, 97),
        "setns": (308, 268),
        "mount": (165, 40),
        "umount2": (166, 39),
        "pivot_root": (155, 41),
        "chroot": (161, 51),
        "open_tree": (428, 428),
        "move_mount": (429, 429),
        "fsopen": (430, 430),
        "fsconfig": (431, 431),
        "fsmount": (432, 432),
        "fspick": (433, 433),
        "mount_setattr": (442, 442),
        "open_by_handle_at": (304, 265),
        "name_to_handle_at": (303, 264),
    },
    "other processes": {
        "ptrace": (101, 117),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "process_madvise": (440, 440),
        "process_mrelease": (448, 448),
        "pidfd_getfd": (438, 438),
        "kcmp": (312, 272),
        "migrate_pages": (256, 238),
        "move_pages": (279, 239),
    },
    "the network": {
        "socket": (41, 198),
        "bind": (49, 200),
        "connect": (42, 203),
        "listen": (50, 201),
        "accept": (43, 202),
        "accept4": (288, 242),
    },
    "memory that outlives its process or no limit counts": {
        "shmget": (29, 194),
        "shmat": (30, 196),
        "shmctl": (31, 195),
        "semget": (64, 190),
        "semctl": (66, 191),
        "semop": (65, 193),
        "msgget": (68, 186),
        "msgsnd": (69, 189),
        "msgrcv": (70, 188),
        "msgctl": (71, 187),
        "mq_open": (240, 180),
        "memfd_secret": (447, 447),
    },
    "parts of the kernel that no answer needs, and that are often at fault": {
        "bpf": (321, 280),
        "perf_event_open": (298, 241),
        "io_uring_setup": (425, 425),
        "io_uring_enter": (426, 426),
        "io_uring_register": (427, 427),
        "userfaultfd": (323, 282),
        "add_key": (248, 217),
        "request_key": (249, 218),
        "keyctl": (250, 219),
        "fanotify_init": (300, 262),
        "vmsplice": (278, 75),
        "personality": (135, 92),
        "modify_ldt": (154, None),
        "iopl": (172, None),
        "ioperm": (173, None),
        "uselib": (134, None),
        "ustat": (136, None),
        "sysfs": (139, None),
        "quotactl": (179, 60),
        "quotactl_fd": (443, 443),
        "lookup_dcookie": (212, 18),
    },
    "the machine": {
        "init_module": (175, 105),
        "finit_module": (313, 273),
        "delete_module": (176, 106),
        "kexec_load": (246, 104),
        "kexec_file_load": (320, 294),
        "reboot": (169, 142),
        "swapon": (167, 224),
        "swapoff": (168, 225),
        "syslog": (103, 116),
        "acct": (163, 89),
        "settimeofday": (164, 170),
        "clock_settime": (227, 112),
        "clock_adjtime": (305, 266),
        "adjtimex": (159, 171),
        "sethostname": (170, 161),
        "setdomainname": (171, 162),
        "vhangup": (153, 58),
    },
}
# Refused for some of their arguments, see _conditions.
CONDITIONAL: dict[str, tuple[int | None, int | None]] = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "prlimit64": (302, 261),
    "socketpair": (53, 199),
    "ioctl": (16, 29),
    "open": (2, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "creat": (85, None),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "mknod": (133, None),
    "mknodat": (259, 33),
}


@dataclass(frozen=True, slots=True)
class Argument:
    """Holds if ``argument & mask`` equals ``value``, or if it does not where ``negated``. Only the low 32 bits are seen."""

    index: int
    mask: int
    value: int
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """A system call that fails with ``error`` where all conditions hold."""

    name: str
    error: int = errno.EPERM
    conditions: tuple[Argument, ...] = ()


def refusals() -> list[Refusal]:
    """All that is refused, the unconditional first."""
    always = [Refusal(name) for group in NUMBERS.values() for name in group]
    return [
        *always,
        *(Refusal("clone", errno.EPERM, (Argument(0, 1 << bit, 1 << bit),)) for bit in range(32) if NEW_NAMESPACES >> bit & 1),
        # Their flags lie in memory, where no filter can look: programs fall back to clone and openat.
        Refusal("clone3", errno.ENOSYS),
        Refusal("openat2", errno.ENOSYS),
        # Of others: the one that stands over the execution may have the same user.
        Refusal("prlimit64", errno.EPERM, (Argument(0, 0xFFFF_FFFF, 0, negated=True),)),
        # A connected pair is a pipe; a datagram one could be sent elsewhere.
        Refusal("socketpair", errno.EACCES, (Argument(0, 0xFFFF_FFFF, AF_UNIX, negated=True),)),
        Refusal("socketpair", errno.EACCES, (Argument(1, SOCK_TYPE_MASK, SOCK_STREAM, negated=True),)),
        # Typing into the terminal.
        *(Refusal("ioctl", errno.EPERM, (Argument(1, 0xFFFF_FFFF, request),)) for request in (TIOCSTI, TIOCLINUX)),
        # A set-user-id file in a directory of the host would outlive the sandbox.
        *(_mode(name, index) for name, index in (("creat", 1), ("chmod", 1), ("fchmod", 1), ("fchmodat", 2))),
        *(_mode(name, index) for name, index in (("mkdir", 1), ("mkdirat", 2), ("mknod", 1), ("mknodat", 2))),
        *(
            Refusal(name, errno.EPERM, (Argument(index, flag, flag), Argument(index + 1, bit, bit)))
            for name, index in (("open", 1), ("openat", 2))
            for flag in (O_CREAT, O_TMPFILE_BIT)
            for bit in (0o4000, 0o2000)
        ),
    ]


def _mode(name: str, index: int) -> Refusal:
    return Refusal(name, errno.EPERM, (Argument(index, SETUID_BITS, 0, negated=True),))


@lru_cache
def program(machine: str = MACHINE) -> bytes:
    """The filter as an array of ``struct sock_filter``.

    Raises:
        KeyError: For an architecture without a table of numbers.

    Example:
        >>> len(program("x86_64")) % 8, program("x86_64") == program("aarch64")
        (0, False)
    """
    number_at, arch_at, arguments_at = 0, 4, 16
    column = list(AUDIT_ARCH).index(machine)
    numbers = {name: both[column] for group in (*NUMBERS.values(), CONDITIONAL) for name, both in group.items()}

    code = [(LOAD, 0, 0, arch_at), (JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]), (RETURN, 0, 0, KILL), (LOAD, 0, 0, number_at)]
    if machine == "x86_64":
        code += [(JUMP_GREATER_EQUAL, 0, 1, X32_BIT), (RETURN, 0, 0, KILL)]
    code += [(JUMP_GREATER_EQUAL, 0, 1, LAST_REVIEWED + 1), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    for refusal in refusals():
        number = numbers[refusal.name]
        if number is None:
            continue
        body: list[tuple[int, int, int, int]] = []
        for place, condition in enumerate(refusal.conditions):
            past = 3 * (len(refusal.conditions) - place - 1) + 1  # to the reload of the number, behind the return
            hold, fail = (past, 0) if condition.negated else (0, past)
            body += [
                (LOAD, 0, 0, arguments_at + 8 * condition.index),
                (AND, 0, 0, condition.mask),
                (JUMP_EQUAL, hold, fail, condition.value),
            ]
        body.append((RETURN, 0, 0, ERRNO | refusal.error))
        if refusal.conditions:
            body.append((LOAD, 0, 0, number_at))
        code += [(JUMP_EQUAL, 0, len(body), number), *body]
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(code: bytes) -> None:
    """Filter this process and all it starts from now on. ``PR_SET_NO_NEW_PRIVS`` must be set.

    Raises:
        OSError: If the kernel has no seccomp or refuses.
    """
    memory = ctypes.create_string_buffer(code, len(code))
    whole = _Program(len(code) // 8, ctypes.addressof(memory))
    set_seccomp_filter(ctypes.addressof(whole))
