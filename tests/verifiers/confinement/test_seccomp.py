"""The filter in an interpreter of classic BPF, and its numbers beside the system's own headers."""

import errno
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.verifiers.confinement import seccomp
from lit_symbolic.verifiers.confinement.seccomp import ALLOW, AUDIT_ARCH, ERRNO, KILL, program

MACHINES = list(AUDIT_ARCH)
TABLE = {name: numbers for group in (*seccomp.NUMBERS.values(), seccomp.CONDITIONAL) for name, numbers in group.items()}
HEADERS = {
    "x86_64": (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), r"#define __NR_(\w+)\s+(\d+)"),
    "aarch64": (Path("/usr/include/asm-generic/unistd.h"), r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
}


def run(code: bytes, arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would do: https://www.kernel.org/doc/Documentation/networking/filter.txt"""
    data = struct.pack("<IIQ6Q", number, arch, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    accumulator, at = 0, 0
    while True:
        kind, yes, no, k = struct.unpack_from("<HBBI", code, 8 * at)
        at += 1
        match kind:
            case 0x20:  # ld [k]
                accumulator = struct.unpack_from("<I", data, k)[0]
            case 0x54:  # and k
                accumulator &= k
            case 0x15:  # jeq
                at += yes if accumulator == k else no
            case 0x35:  # jge
                at += yes if accumulator >= k else no
            case 0x06:  # ret
                return k
            case _:
                raise AssertionError(hex(kind))


def call(machine: str, name: str, *arguments: int) -> int:
    number = TABLE[name][MACHINES.index(machine)]
    assert number is not None
    return run(program(machine), AUDIT_ARCH[machine], number, arguments)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_refused_call_fails_with_its_error_whatever_its_arguments(machine: str) -> None:
    column = MACHINES.index(machine)
    for refusal in seccomp.refusals():
        number = TABLE[refusal.name][column]
        if number is not None and not refusal.conditions:
            for arguments in ((), (2**64 - 1,) * 6):
                assert run(program(machine), AUDIT_ARCH[machine], number, arguments) == ERRNO | refusal.error, refusal.name


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_are_refused_for_their_arguments(machine: str) -> None:
    denied = ERRNO | errno.EPERM
    assert call(machine, "clone", 0x11) == ALLOW  # fork
    assert call(machine, "clone", 0x3D0F00) == ALLOW  # a thread
    for bit in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert call(machine, "clone", 0x11 | bit) == denied
    assert call(machine, "socketpair", 1, 1) == ALLOW
    assert call(machine, "socketpair", 1, 1 | 0o2000000 | 0o4000) == ALLOW  # close on exec, not blocking
    assert call(machine, "socketpair", 1, 2) == call(machine, "socketpair", 2, 1) == ERRNO | errno.EACCES
    assert call(machine, "ioctl", 1, 0x5413) == ALLOW
    assert call(machine, "ioctl", 1, 0x5412) == denied
    assert call(machine, "prlimit64", 0, 7) == ALLOW
    assert call(machine, "prlimit64", 1, 7) == denied
    for mode, verdict in ((0o777, ALLOW), (0o4755, denied), (0o2755, denied), (0o6755, denied)):
        assert call(machine, "fchmod", 3, mode) == verdict
        assert call(machine, "fchmodat", 3, 0, mode) == verdict
        assert call(machine, "mkdirat", 3, 0, mode) == verdict
        assert call(machine, "mknodat", 3, 0, 0o100000 | mode) == verdict
        assert call(machine, "openat", 3, 0, 0o102, mode) == verdict
        assert call(machine, "openat", 3, 0, 0o20200002, mode) == verdict  # O_TMPFILE
        assert call(machine, "openat", 3, 0, 2, mode) == ALLOW  # makes no file: what stands there is not a mode


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_kills(machine: str) -> None:
    other = {"x86_64": 0x4000_0003, "aarch64": 0x4000_0028}[machine]  # i386, arm
    assert run(program(machine), other, 1) == KILL
    assert run(program(machine), AUDIT_ARCH[MACHINES[1 - MACHINES.index(machine)]], 1) == KILL


def test_the_x32_calls_kill() -> None:
    assert run(program("x86_64"), AUDIT_ARCH["x86_64"], 0x4000_0000 | 1) == KILL


@given(st.sampled_from(MACHINES), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_what_is_not_in_the_table_is_allowed_up_to_the_last_that_was_reviewed(
    machine: str, number: int, arguments: list[int]
) -> None:
    column = MACHINES.index(machine)
    verdict = run(program(machine), AUDIT_ARCH[machine], number, tuple(arguments))
    if machine == "x86_64" and number >= 0x4000_0000:
        assert verdict == KILL
    elif number > seccomp.LAST_REVIEWED:
        assert verdict == ERRNO | errno.ENOSYS
    elif number not in {numbers[column] for numbers in TABLE.values()}:
        assert verdict == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_systems_headers(machine: str) -> None:
    path, pattern = HEADERS[machine]
    if not path.exists():
        pytest.skip(f"needs {path}")
    known = dict(re.findall(pattern, path.read_text()))
    for name, numbers in TABLE.items():
        number = numbers[MACHINES.index(machine)]
        if number is not None and name in known:
            assert known[name] == str(number), name
        else:
            assert number is None or machine == "aarch64", name  # the generic table writes some behind macros
    assert sum(name in known for name in TABLE) > 60
