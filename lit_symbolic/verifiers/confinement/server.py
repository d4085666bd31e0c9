"""The sandbox's servers: small processes that fork a runner for each execution, and the handle on them.

They exist for speed and safety: forking a small interpreter that has all modules at hand takes under a millisecond, where starting
one takes ten; and they have one thread, so that the forked process may do what is unsafe in a fork of the trainer. They know
nothing of the trainer's: no memory, no environment, no descriptors. They end when the trainer does, however that happens.

The first stands on the host. It forks one for each :class:`Place`, which moves into that place and forks the runners there, each
into namespaces of its own. None ever sees an answer; a runner is thrown away with its execution.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import traceback
import types
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lit_symbolic.verifiers.confinement import syscalls
from lit_symbolic.verifiers.confinement.root import INSIDE_ID, Root, borrow, build, owners_without_root
from lit_symbolic.verifiers.confinement.runner import Ground, Request, serve_request, tell

MAX_PLACES = 8
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from lit_symbolic.verifiers.confinement import server; server.main()"
_PACKAGES = str(Path(__file__).parents[3])
_KEPT = ("PATH", "LD_LIBRARY_PATH")
"""What an interpreter may need to start; executions do not see it."""
_NEEDED_BY_ROOT = (
    syscalls.CAP_SYS_ADMIN,
    syscalls.CAP_SETUID,
    syscalls.CAP_SETGID,
    syscalls.CAP_CHOWN,
    syscalls.CAP_KILL,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where executions take place.

    Args:
        namespaces: ``CLONE_NEW…``, new ones for each execution.
        root: What they see in their mount namespace; None without one.
        gives_up_root: Whether they are executed as nobody where root asks. Limits of processes do not hold for root.
    """

    namespaces: int
    root: Root | None
    gives_up_root: bool


class Server:
    """A server that was started, and those that it started.

    Args:
        modules: Imported at its start, so that Python source which imports them is executed at once.
    """

    def __init__(self, modules: tuple[str, ...] = ()) -> None:
        self.pid = os.getpid()
        self.places: OrderedDict[Place, socket.socket] = OrderedDict()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment |= {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        options = ["-s", "-P"] if modules else ["-s", "-P", "-S"]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *options, "-c", _BOOT, _PACKAGES, str(theirs.fileno()), *modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd="/",
            )

    def submit(self, place: Place, request: Request, stdio: tuple[int, int, int]) -> socket.socket:
        """Have a request executed; returns the socket on which its runner reports.

        Raises:
            OSError: If a server is gone.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._hand_over(place, [theirs.fileno(), *stdio])
            data = pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
            ours.sendall(len(data).to_bytes(8, "little") + data)
        except BaseException:
            ours.close()
            raise
        return ours

    def _hand_over(self, place: Place, fds: list[int]) -> None:
        with _lock:
            there = self.places.get(place)
            if there is None:
                there, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    socket.send_fds(self._socket, [pickle.dumps(place)], [theirs.fileno()], socket.MSG_NOSIGNAL)
                self.places[place] = there
                if len(self.places) > MAX_PLACES:
                    self.places.popitem(last=False)[1].close()
            self.places.move_to_end(place)
            try:
                socket.send_fds(there, [b"."], fds, socket.MSG_NOSIGNAL)
            finally:
                if place.root is not None and place.root.directory is not None:  # will not be asked for again
                    self.places.pop(place).close()

    def forget(self, place: Place) -> None:
        """Build it anew when it is needed again."""
        with _lock:
            there = self.places.pop(place, None)
        if there is not None:
            there.close()

    def close(self) -> None:
        """End the servers; what they have started goes on until its own socket is closed."""
        self.disown()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def disown(self) -> None:
        """Close this process's sockets."""
        self._socket.close()
        while self.places:
            self.places.popitem()[1].close()


_servers: dict[tuple[str, ...], Server] = {}
_lock = threading.RLock()


def submit(place: Place, request: Request, stdio: tuple[int, int, int], modules: tuple[str, ...] = ()) -> socket.socket:
    """Have a request executed by this process's servers, which are started if there are none, or again if they died."""
    for attempt in (1, 2, 3):
        with _lock:
            server = _servers.get(modules)
            if server is None:
                server = _servers[modules] = Server(modules)
        try:
            return server.submit(place, request, stdio)
        except OSError:
            server.forget(place)
            if attempt == 2:
                close_servers(modules)
            elif attempt == 3:
                raise
    raise AssertionError


