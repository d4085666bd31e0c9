"""Judges what the Python harness reports: a result beside the expected one, or tests, as a certificate with findings."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lit_symbolic.certificate import Certificate, Finding, Status
from lit_symbolic.verifiers.interpreting.source import Source, Span
from lit_symbolic.verifiers.interpreting.values import Expected, Opaque, decode, printed_result

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


@dataclass(frozen=True)
class ProgramTest:
    """A test: the ``expected`` value of an expression, or statements that must run to their end."""

    source: str
    is_expression: bool
    expected: Any = None

    def passed(self, report: Mapping[str, Any]) -> bool:
        """Whether the report of this test says so."""
        return report.get("end") == "value" and (not self.is_expression or decode(report["value"]) == self.expected)

    def line(self, report: Mapping[str, Any]) -> str:
        """The line of the test that failed, or all of it."""
        number, lines = report.get("line"), self.source.split("\n")
        return lines[number - 1].strip() if type(number) is int and 0 < number <= len(lines) else self.source.strip()


@dataclass(frozen=True)
class Judge:
    """What is asked of one program: a result, or tests to pass."""

    expected: Expected | None
    tests: tuple[ProgramTest, ...]

    def certificate(self, report: Mapping[str, Any], source: Source) -> Certificate:
        """Judge the last report of an interpreter that came to its end.

        Raises:
            ValueError: If it is none.
        """
        end, message = report["end"], _words(report.get("message", ""))
        at = _place(report.get("at"))
        if end == "syntax":
            spans = source.syntax_spans(at, message)
            return self._certificate(tuple(Finding(*span, SYNTAX, message) for span in spans), False, False, False)
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
                finding = _raised(source, at, f"{_words(outcome.get('message', ''))} (in the test {_short(test.line(outcome))})")
            else:
                finding = Finding(end, end, GOAL, f"{_short(test.line(outcome))}: {_words(outcome.get('message', ''))}")
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
def read_test(source: str) -> ProgramTest:
    """A test as it is given; one assertion that compares with a literal is split, so that the comparison is made outside."""
    try:
        statements = ast.parse(source.strip()).body
    except SyntaxError as error:
        raise ValueError(f"not a test in Python: {source!r}: {error}") from None
    if len(statements) != 1 or not isinstance(statements[0], ast.Assert):
        return ProgramTest(source, is_expression=False)
    condition = statements[0].test
    if isinstance(condition, ast.Compare) and len(condition.ops) == 1 and isinstance(condition.ops[0], ast.Eq):
        for expression, literal in ((condition.left, condition.comparators[0]), (condition.comparators[0], condition.left)):
            try:
                return ProgramTest(ast.unparse(expression), is_expression=True, expected=ast.literal_eval(literal))
            except ValueError:
                continue
    return ProgramTest(f"bool({ast.unparse(condition)})", is_expression=True, expected=True)


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
    end, at = source.end_of_code(), _place(report.get("at"))
    if printed:
        return Finding(*(source.span(at) if at else (end, end)), NO_RESULT, "nothing is printed")
    if report.get("from") == "nothing":
        return Finding(end, end, NO_RESULT, "solution() is not defined")
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
