"""Test cases of C++ programs: what they are made of, how a program is run on them, and whether it passes."""

from __future__ import annotations

import io
import math
import signal
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_symbolic.verifiers.sandbox import Execution, Limits, Outcome, Sandbox

_SHOWN_CHARACTERS = 60
_ENVIRONMENT = {"LC_ALL": "C"}
_ONE = "ulimit -S -t $1 && exec ./program"
# Runs all tests up to the first that runs out of time, then writes the exit codes, the sizes of the outputs, the outputs.
_ALL = """tar -xf inputs && ulimit -S -t $1 || exit 99
i=0 codes= outputs=
while [ $i -lt $2 ]; do
  ./program < $i.in > $i.out 2> /dev/null
  code=$?
  codes="$codes $code" outputs="$outputs $i.out" i=$((i + 1))
  if [ $code = 152 ] || [ $code = 137 ]; then break; fi
done
echo $codes && echo $(stat -c %s $outputs) && exec cat $outputs
"""
_OUT_OF_TIME = (-signal.SIGXCPU, -signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Case:
    """One test: the program is given ``input`` and must end by itself with exit status 0.

    Args:
        input: Its standard input.
        output: What it must write, see :func:`same_output`; None if its exit status alone decides.
        hidden: Its input and output appear in no message.
    """

    input: str = ""
    output: str | None = None
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """What one test made of the program.

    Args:
        code: Its exit status, or less than 0 the signal that ended it.
        stdout: What it wrote.
        stderr: What it complained about, where that was kept.
    """

    code: int
    stdout: bytes
    stderr: bytes = b""

    @property
    def out_of_time(self) -> bool:
        """Whether it was ended for its processor time."""
        return self.code in _OUT_OF_TIME


class TestsInterrupted(Exception):
    """The tests came to no end, and the program need not be at fault."""

    __test__ = False


def cases_of(facts: Mapping[str, Any]) -> list[Case]:
    """The test cases of a problem: its fact ``tests``, mappings with the keys ``input``, ``output``, ``hidden``.

    Raises:
        ValueError: If one has another key.
    """
    try:
        return [Case(**test) for test in facts.get("tests", ())]
    except TypeError as error:
        raise ValueError(f"a test has the keys input, output and hidden, see Case: {error}") from error


@dataclass(frozen=True, slots=True)
class Budget:
    """What each test may use.

    Args:
        seconds: Processor time.
        patience: A test's deadline is so many times that; one for all tests together is that and a second, and a quarter of
            ``seconds`` for each.
        megabytes: Memory.
        output_megabytes: What it may write.
    """

    seconds: int
    patience: float
    megabytes: int
    output_megabytes: int

    def limits(self, executable: bytes, together: int) -> Limits:
        """The same for a sandbox in which ``together`` tests are run."""
        return Limits(
            wall_seconds=self.patience * self.seconds + 1 + 0.25 * self.seconds * together,
            cpu_seconds=self.seconds + 1,
            memory_megabytes=self.megabytes,
            file_megabytes=max(self.output_megabytes, math.ceil(len(executable) / 2**20)),
            tmpfs_megabytes=64 + 4 * self.output_megabytes,
            output_bytes=8 * self.output_megabytes << 20,
        )


def run_cases(sandbox: Sandbox, executable: bytes, cases: Sequence[Case], budget: Budget) -> list[Run]:
    """Run a program on test cases, in order, up to the first that uses up its processor time.

    Cases with an output share one sandbox, to start which takes longer than most tests. What a program does there to the
    tests behind it, it could also do by its code; what is expected never enters. Where the exit status alone decides, each
    case has a sandbox of its own, and the status is what the kernel says, not what stands in a file.

    Args:
        sandbox: Where.
        executable: The program.
        cases: The test cases.
        budget: What each may use.

    Returns:
        A run for each case, or for the first ones.

    Raises:
        RuntimeError: If the sandbox lacks ``tar`` or room.
        TestsInterrupted: If a deadline came with processor time left.
    """
    seconds = budget.seconds

    def run(script: str, count: int, stdin: bytes, files: Mapping[str, bytes]) -> Execution:
        command = ["/bin/sh", "-c", script, "sh", str(seconds), str(count)]
        files = {"program": executable, **files}
        return sandbox.run(command, stdin=stdin, files=files, environment=_ENVIRONMENT, limits=budget.limits(executable, count))

    if all(case.output is not None for case in cases):
        execution = run(_ALL, len(cases), b"", {"inputs": _archive(cases)})
        if execution.outcome is Outcome.TIMEOUT:
            raise TestsInterrupted(f"the tests were stopped after {execution.wall_seconds:.1f} s")
        if execution.outcome is Outcome.EXITED and execution.returncode == 99:
            raise RuntimeError(f"the tests could not be set up: {execution.stderr.decode('utf-8', 'replace')}")
        return _runs(execution)
    runs: list[Run] = []
    for case in cases:
        execution = run(_ONE, 1, case.input.encode("utf-8", "surrogatepass"), {})
        ended_for_its_time = execution.returncode == -signal.SIGXCPU or execution.cpu_seconds >= seconds
        if execution.outcome is Outcome.TIMEOUT and not ended_for_its_time:
            raise TestsInterrupted(f"test {len(runs) + 1} was stopped after {execution.wall_seconds:.1f} s")
        ended = execution.outcome in (Outcome.EXITED, Outcome.MEMORY_LIMIT) or execution.returncode
        runs.append(Run(execution.returncode if ended else -signal.SIGKILL, execution.stdout, execution.stderr))
        if runs[-1].out_of_time:
            break
    return runs


def _archive(cases: Sequence[Case]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for index, case in enumerate(cases):
            data = case.input.encode("utf-8", "surrogatepass")
            entry = tarfile.TarInfo(f"{index}.in")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _runs(execution: Execution) -> list[Run]:
    """Read what the script wrote. What a program that tampers with it has spoiled is a failed test."""
    spoiled = Run(-signal.SIGKILL, b"")
    codes, _, rest = execution.stdout.partition(b"\n")
    sizes, _, outputs = rest.partition(b"\n")
    try:
        numbers = [(int(code), int(size)) for code, size in zip(codes.split(), sizes.split(), strict=True)]
    except ValueError:
        return [spoiled]
    runs = []
    for code, size in numbers:
        runs.append(Run(128 - code if code > 128 else code, outputs[:size]))
        outputs = outputs[size:]
    return runs or [spoiled]


def failure(case: Case, run: Run, tolerance: float) -> str | None:
    """Why a run fails a test case, in words; None if it passes."""
    if run.code == -signal.SIGXFSZ:
        return "it writes too much"
    if run.out_of_time:
        return "it needs too much processor time, or was killed"
    if run.code < 0:
        said = run.stderr.decode("utf-8", "replace").strip()
        return f"it is ended by {_signal_name(-run.code)}" + (f": {_shown(said)}" if said and not case.hidden else "")
    if run.code != 0:
        return f"its exit status is {run.code}, not 0"
    stdout = run.stdout.decode("utf-8", "replace")
    if case.output is None or same_output(stdout, case.output, tolerance):
        return None
    if case.hidden:
        return "its output is wrong"
    return f"for the input {_shown(case.input)} it writes {_shown(stdout)}, not {_shown(case.output)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def same_output(written: str, expected: str, tolerance: float = 0.0) -> bool:
    """Whether two outputs have the same words, whatever the blanks between them.

    Args:
        written: What the program wrote.
        expected: What it should have written.
        tolerance: Words that are both numbers may differ by this much, absolutely or relatively.

    Example:
        >>> same_output("1  2\\n", "1 2"), same_output("0.3333", "0.33333"), same_output("0.3333", "0.33333", 1e-3)
        (True, False, True)
    """
    words, others = written.split(), expected.split()
    return words == others or (len(words) == len(others) and all(map(_same_word, words, others, [tolerance] * len(words))))


def _same_word(word: str, other: str, tolerance: float) -> bool:
    if word == other:
        return True
    if not tolerance:
        return False
    try:
        return math.isclose(float(word), float(other), rel_tol=tolerance, abs_tol=tolerance)
    except ValueError:
        return False


def report(cases: Sequence[Case], failures: Mapping[int, str]) -> str:
    """Which tests failed, one line each, hidden ones named by their number alone."""
    return "\n".join(
        f"{'hidden' if cases[index].hidden else 'public'} test {index + 1} of {len(cases)}: {why}"
        for index, why in sorted(failures.items())
    )


def _shown(text: str) -> str:
    text = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return ascii(text)