def forget(place: Place, modules: tuple[str, ...]) -> None:
    """The place did not serve: build it anew when it is needed again."""
    with _lock:
        server = _servers.get(modules)
    if server is not None:
        server.forget(place)


def close_servers(modules: tuple[str, ...] | None = None) -> None:
    """End this process's servers, or those with the modules; the next execution starts one again."""
    with _lock:
        keys = list(_servers) if modules is None else [modules] * (modules in _servers)
        closing = [_servers.pop(key) for key in keys]
    for server in closing:
        server.close()


def _disown_servers() -> None:
    """In a forked process: its parent's servers are not its own."""
    global _lock
    _lock = threading.RLock()
    for server in _servers.values():
        server.disown()
        server._process.returncode = 0  # not this process's child
    _servers.clear()


atexit.register(close_servers)
os.register_at_fork(after_in_child=_disown_servers)


def main() -> None:
    """Main function of the first server's process: forks one for each place."""
    requests = socket.socket(fileno=int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)
    for module in sys.argv[3:]:
        importlib.import_module(module)
    while True:
        message, fds, _, _ = socket.recv_fds(requests, 1 << 17, 1)
        if not message:
            return _wait_for_children()
        if os.fork() == 0:
            requests.close()
            _serve_place(pickle.loads(message), socket.socket(fileno=fds[0]))
        os.close(fds[0])


def _reap(*_: object) -> None:
    """Remove ended children. Not by ignoring the signal: their processor time would be lost to the trainer's account."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _wait_for_children() -> None:
    """At the end: so that their processor time is accounted for; those that are still needed after a second go on alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.alarm(1)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def _serve_place(place: Place, requests: socket.socket) -> NoReturn:
    """Move into a place, then fork a runner for each request."""
    code = 1
    try:
        failure, ground = "", None
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            ground = _move_into(place)
        except OSError as error:
            failure = error.strerror if error.errno is None and error.strerror else str(error)
        signal.signal(signal.SIGCHLD, _reap)
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection would copy the pages that the runners share
        user, group = os.geteuid(), os.getegid()
        while True:
            message, fds, _, _ = socket.recv_fds(requests, 1, 4)
            if not message:
                _wait_for_children()
                break
            control, *stdio = fds
            if ground is None:
                with socket.socket(fileno=control) as asking:
                    tell(asking, unavailable=failure)
                fds = stdio
            elif syscalls.clone(ground.namespaces) == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                requests.close()
                serve_request(socket.socket(fileno=control), (stdio[0], stdio[1], stdio[2]), ground, user, group)
                break
            for fd in fds:
                os.close(fd)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _move_into(place: Place) -> Ground:
    """Raises OSError if it cannot be had here."""
    proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    flags, root = place.namespaces, place.root
    privileged = os.geteuid() == 0 and syscalls.has_capabilities(_NEEDED_BY_ROOT)
    gives_up_root = privileged and place.gives_up_root
    if gives_up_root:
        flags &= ~syscalls.CLONE_NEWUSER  # made by the runner, when it is nobody
    if root is not None:
        owners = owners_without_root() if gives_up_root else None
        as_user = bool(flags & syscalls.CLONE_NEWUSER)
        if root.bubblewrap is not None:
            borrow(root, owners, as_user)
        else:
            build(root, proc, owners, as_user)
        if gives_up_root and root.directory and os.stat("/work").st_uid == 0:  # not where it was mounted with other owners
            os.chown("/work", INSIDE_ID, INSIDE_ID)
    return Ground(proc, root, flags, gives_up_root, execute_source)


def execute_source(request: Request) -> None:
    """In a forked, confined process: execute the Python source that comes over standard input as ``__main__``, and end."""
    os.environ.clear()
    os.environ.update(request.environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    gc.enable()
    sys.argv[:] = ["<program>"]
    sys.path[:] = [request.work, *(path for path in sys.path if path != _PACKAGES)]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    source = sys.stdin.buffer.read()
    code = 1
    try:
        exec(compile(source, "<program>", "exec"), main.__dict__)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    for end in (threading._shutdown, atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            end()
    os._exit(code & 0xFF)
