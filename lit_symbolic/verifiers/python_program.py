"""Certifies Python programs by running them: what ``solution()`` returns, what is printed, or whether tests pass.

The program runs in the sandbox, in an interpreter that is thrown away afterwards; nothing of it is parsed, compiled or
evaluated outside. What is expected stays outside too: the interpreter reports a value, which is compared here. See
:mod:`~lit_symbolic.verifiers.python_harness` for what runs inside and :mod:`~lit_symbolic.verifiers.python_values` for when a value is the expected one.
"""

from __future__ import annotations

import ast
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.python_interpreter import execute
from lit_symbolic.verifiers.python_source import Source, Span, program_in
from lit_symbolic.verifiers.python_values import Expected, Opaque, decode, printed_result
from lit_symbolic.verifiers.sandbox import Execution, Limits, Outcome

SYNTAX = "syntax"
"""The program cannot be compiled: from the last token before the place where the interpreter gave up, or the line in which a bracket is missing."""
EXCEPTION = "exception"
"""The expression of the answer that was being evaluated when an exception left the program; the innermost one."""
NO_RESULT = "no_result"
"""There is no ``solution()``, it returns ``None``, or nothing was printed: an empty span at the place where it is missing."""
GOAL = "goal"
"""The result is wrong: the expression that was returned or the call that printed it, which need not be where it went wrong;
for a failed test, which has no place, an empty span at the end."""
TIME = "time"
"""The line that was running when the processor time was used up."""
MEMORY = "memory"
"""As ``exception``, for memory: the expression that asked for too much."""
CRASH = "crash"
"""The interpreter was killed by a signal: the line that was running, where it left a trace."""
OUTPUT = "output"
"""More was written than is read."""
TOO_LONG = "too_long"
"""The whole answer: it was not run."""

KINDS = (SYNTAX, EXCEPTION, NO_RESULT, GOAL, TIME, MEMORY, CRASH, OUTPUT, TOO_LONG)

SCORE_RUNS, SCORE_COMPILES = 0.35, 0.2
"""Scores of wrong answers, after the rewards of CodeRL (https://arxiv.org/abs/2207.01780, eq. 6: -1, -0.6, -0.3, 1), moved to [0, 1]."""

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_TRACE_LINE = re.compile(rb'File "<answer>", line (\d+) in')
_SIGXCPU, _SIGPROF = 24, 27


