"""What attacks on the sandbox go after, and what they leave behind."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from lit_symbolic.verifiers.confinement import server
from lit_symbolic.verifiers.sandbox import Execution, Limits, Sandbox
from sandbox_attacks import ATTACKS, Attack, cpp_program
from sandboxes import STDLIB

PYTHON_ATTACKS = tuple(attack for attack in ATTACKS if not attack.cpp)
CPP_ATTACKS = tuple(attack for attack in ATTACKS if attack.cpp)


class Targets:
    """What attacks go after: files, sockets, a process, a segment of shared memory."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.token = f"t{secrets.token_hex(8)}"  # a word in every language
        home = Path.home() if os.geteuid() != 0 else Path("/var/tmp")  # root's home is closed to all
        self.folder = Path(tempfile.mkdtemp(prefix=".sandbox-test-", dir=home))
        stack.callback(shutil.rmtree, self.folder)
        self.folder.chmod(0o755)
        self.open_folder, self.readable = self.folder / "open", self.folder / "readable"
        for folder in (self.open_folder, self.readable):
            folder.mkdir()
            folder.chmod(0o777)
        server.close_servers()  # those that are started from here on could inherit from this process
        os.environ["TOKEN"] = self.token
        stack.callback(os.environ.pop, "TOKEN")
        left_open = os.open(os.devnull, os.O_RDONLY)
        os.set_inheritable(left_open, True)
        stack.callback(os.close, left_open)
        environment = {"TOKEN": self.token}
        word = f"victim{self.token}"
        self.victim = subprocess.Popen(["sh", "-c", "while :; do sleep 1; done", word], env=environment)
        stack.callback(self.victim.wait)
        stack.callback(self.victim.kill)
        address = Path(f"/proc/{self.victim.pid}/maps").read_text().split("-")[0]
        self.segment = int(subprocess.check_output(["ipcmk", "-M", "4096", "-p", "0666"]).split()[-1])
        stack.callback(subprocess.call, ["ipcrm", "-m", str(self.segment)])
        key = next(
            line.split()[0]
            for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
            if int(line.split()[1]) == self.segment
        )
        project = Path(__file__).resolve()
        quoted = {
            "SECRET": self.folder / "secret",
            "PRIVATE": self.folder / "private",
            "PROJECT": project,
            "OPEN_FOLDER": self.open_folder,
            "OPEN_FILE": self.open_folder / "file",
            "BESIDE": self.open_folder / "link",
            "READABLE": self.readable / "file",
            "UNIX": self.folder / "socket",
            "ABSTRACT": f"abstract{self.token}",
            "ABSTRACT_DATAGRAM": f"datagram{self.token}",
        }
        self.values = {name: json.dumps(str(value)) for name, value in quoted.items()}
        self.values |= {
            "TOKEN": self.token,
            "SHM": f"/{self.token}",
            "HOST": socket.gethostname(),
            "VICTIM": str(self.victim.pid),
            "VICTIM_WORD": word,
            "VICTIM_ADDRESS": f"0x{address}",
            "IPC_KEY": key,
            "PORT": self._listen(stack, socket.AF_INET, ("127.0.0.1", 0)),
            "PORT6": self._listen(stack, socket.AF_INET6, ("::1", 0)) if socket.has_ipv6 else "1",
            "UDP_PORT": self._echo(stack),
        }
        self._listen(stack, socket.AF_UNIX, str(quoted["UNIX"]))
        quoted["UNIX"].chmod(0o777)  # type: ignore[union-attr]
        self._listen(stack, socket.AF_UNIX, f"\0{quoted['ABSTRACT']}")
        datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams.bind(f"\0{quoted['ABSTRACT_DATAGRAM']}")
        stack.callback(lambda: Path(f"/dev/shm/{self.token}").unlink(missing_ok=True))
        self.program = b""

    def _listen(self, stack: contextlib.ExitStack, family: int, address: object) -> str:
        try:
            listening = stack.enter_context(socket.socket(family))
            listening.bind(address)  # type: ignore[arg-type]
            listening.listen(64)
        except OSError:
            return "1"
        return str(listening.getsockname()[1]) if family != socket.AF_UNIX else ""

    def _echo(self, stack: contextlib.ExitStack) -> str:
        listening = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        listening.bind(("127.0.0.1", 0))

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    _, sender = listening.recvfrom(4)
                    listening.sendto(b"pong", sender)

        threading.Thread(target=answer, daemon=True).start()
        return str(listening.getsockname()[1])

    def reset(self) -> None:
        """As it was before anybody attacked."""
        self.earlier = set(runners())  # other tests' verifiers may have prestarted some
        for path, mode in (
            (self.folder / "secret", 0o644),
            (self.folder / "private", 0o600),
            (self.open_folder / "file", 0o666),
            (self.readable / "file", 0o666),
        ):
            path.write_text(f"{self.token}\n")
            path.chmod(mode)
        for name in ("new", "link"):
            (self.open_folder / name).unlink(missing_ok=True)
        Path(f"/dev/shm/{self.token}").unlink(missing_ok=True)

    def fill_in(self, source: str) -> str:
        for name, value in self.values.items():
            source = source.replace(f"<{name}>", value)
        return source

    def attack(self, attack: Attack, sandbox: Sandbox) -> Execution:
        self.reset()
        readable = [*STDLIB, str(self.readable)]
        if not attack.cpp:
            with sandbox.prestart(None, readable=readable, limits=attack.limits) as prepared:
                return prepared.run(self.fill_in(attack.source).encode())
        if not self.program:
            if shutil.which("g++") is None:
                pytest.skip("needs g++")
            source = self.fill_in(cpp_program(CPP_ATTACKS)).encode()
            command = ["sh", "-c", "g++ -w attacks.cpp -o attacks && cat attacks"]
            limits = Limits(wall_seconds=120.0, cpu_seconds=60, output_bytes=1 << 24)
            compiled = Sandbox(mode="best_effort").run(command, files={"attacks.cpp": source}, limits=limits)
            assert compiled.returncode == 0, compiled.stderr.decode()
            self.program = compiled.stdout
        command = ["./attacks", str(number(attack)), self.token]
        return sandbox.run(command, files={"attacks": self.program}, readable=readable, limits=attack.limits)


