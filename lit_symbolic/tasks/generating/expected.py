"""What drawn programs write: many are compiled as one, run in the sandbox on their inputs, and remembered."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import diskcache

from lit_symbolic.verifiers.compiling.prelude import default_cache_dir, prelude, toolchain
from lit_symbolic.verifiers.pooling.cache import text_cache
from lit_symbolic.verifiers.sandbox import Limits, Outcome, Sandbox

HEAD = "int main() {"
TOGETHER = 256
"""So many programs are compiled as one: more is no faster for each."""
MEGABYTES = 64
FORMAT = "outputs 1"

_ENVIRONMENT = {"LC_ALL": "C", "TMPDIR": "/work"}
_SCRIPT = '"$0" "$@" -o programs && exec ./programs < inputs'
_BEHIND = """
int main() {
  int which;
  size_t size;
  while (std::cin >> which >> size) {
    std::cin.get();
    std::string given(size, ' ');
    std::cin.read(&given[0], size);
    std::istringstream from(given);
    std::ostringstream to;
    if (PROGRAMS[which](from, to) != 0) return 1;
    std::cout << to.str().size() << '\\n' << to.str();
  }
}
"""


class ExpectedOutputs:
    """Compiles trusted programs that read and write integers, runs them, and keeps what they wrote, in memory and on disk.

    Args:
        compiler: Name or path of g++.
        flags: Of the compiler.
        headers: Included before every program, from a precompiled header; ``iostream`` and ``sstream`` are among them.
        sandbox: Mode of the :class:`~lit_symbolic.verifiers.sandbox.Sandbox`.
        cache_dir: Folder for what is kept on disk, the header too; None is the user's cache.

    Example:
        >>> outputs = ExpectedOutputs(sandbox="best_effort")
        >>> outputs.of([("int main() {\\n int n;\\n cin >> n;\\n cout << 2 * n << endl;\\n return 0;\\n}", ("4", "5"))])  # doctest: +SKIP
        [('8\\n', '10\\n')]
    """

    def __init__(
        self,
        compiler: str = "g++",
        flags: tuple[str, ...] = ("-std=gnu++17", "-O0"),
        headers: tuple[str, ...] = ("iostream", "sstream"),
        sandbox: Literal["required", "best_effort", "off"] = "required",
        cache_dir: str | Path | None = None,
    ) -> None:
        self.compiler, self.flags, self.headers = compiler, flags, headers
        self.sandbox = Sandbox(sandbox)
        self.cache_dir = None if cache_dir is None else Path(cache_dir).expanduser()
        self._known: dict[bytes, tuple[str, ...]] = {}
        self._disk: Any = None
        self._disk_failed = False

    def of(self, programs: Sequence[tuple[str, tuple[str, ...]]]) -> list[tuple[str, ...]]:
        """The outputs of programs on their inputs.

        Args:
            programs: Code, whose first line is ``int main() {``, and inputs. It must return 0 on each of them.

        Raises:
            CompilerUnavailable: If g++ is missing; says what to install.
            SandboxUnavailable: If the sandbox is required and cannot be had.
            RuntimeError: If a program does not compile, or does not come to its end.
        """
        keys = [self._key(code, inputs) for code, inputs in programs]
        missing = {key: program for key, program in zip(keys, programs, strict=True) if self._recall(key) is None}
        todo = list(missing.items())
        for first in range(0, len(todo), TOGETHER):
            part = todo[first : first + TOGETHER]
            for (key, _), outputs in zip(part, self._run([program for _, program in part]), strict=True):
                self._keep(key, outputs)
        return [self._known[key] for key in keys]

    def _run(self, programs: Sequence[tuple[str, tuple[str, ...]]]) -> list[tuple[str, ...]]:
        tool = toolchain(self.compiler)
        header = prelude(self.compiler, self.flags, self.headers, None if self.cache_dir is None else str(self.cache_dir))
        inputs = b"".join(
            b"%d %d\n%b" % (index, len(given.encode()), given.encode())
            for index, (_, given_inputs) in enumerate(programs)
            for given in given_inputs
        )
        execution = self.sandbox.run(
            ["/bin/sh", "-c", _SCRIPT, tool.path, *self.flags, "-w", "-include", str(header), "programs.cpp"],
            files={"programs.cpp": _as_one([code for code, _ in programs]).encode(), "inputs": inputs},
            readable=[*tool.readable, str(header.parent)],
            environment=_ENVIRONMENT,
            limits=Limits(
                wall_seconds=300,
                cpu_seconds=60,
                memory_megabytes=2048,
                file_megabytes=64,
                tmpfs_megabytes=128,
                output_bytes=64 << 20,
            ),
        )
        if execution.outcome is not Outcome.EXITED or execution.returncode != 0 or execution.truncated:
            words = execution.stderr.decode("utf-8", "replace").strip()[-1000:]
            raise RuntimeError(f"drawn programs could not be compiled and run ({execution.outcome}): {words}")
        rest, found = execution.stdout, []
        for _, given_inputs in programs:
            outputs = []
            for _ in given_inputs:
                size, _, rest = rest.partition(b"\n")
                outputs.append(rest[: int(size)].decode())
                rest = rest[int(size) :]
            found.append(tuple(outputs))
        return found

    # ---------------------------------------------------------------- what is kept

    def _key(self, code: str, inputs: tuple[str, ...]) -> bytes:
        tool = toolchain(self.compiler)
        text = json.dumps([FORMAT, tool.identity, *self.flags, code, *inputs])
        return hashlib.blake2b(text.encode(), digest_size=24).digest()

    def _recall(self, key: bytes) -> tuple[str, ...] | None:
        if key not in self._known:
            kept = self._on_disk("get", key.hex())
            if isinstance(kept, str):
                self._known[key] = tuple(json.loads(kept))
        return self._known.get(key)

    def _keep(self, key: bytes, outputs: tuple[str, ...]) -> None:
        self._known[key] = outputs
        self._on_disk("set", key.hex(), json.dumps(outputs))

    def _on_disk(self, action: str, *arguments: str) -> Any:
        """Without the disk it only takes longer."""
        if self._disk_failed:
            return None
        try:
            if self._disk is None:
                self._disk = self._open()
            return getattr(self._disk, action)(*arguments)
        except (diskcache.Timeout, sqlite3.Error, OSError, ValueError) as error:
            self._disk_failed = True
            warnings.warn(f"outputs of drawn programs are not kept on disk: {error!r}", stacklevel=2)
            return None

    def _open(self) -> Any:
        return text_cache((self.cache_dir or default_cache_dir()) / "expected", MEGABYTES)


def _as_one(codes: Sequence[str]) -> str:
    """A program of programs: each a function, whose ``cin`` and ``cout`` are its arguments."""
    functions = [
        f"static int program{index}(istream& cin, ostream& cout) {{{code.removeprefix(HEAD)}\n"
        for index, code in enumerate(codes)
    ]
    table = ", ".join(f"program{index}" for index in range(len(codes)))
    return f"using namespace std;\n{''.join(functions)}static int (*const PROGRAMS[])(istream&, ostream&) = {{{table}}};{_BEHIND}"
