"""Stands over one execution: starts it, waits for its end, and takes everything down behind it.

A process of its own, and the first of the execution's pid namespace. It talks with the one who asked over a socket: a pickled
:class:`Request` comes in; lines of JSON go out (nothing that comes from here is ever unpickled): ``{"running": …}``, at the end
``{"ended": …}``, or ``{"unavailable": …}``. When the other end of that socket closes, also because its process was killed, the
execution is killed.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import select
import signal
import socket
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from lit_symbolic.verifiers.confinement import landlock, seccomp, syscalls
from lit_symbolic.verifiers.confinement.root import INSIDE_ID, Root, map_user, mount_tmpfs
from lit_symbolic.verifiers.confinement.view import DEVICES, TEMPORARY, WORK, View

NOT_EXECUTED = 127
"""Return code of a command that could not be executed, as a shell has it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One execution.

    Args:
        argv: The command; None is Python source that comes over standard input, run in the forked interpreter itself.
        environment: All of it.
        files: Written into the working directory.
        view: What may be read.
        work: The working directory, as the execution sees it.
        outlives: Whether that is a directory of the host's.
        tmpfs: Bytes and inodes of the private tmpfs; None for none.
        landlock: Whether to restrict it by Landlock.
        seccomp: Whether to install the filter of system calls.
        limits: ``resource.RLIMIT_…``, its soft and its hard value.
    """

    argv: tuple[str, ...] | None
    environment: Mapping[str, str]
    files: Mapping[str, bytes]
    view: View
    work: str
    outlives: bool
    tmpfs: tuple[int, int] | None
    landlock: bool
    seccomp: bool
    limits: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a runner stands.

    Args:
        proc: Open directory of the host's ``/proc``; there is none in the new root.
        root: The root directory; None for the host's.
        namespaces: ``CLONE_NEW…`` that the runner was forked into.
        gives_up_root: Whether it is root and the command shall be nobody, in a user namespace made for it.
        execute_source: Runs the source on standard input, for a request without a command.
    """

    proc: int
    root: Root | None
    namespaces: int
    gives_up_root: bool
    execute_source: Callable[[Request], None]


def serve_request(control: socket.socket, stdio: tuple[int, int, int], ground: Ground, user: int, group: int) -> None:
    """Do what the request on ``control`` says, and report on it.

    Args:
        control: Connected to the one who asks.
        stdio: Descriptors for the command's standard streams.
        ground: Where this runs.
        user: That this process was before it was forked.
        group: The same.
    """
    request = _receive(control)
    try:
        if ground.namespaces & syscalls.CLONE_NEWUSER:
            map_user(ground.proc, user, group)
        if ground.namespaces & syscalls.CLONE_NEWUTS:
            socket.sethostname("sandbox")
        if not ground.namespaces & syscalls.CLONE_NEWPID:
            syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        child = _start(request, stdio, ground)
        for fd in stdio:
            os.close(fd)
        tell(control, running=True)
        status, used = _wait(child, control)
        _end_all(ground)  # before the end is told: then nothing is left
        seconds = used.ru_utime + used.ru_stime
        tell(control, ended=os.waitstatus_to_exitcode(status), cpu_seconds=seconds, peak_kilobytes=used.ru_maxrss)
    except OSError as error:
        tell(control, unavailable=error.strerror if error.errno is None else str(error))
    except Exception:
        tell(control, unavailable=traceback.format_exc(limit=-4))