@dataclass(frozen=True)
class PythonProgramVerifier:
    """Runs a program in the sandbox and compares its result, or passes tests to it.

    Reads the facts ``answer`` (what the result should be, see :class:`~lit_symbolic.verifiers.python_values.Expected`), with
    ``tolerance``, ``relative_tolerance`` and ``ordered`` where a problem has its own; or ``tests``, a sequence of Python sources that are
    run after the program, each on its own. Of a test ``assert EXPRESSION == LITERAL`` the value of the expression is reported and compared outside (Python's own ``==``, no tolerance), of
    others only that they ended without an exception: a program that overrides ``==`` or reads the tests from the interpreter can deceive those.

    Measures: ``compiles``, ``runs`` (to its end, without an exception), ``result`` (there is one), ``solved``; with tests ``tests``, ``tests_passed``, ``test_share``. The
    score of a wrong answer is 0 if it does not compile, 0.2 if it does not run to its end, else 0.35, and above that as much as tests are passed.

    A limit that is exceeded is the answer's fault (:attr:`Status.REJECTED`), except wall time: a program that waits, or a machine
    that is busy, is no evidence. The same answer gets the same certificate as long as it reads no clock and no ``os.urandom``: hashes of strings are fixed, and so is the
    seed of ``random``.

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
        >>> verifier.verify(problem, "def solution():\\n    return 7 / 2").correct
        True
        >>> text = "def solution():\\n    half = 7 / 0\\n    return half"
        >>> finding, = verifier.verify(problem, text).findings
        >>> finding.kind, text[finding.start : finding.end], finding.message
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
            return judge.failed(
                Finding(place, place + 1, SYNTAX, f"{ascii(odd.group())} cannot stand in a program"), compiles=False
            )
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
            cpu_seconds=int(self.cpu_seconds) + 2,  # the interpreter's own timer, which leaves a trace, comes first
            memory_megabytes=self.memory_megabytes,
            file_megabytes=max(1, self.output_bytes >> 20),
            output_bytes=4 << 20,
        )
        execution = execute(request, tuple(self.libraries), self.sandbox, limits)
        return self._read(execution, nonce.encode(), source, judge)

    def _judge(self, facts: Mapping[str, Any]) -> _Judge:
        if "tests" in facts:
            return _Judge(None, tuple(_read_test(test) for test in facts["tests"]))
        if "answer" not in facts:
            raise ValueError(f"a program needs the fact 'answer' or 'tests' to be judged, the problem has {sorted(facts)}")
        expected = Expected(
            facts["answer"],
            facts.get("tolerance", self.tolerance),
            facts.get("relative_tolerance", self.relative_tolerance),
            facts.get("ordered", True),
        )
        return _Judge(expected, ())

    def _read(self, execution: Execution, nonce: bytes, source: Source, judge: _Judge) -> Certificate:
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
            except ValueError as error:
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


@dataclass(frozen=True)
class _Test:
    """A test: the ``expected`` value of an expression, or statements that must run to their end."""

    source: str
    is_expression: bool
    expected: Any = None

    def passed(self, report: Mapping[str, Any]) -> bool:
        """Whether the report of this test says so."""
        return report.get("end") == "value" and (not self.is_expression or decode(report["value"]) == self.expected)


@dataclass(frozen=True)
class _Judge:
    """What is asked of one program: a result, or tests to pass."""

    expected: Expected | None
    tests: tuple[_Test, ...]

    def certificate(self, report: Mapping[str, Any], source: Source) -> Certificate:
        """Judge the last report of an interpreter that came to its end.

        Raises:
            ValueError: If it is none.
        """
        end, message = report["end"], _words(report.get("message", ""))
        at = _place(report.get("at"))
        if end == "syntax":
            return self.failed(Finding(*source.syntax_span(at, message), SYNTAX, message), compiles=False)
        if end in ("exception", "exit"):
            return self.failed(_raised(source, at, message))
        if end != "value":
            raise ValueError(f"unknown end {end!r}")
        if self.expected is None:
            return self._tested(report, source)
        return self._compared(self.expected, report, at, source)

    def _compared(self, expected: Expected, report: Mapping[str, Any], at: _At, source: Source) -> Certificate:
        value = decode(report["value"]) if report["value"] is not None else None
        printed = report.get("from") == "output"
        if printed:
            value = printed_result(value, expected.value) if isinstance(value, str) else ""
        missing = not value if printed else value is None and expected.value is not None
        if missing:
            return self.failed(_nothing(source, report, printed), runs=True)
        if expected.agrees(value):
            return self._certificate((), compiles=True, runs=True, result=True, evidence=f"the result is {_show(value)}")
        span = source.span(at) if at else (source.end_of_code(),) * 2
        message = f"this is {_show(value)}, not {_show(expected.value)}"
        return self.failed(Finding(*span, GOAL, message), runs=True, result=True)

    def _tested(self, report: Mapping[str, Any], source: Source) -> Certificate:
        reports = report["tests"]
        if not isinstance(reports, list) or len(reports) != len(self.tests):
            raise ValueError("there is not one report for each test")
        passed = 0
        findings: dict[Span, Finding] = {}
        for test, outcome in zip(self.tests, reports, strict=True):
            if test.passed(outcome):
                passed += 1
                continue
            end = source.end_of_code()
            at = _place(outcome.get("at"))
            if outcome.get("end") == "value":
                finding = Finding(
                    end, end, GOAL, f"{_short(test.source)} is {_show(decode(outcome['value']))}, not {_show(test.expected)}"
                )
            elif at is not None:
                finding = _raised(source, at, f"{_words(outcome.get('message', ''))} (in the test {_short(test.source)})")
            else:
                finding = Finding(end, end, GOAL, f"{_short(test.source)}: {_words(outcome.get('message', ''))}")
            findings.setdefault((finding.start, finding.end), finding)
        raised = any(outcome.get("end") != "value" for outcome in reports)
        evidence = f"{passed} of {len(self.tests)} tests passed"
        return self._certificate(tuple(findings.values()), True, not raised, True, passed, evidence)

    def failed(self, finding: Finding, compiles: bool = True, runs: bool = False, result: bool = False) -> Certificate:
        """A wrong answer with this finding."""
        return self._certificate((finding,), compiles, runs, result)

    def rejected(self, finding: Finding, compiles: bool) -> Certificate:
        """An answer that exceeded a limit."""
        return self._certificate((finding,), compiles, False, False, status=Status.REJECTED)

    def _certificate(
        self,
        findings: tuple[Finding, ...],
        compiles: bool,
        runs: bool,
        result: bool,
        passed: int = 0,
        evidence: str = "",
        status: Status = Status.OK,
    ) -> Certificate:
        correct = not findings
        share = passed / len(self.tests) if self.tests else 0.0
        wrong = (
            0.0 if not compiles else max(SCORE_COMPILES if not runs else SCORE_RUNS, SCORE_RUNS + 0.6 * share if share else 0.0)
        )
        measures = {
            "compiles": float(compiles),
            "runs": float(runs),
            "result": float(result),
            "solved": float(correct),
        }
        if self.tests:
            measures |= {"tests": float(len(self.tests)), "tests_passed": float(passed), "test_share": share}
        return Certificate(
            correct=correct,
            score=1.0 if correct else wrong,
            findings=tuple(sorted(findings)),
            measures=measures,
            status=status,
            evidence=evidence or "\n".join(finding.message for finding in findings),
        )


_At = tuple[int | None, int | None, int | None, int | None] | None


@lru_cache(1 << 12)
def _read_test(source: str) -> _Test:
    """A test as it is given; one assertion that compares with a literal is split, so that the comparison is made outside."""
    try:
        statements = ast.parse(source.strip()).body
    except SyntaxError as error:
        raise ValueError(f"not a test in Python: {source!r}: {error}") from None
    if len(statements) != 1 or not isinstance(statements[0], ast.Assert):
        return _Test(source, is_expression=False)
    condition = statements[0].test
    if isinstance(condition, ast.Compare) and len(condition.ops) == 1 and isinstance(condition.ops[0], ast.Eq):
        for expression, literal in ((condition.left, condition.comparators[0]), (condition.comparators[0], condition.left)):
            try:
                return _Test(ast.unparse(expression), is_expression=True, expected=ast.literal_eval(literal))
            except ValueError:
                continue
    return _Test(f"bool({ast.unparse(condition)})", is_expression=True, expected=True)


def _lines_with(nonce: bytes, output: bytes) -> list[bytes]:
    return [line[len(nonce) :] for line in output.split(b"\n") if line.startswith(nonce)]


def _report(line: bytes) -> dict[str, Any] | None:
    try:
        report = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) else None


def _place(at: Any) -> _At:
    """A place as it was reported.

    Raises:
        ValueError: If it is none.
    """
    if at is None:
        return None
    numbers = isinstance(at, list) and len(at) == 4 and all(n is None or (type(n) is int and abs(n) < 1 << 30) for n in at)
    if not numbers:
        raise ValueError("a place that is none")
    return tuple(at)


def _raised(source: Source, at: _At, message: str) -> Finding:
    span = source.span(at) if at else (source.end_of_code(),) * 2
    return Finding(*span, MEMORY if message.startswith("MemoryError") else EXCEPTION, message)


def _nothing(source: Source, report: Mapping[str, Any], printed: bool) -> Finding:
    end = source.end_of_code()
    if printed:
        return Finding(end, end, NO_RESULT, "nothing is printed")
    if report.get("from") == "nothing":
        return Finding(end, end, NO_RESULT, "solution() is not defined")
    at = _place(report.get("at"))
    if at:
        return Finding(*source.span(at), NO_RESULT, "solution() returns None")
    return Finding(end, end, NO_RESULT, "solution() ends without a return")


def _words(message: Any) -> str:
    """A message without what differs from run to run, and without what no file can hold."""
    words = _ADDRESS.sub("", message) if isinstance(message, str) else repr(message)
    return words.encode("utf-8", "backslashreplace").decode("utf-8")[:400]


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"


def _show(value: Any) -> str:
    if isinstance(value, Opaque):
        return _short(_words(value.text))
    try:
        return _short(_words(repr(value)))
    except ValueError:  # an integer of very many digits
        return f"a number of {value.bit_length()} bits" if isinstance(value, int) else "a value too long to be shown"
