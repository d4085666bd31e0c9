"""One execution as its caller sees it: started, fed, read from and, if need be, stopped."""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass

from lit_symbolic.verifiers.confinement import server
from lit_symbolic.verifiers.confinement.runner import Request

SETUP_SECONDS = 60.0
"""More than namespaces take on the busiest machine."""
GRACE_SECONDS = 30.0
"""In which a killed execution must be gone."""
_CHUNK = 1 << 16


class NotConfined(RuntimeError):
    """The runner could not make the sandbox; the message is what the kernel, or bubblewrap, said."""


class Vanished(NotConfined):
    """The server or the runner was killed before the command ran: worth another try."""

    def __init__(self) -> None:
        super().__init__("the sandbox's process ended without a word")


@dataclass(slots=True)
class Ending:
    """What came of it: ``returncode`` is negative for a signal; ``stopped`` says which limit ended it from outside, if one did."""

    returncode: int = -9
    stdout: bytes = b""
    stderr: bytes = b""
    stopped: str = ""
    truncated: bool = False
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_kilobytes: int = 0


class Launch:
    """A request that was submitted. Its descriptors are closed by :meth:`communicate` or :meth:`close`.

    Args:
        place: Where to execute it.
        request: What to execute.
        modules: That the interpreter has imported, see :class:`.server.Server`.
    """

    def __init__(self, place: server.Place, request: Request, modules: tuple[str, ...] = ()) -> None:
        self._place, self._modules = place, modules
        _live.add(self)
        self._fds: dict[str, int] = {}
        theirs: list[int] = []
        self._control: socket.socket | None = None
        self._heard = b""
        try:
            for name in ("stdin", "stdout", "stderr"):
                reading, writing = os.pipe()
                ours, other = (writing, reading) if name == "stdin" else (reading, writing)
                self._fds[name] = ours
                theirs.append(other)
                os.set_blocking(ours, False)
            self._control = server.submit(place, request, (theirs[0], theirs[1], theirs[2]), modules)
        except BaseException:
            self.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)

    def wait_until_running(self) -> None:
        """Block until the command is being executed.

        Raises:
            NotConfined: If it could not be.
            Vanished: If a process of the sandbox was killed.
        """
        message = self._next_message(time.monotonic() + SETUP_SECONDS)
        if "running" not in message:
            self.close()
            server.forget(self._place, self._modules)
            raise NotConfined(str(message["unavailable"])) if "unavailable" in message else Vanished

    def communicate(self, stdin: bytes, wall_seconds: float, output_bytes: int) -> Ending:
        """Feed the running command, read what it writes, and return when nothing of it is left.

        Args:
            stdin: For the command, which may end without reading it.
            wall_seconds: From now on.
            output_bytes: Of each stream. A command that writes more is stopped.
        """
        assert self._control is not None
        began = time.monotonic()
        ending = Ending()
        written = {self._fds["stdout"]: bytearray(), self._fds["stderr"]: bytearray()}
        rest = memoryview(stdin)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._control, selectors.EVENT_READ)
                for fd in written:
                    selector.register(fd, selectors.EVENT_READ)
                selector.register(self._fds["stdin"], selectors.EVENT_WRITE)
                while selector.get_map():
                    left = began + wall_seconds - time.monotonic()
                    ready = selector.select(max(0.0, left))
                    # On a busy machine this process may look late at a command that ended in time.
                    if (
                        left <= 0
                        and self._control in selector.get_map()
                        and all(key.fileobj is not self._control for key, _ in ready)
                    ):
                        ending.stopped = "time"
                        break
                    for key, _ in ready:
                        if key.fileobj is self._control:  # the runner tells the end: there is no one to feed
                            selector.unregister(self._control)
                            self._close_stdin(selector)
                        elif key.fd in written:
                            data = os.read(key.fd, _CHUNK)
                            written[key.fd] += data
                            if not data:
                                selector.unregister(key.fd)
                        elif "stdin" in self._fds:
                            rest = self._feed(rest, selector)
                    if any(len(buffer) > output_bytes for buffer in written.values()):
                        ending.stopped = "output"
                        break
            if ending.stopped:
                with suppress(OSError):
                    self._control.shutdown(socket.SHUT_WR)
            ended = self._next_message(time.monotonic() + GRACE_SECONDS)
            ending.wall_seconds = time.monotonic() - began
        finally:
            self.close()
        if "ended" not in ended:
            raise NotConfined(str(ended["unavailable"])) if "unavailable" in ended else Vanished
        ending.returncode = int(ended["ended"])  # type: ignore[call-overload]
        ending.cpu_seconds = float(ended["cpu_seconds"])  # type: ignore[arg-type]
        ending.peak_kilobytes = int(ended["peak_kilobytes"])  # type: ignore[call-overload]
        ending.stdout, ending.stderr = (bytes(buffer[:output_bytes]) for buffer in written.values())
        ending.truncated = any(len(buffer) > output_bytes for buffer in written.values())
        return ending

    def close(self) -> None:
        """Have the execution killed, if it goes on, without waiting for it. May be called any number of times."""
        if self._control is not None:
            self._control.close()
            self._control = None
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _feed(self, rest: memoryview, selector: selectors.BaseSelector) -> memoryview:
        try:
            if rest:
                rest = rest[os.write(self._fds["stdin"], rest[:_CHUNK]) :]
        except BrokenPipeError:
            rest = rest[:0]
        if not rest:
            self._close_stdin(selector)
        return rest

    def _close_stdin(self, selector: selectors.BaseSelector) -> None:
        if "stdin" in self._fds:
            selector.unregister(self._fds["stdin"])
            os.close(self._fds.pop("stdin"))

    def _next_message(self, deadline: float) -> dict[str, object]:
        """The runner's next line, or nothing if it ended or the time is over."""
        assert self._control is not None
        while b"\n" not in self._heard:
            self._control.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self._control.recv(_CHUNK)
            except (TimeoutError, ConnectionError):
                data = b""
            if not data:
                return {}
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        message = json.loads(line)
        return message if isinstance(message, dict) else {}

    def __del__(self) -> None:
        if getattr(self, "_fds", None) is not None:
            self.close()


_live: weakref.WeakSet[Launch] = weakref.WeakSet()


def _close_in_child() -> None:
    """A forked process must not hold these: a command would not see the end of its input, nor a runner the end of its asker."""
    for launch in list(_live):
        launch.close()


os.register_at_fork(after_in_child=_close_in_child)