def number(attack: Attack) -> int:
    """Of a C++ attack, as its program's first argument."""
    return [known.name for known in CPP_ATTACKS].index(attack.name)


def processes() -> dict[int, tuple[int, str]]:
    """All of this machine: their parents and command lines."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            found[int(folder.name)] = int(parent), (folder / "cmdline").read_text()
    return found


def left_behind(token: str) -> list[int]:
    """Processes of attacks that carry the token."""
    return [pid for pid, (_, command) in processes().items() if token in command and "victim" not in command]


def runners() -> list[int]:
    """Processes that the sandbox's servers forked for executions, and that are still there."""
    servers = {running._process.pid for running in server._servers.values()}
    everything = processes()
    places = {pid for pid, (parent, _) in everything.items() if parent in servers}
    return [pid for pid, (parent, _) in everything.items() if parent in places]


def assert_nothing_left(targets: Targets, waiting: int = 0) -> None:
    """No process, file or change; but ``waiting`` commands may have been prestarted for the next answer."""
    end = time.monotonic() + 10.0
    while (left_behind(targets.token) or len(set(runners()) - targets.earlier) > waiting) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left_behind(targets.token)
    assert len(set(runners()) - targets.earlier) <= waiting
    assert targets.victim.poll() is None
    assert sorted(path.name for path in targets.open_folder.iterdir()) == ["file"]
    assert not Path(f"/dev/shm/{targets.token}").exists()
    for path in (targets.open_folder / "file", targets.readable / "file"):
        assert path.read_text() == f"{targets.token}\n"
