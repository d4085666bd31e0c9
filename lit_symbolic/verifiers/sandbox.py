"""The sandbox: everything that a model wrote is executed in it, in a directory and namespaces of its own, once.

Each execution has its own user, mount, pid, network, ipc, uts and cgroup namespace, made by bubblewrap where it is installed and
by the kernel's own means where it is not; a root directory that holds the system's programs and libraries, read-only, and a
private tmpfs with a limit of bytes and inodes; Landlock; a seccomp filter; resource limits; no capabilities and no way to gain
any; an environment of its own. It is executed as nobody, also where root asks. Its output is read up to a limit. When it ends,
or is out of time, everything in its pid namespace is killed and gone before :meth:`Sandbox.run` returns; also when the process
that asked is killed.

Covered, each by a test that shows the attack contained, and where that is safe, that it bites without its layer: fork bombs,
daemons, double forks, ignored signals; endless loops, sleep, output; memory, disk, inodes, processes, descriptors, shared memory;
reading or writing anything of the host but the system's programs, at compile time too; sockets of all kinds; ptrace, signals to
others, ``/proc``, secrets of the environment; links that point out; core dumps, set-user-id programs; making namespaces and
mounts inside.

Not covered:

- A fault of the kernel, or of the processor. The filter refuses the parts of the kernel that are most often at fault, but an
  execution shares the kernel with the trainer. Where that is not enough, run the trainer in a virtual machine.
- The sum of memory: the limit is each process's address space, so ``processes * memory_megabytes`` beside the tmpfs and files in
  memory (``open_files * file_megabytes`` for each process). Allow one process where one is enough. The kernel, short of memory,
  takes it from here first.
- Speed: processor time is limited, caches and memory bandwidth are shared, so an execution can slow down and time others.
- What is world-readable under ``/usr``, ``/lib``, ``/bin``: a secret that was put there can be read.
- A ``writable_dir`` is bounded by file, not as a whole; what lies in it afterwards is hostile.
- ``best_effort`` and ``off`` say by their name what they are.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from lit_symbolic.verifiers.confinement import landlock, seccomp, syscalls
from lit_symbolic.verifiers.confinement.launch import Ending, Launch, NotConfined, Vanished
from lit_symbolic.verifiers.confinement.root import Root
from lit_symbolic.verifiers.confinement.runner import Request
from lit_symbolic.verifiers.confinement.server import Place
from lit_symbolic.verifiers.confinement.view import TEMPORARY, WORK, minimal_view
from lit_symbolic.verifiers.workspace import PREFIX, remove_folder

_LOGGER = logging.getLogger(__name__)


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


class Layer(StrEnum):
    """One of the walls. Each holds by itself."""

    USER_NAMESPACE = "user namespace"
    MOUNT_NAMESPACE = "mount namespace"
    PID_NAMESPACE = "pid namespace"
    NETWORK_NAMESPACE = "network namespace"
    IPC_NAMESPACE = "ipc namespace"
    UTS_NAMESPACE = "uts namespace"
    CGROUP_NAMESPACE = "cgroup namespace"
    TMPFS = "private tmpfs"
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"
    RLIMITS = "resource limits"


_NAMESPACES = {
    Layer.USER_NAMESPACE: syscalls.CLONE_NEWUSER,
    Layer.MOUNT_NAMESPACE: syscalls.CLONE_NEWNS,
    Layer.PID_NAMESPACE: syscalls.CLONE_NEWPID,
    Layer.NETWORK_NAMESPACE: syscalls.CLONE_NEWNET,
    Layer.IPC_NAMESPACE: syscalls.CLONE_NEWIPC,
    Layer.UTS_NAMESPACE: syscalls.CLONE_NEWUTS,
    Layer.CGROUP_NAMESPACE: syscalls.CLONE_NEWCGROUP,
}
_OF_BUBBLEWRAP = {Layer.USER_NAMESPACE, Layer.MOUNT_NAMESPACE, Layer.PID_NAMESPACE}
"""Without one of these it cannot serve."""


class SandboxUnavailable(RuntimeError):
    """The sandbox is required and cannot be had here; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Layers:
    """Which layers are active, by what means the namespaces are made, and why other layers are missing.

    Example:
        >>> print(Layers(frozenset({Layer.LANDLOCK, Layer.SECCOMP}), "", {Layer.TMPFS: "no mount namespace"}))
        active: landlock, seccomp
        missing: private tmpfs (no mount namespace)
    """

    active: frozenset[Layer]
    means: str
    missing: Mapping[Layer, str] = field(default_factory=dict)

    def __str__(self) -> str:
        active = ", ".join(layer for layer in Layer if layer in self.active) or "none"
        lines = [f"active: {active}" + (f"; namespaces by {self.means}" if self.means else "")]
        by_reason: dict[str, list[Layer]] = {}
        for layer, reason in self.missing.items():
            by_reason.setdefault(reason, []).append(layer)
        lines += [f"missing: {', '.join(layers)} ({reason})" for reason, layers in by_reason.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class Sandbox:
    """How to execute what a model wrote. Picklable; what it starts belongs to the process that uses it.

    Args:
        mode: ``required`` refuses where a layer is missing; ``best_effort`` goes on with those that can be had and warns;
            ``off`` has only resource limits and a directory of its own, for programs that are trusted.
        means: Who makes the namespaces: ``bubblewrap``, the ``kernel`` asked directly, or whichever works, in that order.
        without: Layers to leave out, to test the others.

    Example:
        >>> execution = Sandbox(mode="best_effort").run(["cat", "name", "-"], files={"name": b"Hello, "}, stdin=b"world")
        >>> execution.outcome.value, execution.returncode, execution.stdout
        ('exited', 0, b'Hello, world')
    """

    mode: Literal["required", "best_effort", "off"] = "required"
    means: Literal["auto", "bubblewrap", "kernel"] = "auto"
    without: frozenset[Layer] = frozenset()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        files: Mapping[str, bytes] = {},
        readable: Sequence[str] = (),
        writable_dir: str | None = None,
        environment: Mapping[str, str] = {},
        limits: Limits = Limits(),
    ) -> Execution:
        """Execute a command and return when nothing of it is left. Any thread may call it.

        Args:
            argv: The command; without a slash it is looked up in ``PATH``.
            stdin: Its standard input.
            files: By their names, written executable into the private working directory ``/work``.
            readable: Paths of the host that are seen beside the system's programs and libraries, at the same place, read-only.
            writable_dir: Directory of the host that is seen as ``/work`` instead of a private tmpfs, for the output of a
                compiler. Programs leave no links, pipes and sockets in it, else anything: read it without trust.
            environment: Beside ``PATH``, ``HOME``, ``TMPDIR`` and ``LANG``; nothing is inherited.
            limits: What it may use.

        Raises:
            SandboxUnavailable: If the sandbox cannot be had and is required.
            ValueError: If an argument cannot be: a readable path that does not exist, a file outside the directory.
        """
        with self.prestart(
            argv, files=files, readable=readable, writable_dir=writable_dir, environment=environment, limits=limits
        ) as prepared:
            return prepared.run(stdin)

    def prestart(
        self,
        argv: Sequence[str] | None,
        *,
        modules: Sequence[str] = (),
        files: Mapping[str, bytes] = {},
        readable: Sequence[str] = (),
        writable_dir: str | None = None,
        environment: Mapping[str, str] = {},
        limits: Limits = Limits(),
    ) -> Prepared:
        """Start a command now, in its sandbox; it is given its standard input later, once, and then thrown away.

        Args:
            argv: The command. None is a Python interpreter of the trainer's version, forked ready with ``modules`` imported,
                that executes the source it is given as ``__main__``: many times faster than starting one. What it imports
                later must be ``readable``.
            modules: Only without a command: what is imported ahead, in a process that never sees an answer.
            files: See :meth:`run`, as for all that follows.
            readable: Paths of the host.
            writable_dir: A directory of the host.
            environment: Of the command.
            limits: Wall time is counted from when the input is given.
        """
        _check(argv, modules, files, limits)
        layers = self.layers()
        if self.mode == "required" and layers.missing:
            raise SandboxUnavailable(_advice(layers))
        view = minimal_view(tuple(readable))
        if writable_dir is not None:
            if not os.path.isdir(writable_dir):
                raise ValueError(f"writable_dir is a directory that exists, got {writable_dir!r}")
            if hidden := [seen for _, seen in view.extra if f"{seen}/".startswith(f"{WORK}/")]:
                raise ValueError(f"{hidden[0]} cannot be readable: writable_dir takes its place at {WORK}")
        own = tempfile.mkdtemp(prefix=f"{PREFIX}run-") if writable_dir is None and Layer.TMPFS not in layers.active else None
        directory = writable_dir or own
        directory = directory and os.path.realpath(directory)
        namespaces = sum(flag for layer, flag in _NAMESPACES.items() if layer in layers.active)
        root = None
        if namespaces & syscalls.CLONE_NEWNS:
            root = Root(view, directory, shutil.which("bwrap") if layers.means == "bubblewrap" else None)
        gives_up_root = self.mode != "off" and Layer.USER_NAMESPACE not in self.without
        work = directory if directory and root is None else WORK
        request = Request(
            argv=None if argv is None else tuple(argv),
            environment={
                "PATH": "/usr/bin:/bin",
                "HOME": work,
                "TMPDIR": TEMPORARY if Layer.TMPFS in layers.active else work,
                "LANG": "C.UTF-8",
                **environment,
            },
            files=dict(files),
            view=view,
            work=work,
            outlives=writable_dir is not None,
            tmpfs=(limits.tmpfs_megabytes << 20, limits.inodes) if Layer.TMPFS in layers.active else None,
            landlock=Layer.LANDLOCK in layers.active,
            seccomp=Layer.SECCOMP in layers.active,
            limits=_resource_limits(limits) if Layer.RLIMITS in layers.active else (),
        )
        return Prepared(Place(namespaces, root, gives_up_root), request, tuple(modules), limits, own)

    def layers(self) -> Layers:
        """Which layers are active here, found out by executing ``true`` once in this process's life."""
        if self not in _FOUND:
            _FOUND[self] = found = _find_layers(self)
            if self.mode == "required" or not found.missing:
                _LOGGER.info("sandbox: %s", found)
            else:
                warnings.warn(f"the sandbox is {self.mode}, layers are missing\n{found}", stacklevel=3)
        return _FOUND[self]


