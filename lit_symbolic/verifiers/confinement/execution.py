"""What one execution may use, and what became of it."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from enum import StrEnum

from lit_symbolic.verifiers.confinement.launch import Ending


class Outcome(StrEnum):
    """How an execution ended."""

    EXITED = "exited"
    """By itself, with a return code."""
    SIGNALED = "signaled"
    """By a signal, its own or one for a limit of file size."""
    TIMEOUT = "timeout"
    """Its wall time or its processor time was used up; :attr:`Execution.cpu_seconds` tells which."""
    OUTPUT_LIMIT = "output_limit"
    """It wrote more than is read."""
    MEMORY_LIMIT = "memory_limit"
    """It failed, and its last words on standard error are those of a program that gets no memory. Others end as they like."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one execution may use.

    Args:
        wall_seconds: From when the command is executed, or a prestarted one is given its input.
        cpu_seconds: Processor time of each process.
        memory_megabytes: Address space of each process.
        processes: Processes and threads at a time.
        file_megabytes: Size of a single file.
        tmpfs_megabytes: Size of the private tmpfs.
        open_files: Descriptors of each process.
        output_bytes: Read of each of standard output and standard error.
        inodes: Files, folders and links in the private tmpfs.
    """

    wall_seconds: float = 10.0
    cpu_seconds: int = 5
    memory_megabytes: int = 512
    processes: int = 16
    file_megabytes: int = 16
    tmpfs_megabytes: int = 64
    open_files: int = 64
    output_bytes: int = 65_536
    inodes: int = 4_096


@dataclass(frozen=True, slots=True)
class Execution:
    """What became of one command.

    Args:
        outcome: How it ended.
        returncode: As of a shell's command; negative for the signal that ended it; 127 if it could not be executed.
        stdout: What it wrote there, up to the limit.
        stderr: The same, of standard error.
        truncated: Whether it wrote more.
        wall_seconds: From when it ran until nothing of it was left.
        cpu_seconds: Processor time of the command and of those of its children that it waited for.
    """

    outcome: Outcome
    returncode: int
    stdout: bytes
    stderr: bytes
    truncated: bool
    wall_seconds: float
    cpu_seconds: float


def resource_limits(limits: Limits) -> tuple[tuple[int, int, int], ...]:
    """For ``setrlimit``: which, soft, hard."""
    bounds = {
        resource.RLIMIT_AS: limits.memory_megabytes << 20,
        resource.RLIMIT_FSIZE: limits.file_megabytes << 20,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_NPROC: limits.processes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    # The signal at the soft limit can be ignored, the one at the hard limit not.
    return ((resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1), *((kind, n, n) for kind, n in bounds.items()))


_NO_MEMORY = (b"std::bad_alloc", b"MemoryError", b"out of memory", b"virtual memory exhausted", b"Cannot allocate memory")
_SIGXCPU, _SIGKILL = 24, 9


def outcome_of(ending: Ending, limits: Limits) -> Outcome:
    """How a command ended, from its return code, its last words and what stopped it."""
    if ending.truncated:
        return Outcome.OUTPUT_LIMIT
    used_up = ending.returncode == -_SIGKILL and ending.cpu_seconds >= limits.cpu_seconds
    if ending.stopped or ending.returncode == -_SIGXCPU or used_up:
        return Outcome.TIMEOUT
    if ending.returncode != 0 and any(words in ending.stderr[-4_096:] for words in _NO_MEMORY):
        return Outcome.MEMORY_LIMIT
    return Outcome.SIGNALED if ending.returncode < 0 else Outcome.EXITED
