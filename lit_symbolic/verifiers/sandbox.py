"""The sandbox: everything that a model wrote is executed in it, in a directory and namespaces of its own, once.

Each execution has its own user, mount, pid, network, ipc, uts and cgroup namespace, made by bubblewrap where it is installed and
by the kernel's own means where it is not; a root directory that holds the system's programs and libraries, read-only, and a
private tmpfs with a limit of bytes and inodes; Landlock; a seccomp filter; resource limits; no capabilities and no way to gain
any; an environment of its own. It is executed as nobody, also where root asks. Its output is read up to a limit. When it ends,
or is out of time, everything in its pid namespace is killed and gone before :meth:`Sandbox.run` returns; also when the process
that asked is killed.

Covered, each by a test that shows the attack contained: fork bombs, daemons, double forks, ignored signals; endless loops, sleep,
output; memory, disk, inodes, processes, descriptors, shared memory; reading or writing anything of the host but the system's
programs, at compile time too; sockets of all kinds; ptrace, signals to others, ``/proc``, secrets of the environment; links that
point out; core dumps, set-user-id programs; making namespaces and mounts inside.

Each layer is shown to matter: where layers stand against an attack, tests show that it bites without them, and that each of them
alone contains it (some of that where root runs the tests; at compile time, three ways to read bite with some compilers only). A
daemon, the environment, an open descriptor and the terminal are shown to be within reach without a sandbox. Of the rest it is shown
only that they are contained: what the clock, the limit of output and the end of all processes stop, bombs at compile time,
signals to its parent, ``/dev/mem``.

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
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lit_symbolic.verifiers.base import ToolUnavailable
from lit_symbolic.verifiers.confinement import syscalls
from lit_symbolic.verifiers.confinement.execution import Execution, Limits, Outcome, outcome_of, resource_limits
from lit_symbolic.verifiers.confinement.launch import Launch, NotConfined, Vanished
from lit_symbolic.verifiers.confinement.layers import NAMESPACES, Layer, Layers, find_layers
from lit_symbolic.verifiers.confinement.root import Root
from lit_symbolic.verifiers.confinement.runner import Request
from lit_symbolic.verifiers.confinement.server import Place
from lit_symbolic.verifiers.confinement.view import TEMPORARY, WORK, minimal_view
from lit_symbolic.verifiers.pooling.workspace import PREFIX, remove_folder

__all__ = ["Execution", "Layer", "Layers", "Limits", "Outcome", "Prepared", "Sandbox", "SandboxUnavailable"]

_LOGGER = logging.getLogger(__name__)
_USUAL = Limits()


class SandboxUnavailable(ToolUnavailable):
    """The sandbox is required and cannot be had here; the message says what is missing and what to do."""


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
        limits: Limits = _USUAL,
    ) -> Execution:
        """Execute a command and return when nothing of it is left. Any thread may call it.

        Args:
            argv: The command; without a slash it is looked up in ``PATH``.
            stdin: Its standard input.
            files: By their names, written executable into the private working directory ``/work``.
            readable: Paths of the host that are seen beside the system's programs and libraries, at the same place, read-only.
                Where root asks, who executes as nobody, they are readable as if nobody owned them; on a file system without
                such mounts (an overlay, a network) they must be readable by all.
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
        limits: Limits = _USUAL,
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
        return self._start(self._layers(), argv, modules, files, readable, writable_dir, environment, limits)

    def _start(
        self,
        layers: Layers,
        argv: Sequence[str] | None,
        modules: Sequence[str] = (),
        files: Mapping[str, bytes] = {},
        readable: Sequence[str] = (),
        writable_dir: str | None = None,
        environment: Mapping[str, str] = {},
        limits: Limits = _USUAL,
    ) -> Prepared:
        view = minimal_view(readable)
        if writable_dir is not None:
            if not os.path.isdir(writable_dir):
                raise ValueError(f"writable_dir is a directory that exists, got {writable_dir!r}")
            if hidden := [seen for _, seen in view.extra if f"{seen}/".startswith(f"{WORK}/")]:
                raise ValueError(f"{hidden[0]} cannot be readable: writable_dir takes its place at {WORK}")
        own = tempfile.mkdtemp(prefix=f"{PREFIX}run-") if writable_dir is None and Layer.TMPFS not in layers.active else None
        directory = writable_dir or own
        directory = directory and os.path.realpath(directory)
        namespaces = sum(flag for layer, flag in NAMESPACES.items() if layer in layers.active)
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
            limits=resource_limits(limits) if Layer.RLIMITS in layers.active else (),
        )
        return Prepared(Place(namespaces, root, gives_up_root), request, tuple(modules), limits, own)

    def check_start(self) -> str:
        """What to tell at the start, in a line: which layers are active here, and which are missing.

        Raises:
            SandboxUnavailable: If the sandbox cannot be had and is required.
        """
        return f"sandbox: {'; '.join(str(self._layers()).splitlines())}"

    def _layers(self) -> Layers:
        layers = self.layers()
        if self.mode == "required" and layers.missing:
            raise SandboxUnavailable(_advice(layers))
        return layers

    def layers(self) -> Layers:
        """Which layers are active here, found out by executing ``true`` once in this process's life."""
        found = _FOUND.get(self)
        if found is None:
            if sys.platform != "linux" or syscalls.MACHINE not in syscalls.SYS_CLONE:
                raise SandboxUnavailable(
                    f"programs are executed on Linux only, on x86_64 and aarch64, not on {platform.platform()}"
                )
            found = find_layers(self.mode == "off", self.means, self.without, self._what_fails)
            if found.missing and self.mode == "required":
                return found  # to be tried again: something may be installed meanwhile
            _FOUND[self] = found
            if found.missing:
                warnings.warn(f"the sandbox is {self.mode}, layers are missing\n{found}", stacklevel=3)
            else:
                _LOGGER.info("sandbox: %s", found)
        return found

    def _what_fails(self, layers: Layers) -> str:
        """Execute a command with these layers; empty if it works."""
        try:
            with self._start(layers, ["true"]) as prepared:
                prepared.run(b"")
        except SandboxUnavailable as error:
            return str(error)
        return ""


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
            outcome=outcome_of(ending, self._limits),
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


_FOUND: dict[Sandbox, Layers] = {}


def _advice(layers: Layers) -> str:
    return (
        f"the sandbox is required, and not all of its layers can be had here.\n{layers}\n"
        "Install bubblewrap (apt-get install bubblewrap); Linux 5.14 or later with Landlock is needed. Where a distribution keeps "
        "user namespaces from ordinary users: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or "
        "kernel.unprivileged_userns_clone=1. In a container: docker run --privileged, or --security-opt seccomp=unconfined "
        "--security-opt apparmor=unconfined --cap-add SYS_ADMIN. To go on with fewer layers, choose sandbox: best_effort."
    )