class Prepared:
    """A command that was started ahead and waits for its input. For one :meth:`run`, by any thread; close it if it is not used.

    Example:
        >>> with Sandbox(mode="best_effort").prestart(["cat"]) as prepared:
        ...     prepared.run(b"late").stdout
        b'late'
    """

    def __init__(
        self, place: Place, request: Request, modules: tuple[str, ...], limits: Limits, own_directory: str | None
    ) -> None:
        self._what = place, request, modules
        self._limits = limits
        self._own_directory = own_directory
        self._launch: Launch | None = None
        try:
            self._launch = Launch(*self._what)
        except BaseException:
            self.close()
            raise

    def run(self, stdin: bytes) -> Execution:
        """Give the command its input and return when nothing of it is left.

        Raises:
            SandboxUnavailable: If the sandbox could not be made.
            RuntimeError: If it was used, or closed, before.
        """
        launch, self._launch = self._launch, None
        if launch is None:
            raise RuntimeError("a prestarted command is used once")
        try:
            try:
                launch.wait_until_running()
            except Vanished:
                launch = Launch(*self._what)
                launch.wait_until_running()
            ending = launch.communicate(stdin, self._limits.wall_seconds, self._limits.output_bytes)
        except NotConfined as error:
            raise SandboxUnavailable(f"the sandbox could not be made: {error}") from None
        finally:
            launch.close()
            self.close()
        return Execution(
            outcome=_outcome(ending, self._limits),
            returncode=ending.returncode,
            stdout=ending.stdout,
            stderr=ending.stderr,
            truncated=ending.truncated,
            wall_seconds=ending.wall_seconds,
            cpu_seconds=ending.cpu_seconds,
        )

    def close(self) -> None:
        """Have the command killed, if it was not used. May be called any number of times."""
        if self._launch is not None:
            self._launch.close()
            self._launch = None
        if self._own_directory is not None:
            remove_folder(self._own_directory)
            self._own_directory = None

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_launch", None) is not None:
            self.close()


