"""Certifies Python programs by running them: what ``solution()`` returns, what is printed, or whether tests pass.

The program runs in the sandbox, in an interpreter that is thrown away afterwards; nothing of it is parsed, compiled or
evaluated outside. What is expected stays outside too: the interpreter reports a value, which is compared here. Under this file
stand, in ``interpreting/``, :mod:`~lit_symbolic.verifiers.interpreting.harness` (what runs inside),
:mod:`~lit_symbolic.verifiers.interpreting.interpreter` (how it is started), :mod:`~lit_symbolic.verifiers.interpreting.judge`
(from its report to a certificate), :mod:`~lit_symbolic.verifiers.interpreting.values` (when a value is the expected one) and
:mod:`~lit_symbolic.verifiers.interpreting.source` (from the interpreter's lines and columns to characters).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.base import ToolUnavailable
from lit_symbolic.verifiers.interpreting.interpreter import execute, library_folders
from lit_symbolic.verifiers.interpreting.judge import (
    CRASH,
    EXCEPTION,
    GOAL,
    KINDS,
    MEMORY,
    NO_RESULT,
    OUTPUT,
    SYNTAX,
    TIME,
    TOO_LONG,
    Judge,
    read_test,
)
from lit_symbolic.verifiers.interpreting.source import Source, program_in
from lit_symbolic.verifiers.interpreting.values import Expected
from lit_symbolic.verifiers.sandbox import Execution, Limits, Outcome, Sandbox

__all__ = [
    "CRASH",
    "EXCEPTION",
    "GOAL",
    "KINDS",
    "MEMORY",
    "NO_RESULT",
    "OUTPUT",
    "SYNTAX",
    "TIME",
    "TOO_LONG",
    "PythonProgramVerifier",
]

_TRACE_LINE = re.compile(rb'File "<answer>", line (\d+) in')
_SIGXCPU, _SIGPROF = 24, 27


@dataclass(frozen=True)
class PythonProgramVerifier:
    """Runs a program in the sandbox and compares its result, or passes tests to it.

    Reads the facts ``answer`` (what the result should be, see :class:`~lit_symbolic.verifiers.interpreting.values.Expected`),
    with ``tolerance``, ``relative_tolerance`` and ``ordered`` where a problem has its own; or ``tests``, a sequence of Python
    sources that are run after the program, each on its own.

    Of a test ``assert EXPRESSION == LITERAL`` the value of the expression is reported, and compared outside by Python's own
    ``==``. Of other tests it is only reported that they hold, from inside the interpreter in which the program ran: a program
    that goes looking for them there can deceive them.

    Measures: ``compiles``, ``runs`` (to its end, without an exception), ``result`` (there is one), ``solved``; with tests also
    ``tests``, ``tests_passed``, ``test_share``. The score of a wrong answer is 0 if it does not compile, 0.2 if it does not run
    to its end, else 0.35, and more if it passes some tests.

    A limit that is exceeded is the answer's fault (:attr:`Status.REJECTED`), except wall time: a program that waits, or a
    machine that is busy, is no evidence. The same answer gets the same certificate as long as it reads no clock and no
    ``os.urandom``: the hashes of strings are fixed, and so is the seed of ``random``.

    Args:
        result: The result is what ``solution()`` returns (``solution``), the last line that is printed (``printed``), or the former if the
            program defines ``solution`` and the latter if not (``auto``).
        tolerance: Absolute difference of numbers that counts as none; 1e-3 is PAL's.
        relative_tolerance: The same, of the expected number: as large floats have it.
        fenced: Whether the program may stand in a fenced block with words around it, as chat models write it.
        libraries: Packages beside the standard library that a program may import, with those that they need: ``("sympy", "mpmath")``.
        cpu_seconds: Processor time of the program.
        wall_seconds: Time until it is stopped without evidence. Keep the pool's deadline above it.
        memory_megabytes: Address space of the interpreter.
        output_bytes: What may be printed.
        max_characters: Longer answers are rejected unread.
        sandbox: What to do where a layer of the sandbox is missing, see :class:`~lit_symbolic.verifiers.sandbox.Sandbox`.

    Example:
        >>> verifier = PythonProgramVerifier()
        >>> problem = Problem("math", "0", "Half of 7?", {"answer": 3.5})
        >>> verifier.verify(problem, "def solution():\\n    return 7 / 2").correct  # doctest: +SKIP
        True
        >>> text = "def solution():\\n    half = 7 / 0\\n    return half"
        >>> finding, = verifier.verify(problem, text).findings  # doctest: +SKIP
        >>> finding.kind, text[finding.start : finding.end], finding.message  # doctest: +SKIP
        ('exception', '7 / 0', 'ZeroDivisionError: division by zero')
    """

    result: Literal["auto", "solution", "printed"] = "auto"
    tolerance: float = 1e-3
    relative_tolerance: float = 1e-9
    fenced: bool = True
    libraries: Sequence[str] = ()
    cpu_seconds: float = 2.0
    wall_seconds: float = 4.0
    memory_megabytes: int = 512
    output_bytes: int = 1 << 20
    max_characters: int = 20_000
    sandbox: Literal["required", "best_effort", "off"] = "required"

    def __post_init__(self) -> None:
        for name in ("cpu_seconds", "wall_seconds", "memory_megabytes", "output_bytes", "max_characters"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is positive, got {getattr(self, name)!r}")
        for name in ("tolerance", "relative_tolerance"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is a number from 0 up, got {getattr(self, name)!r}")
        object.__setattr__(self, "libraries", tuple(self.libraries))

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify a program, see the class.

        Raises:
            ValueError: If the problem has neither ``answer`` nor ``tests``, or a test is no Python.
            SandboxUnavailable: If the sandbox is required and cannot be had.
        """
        judge = self._judge(problem.facts)
        if len(text) > self.max_characters:
            message = f"the answer has {len(text)} characters; at most {self.max_characters} are read"
            return judge.rejected(Finding(0, len(text), TOO_LONG, message), compiles=False)
        source = Source(text, *(program_in(text) if self.fenced else (0, len(text))))
        odd = re.search("[\0\ud800-\udfff]", source.program)
        if odd:
            place = source.start + odd.start()
            return judge.failed(Finding(place, place + 1, SYNTAX, f"{odd.group()!a} cannot stand in a program"), compiles=False)
        nonce = secrets.token_hex(16)
        request = {
            "nonce": nonce,
            "source": source.program,
            "mode": "tests" if judge.tests else self.result,
            "tests": [(test.source, test.is_expression) for test in judge.tests],
            "cpu_seconds": self.cpu_seconds,
            "output_bytes": self.output_bytes,
        }
        limits = Limits(
            wall_seconds=self.wall_seconds,
            cpu_seconds=int(self.cpu_seconds) + 1,  # the interpreter's own timer, which leaves a trace, comes first
            memory_megabytes=self.memory_megabytes,
            file_megabytes=max(1, self.output_bytes >> 20),
            output_bytes=4 << 20,
        )
        execution = execute(request, tuple(self.libraries), self.sandbox, limits)
        return self._read(execution, nonce.encode(), source, judge)

    def prepare(self) -> None:
        """Start an interpreter, with the libraries imported, before there is an answer.

        Raises:
            SandboxUnavailable: If the sandbox is required and cannot be had.
        """
        self.verify(Problem("", "", "", {"answer": 1}), "print(1)")

    def check_start(self) -> str:
        """What is active, see :class:`~lit_symbolic.verifiers.base.Verifier`.

        Raises:
            ToolUnavailable: If a library is not installed.
            SandboxUnavailable: If the sandbox is required and cannot be had.
        """
        try:
            library_folders(tuple(self.libraries))
        except ValueError as error:
            raise ToolUnavailable(str(error)) from None
        return Sandbox(self.sandbox).check_start()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A worker of a pool is given time to unpickle a verifier before the first deadline: the time to import libraries."""
        self.__dict__.update(state)
        self.prepare()

    def _judge(self, facts: Mapping[str, Any]) -> Judge:
        if "tests" in facts:
            if not facts["tests"] or isinstance(facts["tests"], str):
                raise ValueError("the fact 'tests' is a sequence of at least one Python source")
            return Judge(None, tuple(read_test(test) for test in facts["tests"]))
        if "answer" not in facts:
            raise ValueError(f"a program needs the fact 'answer' or 'tests' to be judged, the problem has {sorted(facts)}")
        expected = Expected(
            facts["answer"],
            facts.get("tolerance", self.tolerance),
            facts.get("relative_tolerance", self.relative_tolerance),
            facts.get("ordered", True),
        )
        return Judge(expected, ())

    def _read(self, execution: Execution, nonce: bytes, source: Source, judge: Judge) -> Certificate:
        """The certificate that follows from what an execution left behind."""
        reports = [report for report in map(_report, _lines_with(nonce, execution.stdout)) if report is not None]
        stages = {report.get("stage") for report in reports}
        last = next((report for report in reports if "end" in report), None)
        compiles = "running" in stages
        if "compiling" not in stages and execution.outcome is not Outcome.TIMEOUT:
            words = execution.stderr.decode("utf-8", "replace")[-1_000:]
            return Certificate.without_evidence(Status.CRASHED, f"the interpreter did not start in the sandbox: {words}")
        if last is not None:
            try:
                return judge.certificate(last, source)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:  # the program wrote it
                end = source.end_of_code()
                return judge.failed(Finding(end, end, NO_RESULT, f"the interpreter's report cannot be read: {error}"), compiles)
        trace = _TRACE_LINE.search(execution.stdout)
        at = source.code_of_line(int(trace.group(1)[:9])) if trace else (source.end_of_code(),) * 2
        if execution.outcome is Outcome.OUTPUT_LIMIT:
            return judge.rejected(Finding(*at, OUTPUT, "more was written than is read"), compiles)
        if execution.outcome is Outcome.MEMORY_LIMIT:
            return judge.rejected(Finding(*at, MEMORY, f"more than {self.memory_megabytes} megabytes of memory"), compiles)
        used_up = execution.outcome is Outcome.SIGNALED and execution.returncode in (-_SIGPROF, -_SIGXCPU)
        if used_up or execution.cpu_seconds >= self.cpu_seconds:
            return judge.rejected(Finding(*at, TIME, f"stopped after {self.cpu_seconds:g} s of processor time"), compiles)
        if execution.outcome is Outcome.TIMEOUT:
            return Certificate.without_evidence(Status.TIMEOUT, f"stopped after {self.wall_seconds:g} s")
        if execution.outcome is Outcome.SIGNALED:
            message = f"the interpreter was killed by signal {-execution.returncode}"
            return judge.rejected(Finding(*at, CRASH, message), compiles)
        return judge.failed(Finding(*at, NO_RESULT, "the program ended the interpreter before there was a result"), compiles)


def _lines_with(nonce: bytes, output: bytes) -> list[bytes]:
    return [line[len(nonce) :] for line in output.split(b"\n") if line.startswith(nonce)]


def _report(line: bytes) -> dict[str, Any] | None:
    try:
        report = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) else None