def _receive(control: socket.socket) -> Request:
    def exactly(count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = control.recv(min(count - len(data), 1 << 20))
            if not part:
                os._exit(0)  # nobody waits for it any more
            data += part
        return bytes(data)

    request = pickle.loads(exactly(int.from_bytes(exactly(8), "little")))
    if not isinstance(request, Request):
        raise TypeError(f"not a request: {type(request)}")
    return request


def tell(control: socket.socket, **message: object) -> None:
    """Report, if there is still someone who listens."""
    with suppress(OSError):
        control.sendall(json.dumps(message).encode() + b"\n")


def _start(request: Request, stdio: tuple[int, int, int], ground: Ground) -> int:
    """Mount what is the execution's own, fork the command, and return its pid once it runs."""
    if request.tmpfs is not None and ground.root is not None:
        inside = ground.gives_up_root or ground.namespaces & syscalls.CLONE_NEWUSER
        owner = (INSIDE_ID, INSIDE_ID) if inside else (os.geteuid(), os.getegid())
        mount_tmpfs(ground.root, "size={},nr_inodes={}".format(*request.tmpfs), owner)
    if ground.gives_up_root and ground.root is None:
        os.chown(request.work, INSIDE_ID, INSIDE_ID)
    failure, theirs = os.pipe()
    # Source is executed by this interpreter: then it must know that it was forked.
    child = os.fork() if request.argv is None else syscalls.clone(0)
    if child == 0:
        _become(request, stdio, ground, theirs)
    os.close(theirs)
    with open(failure, "rb") as reader:
        reason = reader.read().decode(errors="replace")
    if reason:
        raise OSError(None, reason)
    return child


def _become(request: Request, stdio: tuple[int, int, int], ground: Ground, failure: int) -> NoReturn:
    """In the forked process: give up everything that the command must not have, then be the command."""
    code = 1
    try:
        os.setsid()
        for target, fd in enumerate(stdio):
            os.dup2(fd, target)
        _close_all_but(ground.proc, failure)
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        _confine(request, ground)
        os.close(ground.proc)
        if request.argv is None:
            os.close(failure)
            code = 0
            ground.execute_source(request)
        else:
            code = NOT_EXECUTED
            _execute(request.argv, request.environment)
    except BaseException as error:
        if code == 1:
            with suppress(OSError):
                os.write(failure, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(code)


def _confine(request: Request, ground: Ground) -> None:
    with suppress(OSError):  # the kernel shall rather take memory from here than from a trainer
        fd = os.open("self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=ground.proc)
        os.write(fd, b"1000")
        os.close(fd)
    if ground.gives_up_root:
        os.setgroups([])
        os.setresgid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
        os.setresuid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
        if ground.root is not None:
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # or /proc/self stayed root's
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            map_user(ground.proc, INSIDE_ID, INSIDE_ID)
    os.umask(0o022)
    os.chdir(request.work)
    _write_files(request.files)
    for kind, *values in request.limits:
        if kind == resource.RLIMIT_NPROC:
            if not (ground.gives_up_root or ground.namespaces & syscalls.CLONE_NEWUSER):
                continue  # all that the user runs would be counted
            runner = 0 if ground.gives_up_root else 1  # is in the same user namespace
            values = [value + runner for value in values]
        most = resource.getrlimit(kind)[1]
        soft, hard = (value if most == resource.RLIM_INFINITY else min(value, most) for value in values)
        resource.setrlimit(kind, (soft, hard))
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if ground.gives_up_root or ground.namespaces & syscalls.CLONE_NEWUSER:
        syscalls.drop_capabilities()
    if request.landlock:
        landlock.restrict(_rules(request, ground))
    if request.seccomp:
        seccomp.install(seccomp.program())


def _write_files(files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        if os.path.dirname(name):
            os.makedirs(os.path.dirname(name), exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(name)
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o755)
        with open(fd, "wb") as file:
            file.write(content)


def _rules(request: Request, ground: Ground) -> list[tuple[str, landlock.Access]]:
    mounted = ground.root is not None
    rules = [(seen if mounted else source, landlock.READ) for source, seen in request.view.readable]
    rules += [(device, landlock.DEVICE) for device in DEVICES]
    rules.append((request.work, landlock.HOST_DIRECTORY if request.outlives else landlock.PRIVATE_DIRECTORY))
    if mounted and request.work == WORK:
        rules.append((TEMPORARY, landlock.PRIVATE_DIRECTORY))
    return rules


def _execute(argv: tuple[str, ...], environment: Mapping[str, str]) -> None:
    try:
        os.execvpe(argv[0], argv, environment)
    except OSError as error:
        os.write(2, f"{argv[0]}: cannot be executed: {error.strerror}\n".encode(errors="replace"))
        raise


def _close_all_but(*keep: int) -> None:
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 16)


def _wait(child: int, control: socket.socket) -> tuple[int, resource.struct_rusage]:
    """Until the command ends or is no longer wanted; orphans that come to this process are removed meanwhile."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(control, select.POLLIN | select.POLLHUP)
    orphans, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll.register(orphans, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if ended in ready:
            break
        if control.fileno() in ready:
            signal.pidfd_send_signal(ended, signal.SIGKILL)
            break
        os.read(orphans, 4_096)
        _remove_orphans(child)
    _, status, used = os.wait4(child, 0)
    return status, used


def _remove_orphans(child: int) -> None:
    while True:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None or found.si_pid == child:
            return
        os.waitpid(found.si_pid, 0)


def _end_all(ground: Ground) -> None:
    """Kill every process below this one and wait until they are gone."""
    while True:
        if ground.namespaces & syscalls.CLONE_NEWPID:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # all in the namespace but this process
        else:
            for pid in _children(ground.proc):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children(proc: int) -> list[int]:
    """This process's, also the orphans it adopted, where it has no pid namespace of its own."""
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
    found = []
    for entry in os.listdir(folder):
        if entry.isdigit():
            with (
                suppress(OSError),
                open(os.open(f"{entry}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder), "rb") as stat,
            ):
                if int(stat.read().rpartition(b")")[2].split()[1]) == os.getpid():
                    found.append(int(entry))
    os.close(folder)
    return found