def _check(argv: Sequence[str] | None, modules: Sequence[str], files: Mapping[str, bytes], limits: Limits) -> None:
    if argv is not None and (isinstance(argv, str) or not argv or any("\0" in word for word in argv)):
        raise ValueError(f"a command is a sequence of at least one word, without null characters; got {argv!r}")
    if argv is not None and modules:
        raise ValueError("modules are imported ahead only where there is no command")
    for name in files:
        parts = name.split("/")
        if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"a file's name is a relative path without . and .., got {name!r}")
    size = sum(map(len, files.values()))
    if size > limits.tmpfs_megabytes << 20:
        raise ValueError(f"{size} bytes of files do not fit into a tmpfs of {limits.tmpfs_megabytes} megabytes")


def _resource_limits(limits: Limits) -> tuple[tuple[int, int, int], ...]:
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


def _outcome(ending: Ending, limits: Limits) -> Outcome:
    if ending.truncated:
        return Outcome.OUTPUT_LIMIT
    used_up = ending.returncode == -_SIGKILL and ending.cpu_seconds >= limits.cpu_seconds
    if ending.stopped or ending.returncode == -_SIGXCPU or used_up:
        return Outcome.TIMEOUT
    if ending.returncode != 0 and any(words in ending.stderr[-4_096:] for words in _NO_MEMORY):
        return Outcome.MEMORY_LIMIT
    return Outcome.SIGNALED if ending.returncode < 0 else Outcome.EXITED


_FOUND: dict[Sandbox, Layers] = {}


def _find_layers(sandbox: Sandbox) -> Layers:
    if sandbox.mode == "off":
        reason = "the sandbox is off"
        return Layers(frozenset({Layer.RLIMITS}), "", {layer: reason for layer in Layer if layer is not Layer.RLIMITS})
    missing: dict[Layer, str] = {}
    try:
        landlock.abi()
    except OSError as error:
        missing[Layer.LANDLOCK] = f"the kernel has none or it is switched off: {error.strerror}"
    if syscalls.MACHINE not in seccomp.AUDIT_ARCH:
        missing[Layer.SECCOMP] = f"no filter is written for {syscalls.MACHINE}"
    wanted = frozenset(layer for layer in Layer if layer not in sandbox.without and layer not in missing)
    if Layer.MOUNT_NAMESPACE not in wanted:
        wanted -= {Layer.TMPFS}
    inside = wanted & {*_NAMESPACES, Layer.TMPFS}
    if not inside:
        return Layers(wanted, "", missing)

    reasons = []
    for means in ("bubblewrap", "kernel"):
        if sandbox.means not in ("auto", means) or (means == "bubblewrap" and not inside >= _OF_BUBBLEWRAP):
            continue
        if means == "bubblewrap" and shutil.which("bwrap") is None:
            reasons.append("bubblewrap is not installed")
            continue
        found = Layers(wanted, means, missing)
        trial = Sandbox(sandbox.mode, means, sandbox.without)
        _FOUND[trial] = Layers(wanted, means)
        try:
            trial.run(["true"])
        except SandboxUnavailable as error:
            reasons.append(f"{means}: {error}")
        else:
            return found
        finally:
            del _FOUND[trial]
    missing |= dict.fromkeys(inside, "; ".join(reasons))
    return Layers(wanted - inside, "", missing)


def _advice(layers: Layers) -> str:
    return (
        f"the sandbox is required, and not all of its layers can be had here.\n{layers}\n"
        "Install bubblewrap (apt-get install bubblewrap); Linux 5.14 or later with Landlock is needed. Where a distribution keeps "
        "user namespaces from ordinary users: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or "
        "kernel.unprivileged_userns_clone=1. In a container: docker run --privileged, or --security-opt seccomp=unconfined "
        "--security-opt apparmor=unconfined --cap-add SYS_ADMIN. To go on with fewer layers, choose sandbox: best_effort."
    )
