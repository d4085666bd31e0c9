"""Runs what a model wrote: first version, bubblewrap and rlimits; the other layers follow behind the same interface."""

from __future__ import annotations

import os
import resource
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal


class Outcome(StrEnum):
    """How an execution ended."""

    EXITED = "exited"
    SIGNALED = "signaled"
    TIMEOUT = "timeout"
    OUTPUT_LIMIT = "output_limit"
    MEMORY_LIMIT = "memory_limit"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one execution may use."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 5
    memory_megabytes: int = 512
    processes: int = 16
    file_megabytes: int = 16
    tmpfs_megabytes: int = 64
    open_files: int = 64
    output_bytes: int = 65_536


@dataclass(frozen=True, slots=True)
class Execution:
    """What became of one command."""

    outcome: Outcome
    returncode: int
    stdout: bytes
    stderr: bytes
    truncated: bool
    wall_seconds: float
    cpu_seconds: float


class SandboxUnavailable(RuntimeError):
    """The sandbox is required and cannot be had here; the message says what is missing and what to install."""


@dataclass(frozen=True)
class Layers:
    """Which layers are active, and why the others are not."""

    active: tuple[str, ...]
    missing: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join(
            [f"active: {', '.join(self.active)}", *(f"missing: {name}: {why}" for name, why in self.missing.items())]
        )


@dataclass(frozen=True)
class Sandbox:
    """Settings of the sandbox; :meth:`run` executes one command in it."""

    mode: Literal["required", "best_effort", "off"] = "required"

    def layers(self) -> Layers:
        """Which layers are active here."""
        if self.mode == "off" or not shutil.which("bwrap"):
            return Layers(("rlimits",), {"namespaces": "bubblewrap is not installed"})
        return Layers(("namespaces", "tmpfs", "rlimits"), {"landlock": "to come", "seccomp": "to come"})

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        files: Mapping[str, bytes] = {},
        readable: Sequence[str] = (),
        writable_dir: str | None = None,
        environment: Mapping[str, str] = {},
        limits: Limits = Limits(),  # noqa: B008
    ) -> Execution:
        """Execute a command in the private directory /work."""
        bwrap = shutil.which("bwrap")
        if bwrap is None and self.mode == "required":
            raise SandboxUnavailable("bubblewrap is not installed: apt-get install bubblewrap")
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/work", "TMPDIR": "/tmp", "LANG": "C.UTF-8", **environment}
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            command, cwd = list(argv), writable_dir or folder
            if bwrap is not None and self.mode != "off":
                options = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
                options += ["--ro-bind", "/usr", "/usr", "--dev", "/dev", "--proc", "/proc"]
                for link in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
                    if os.path.islink(f"/{link}"):
                        options += ["--symlink", os.readlink(f"/{link}"), f"/{link}"]
                    elif os.path.isdir(f"/{link}"):
                        options += ["--ro-bind", f"/{link}", f"/{link}"]
                for path in ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", *readable):
                    options += ["--ro-bind-try", path, path]
                size = ["--size", str(limits.tmpfs_megabytes << 20)]
                options += [*size, "--tmpfs", "/tmp"]
                options += ["--bind", writable_dir, "/work"] if writable_dir else [*size, "--tmpfs", "/work"]
                if not writable_dir:
                    for name in files:
                        options += ["--bind", os.path.join(folder, name), f"/work/{name}"]
                for name, value in environment.items():
                    options += ["--setenv", name, value]
                command, cwd = [*options, "--chdir", "/work", "--", *command], "/"
            return _run(command, cwd, stdin, dict(environment), limits)


def _run(command: list[str], cwd: str, stdin: bytes, environment: dict[str, str], limits: Limits) -> Execution:
    def confine() -> None:
        for kind, value in (
            (resource.RLIMIT_CPU, limits.cpu_seconds),
            (resource.RLIMIT_AS, limits.memory_megabytes << 20),
            (resource.RLIMIT_FSIZE, limits.file_megabytes << 20),
            (resource.RLIMIT_NOFILE, limits.open_files),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(kind, (value, value))

    began = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=environment,
        start_new_session=True,
        preexec_fn=confine,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    for stream in (process.stdin, process.stdout, process.stderr):
        os.set_blocking(stream.fileno(), False)
    captured = {process.stdout: bytearray(), process.stderr: bytearray()}
    outcome: Outcome | None = None
    with selectors.DefaultSelector() as selector:
        for output in captured:
            selector.register(output, selectors.EVENT_READ)
        rest = memoryview(stdin)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map() and outcome is None:
            left = began + limits.wall_seconds - time.monotonic()
            if left <= 0:
                outcome = Outcome.TIMEOUT
                break
            for key, _ in selector.select(left):
                if key.fileobj is process.stdin:
                    try:
                        rest = rest[os.write(process.stdin.fileno(), rest[:65536]) :] if rest else rest
                    except BrokenPipeError:
                        rest = rest[:0]
                    if not rest:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                buffer = captured[key.fileobj]  # type: ignore[index]
                buffer += data
                if len(buffer) > limits.output_bytes:
                    outcome = Outcome.OUTPUT_LIMIT
    if outcome is None:
        try:
            process.wait(max(0.0, began + limits.wall_seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            outcome = Outcome.TIMEOUT
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if outcome is not None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
    code = process.returncode
    if code > 128:  # bubblewrap reports a signal as a shell does
        code = 128 - code
    stdout, stderr = (bytes(buffer[: limits.output_bytes]) for buffer in captured.values())
    return Execution(
        outcome=outcome or (Outcome.SIGNALED if code < 0 else Outcome.EXITED),
        returncode=code,
        stdout=stdout,
        stderr=stderr,
        truncated=any(len(buffer) > limits.output_bytes for buffer in captured.values()),
        wall_seconds=time.monotonic() - began,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )
