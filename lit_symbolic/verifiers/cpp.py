"""Certifies C++ programs: they compile, and pass tests. Both happen in the sandbox; the compiler says where an answer is wrong.

Under this file stand, in ``compiling/``, :mod:`~lit_symbolic.verifiers.compiling.program` (characters, bytes, tokens),
:mod:`~lit_symbolic.verifiers.compiling.diagnostics` and :mod:`~lit_symbolic.verifiers.compiling.linker` (from their words to
findings), :mod:`~lit_symbolic.verifiers.compiling.braces` (where a brace is missing),
:mod:`~lit_symbolic.verifiers.compiling.departure` (where a program that fails its tests left the reference),
:mod:`~lit_symbolic.verifiers.compiling.cases` (test cases) and :mod:`~lit_symbolic.verifiers.compiling.prelude` (the shared
precompiled header).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.compiling.cases import Budget, Case, TestsInterrupted, cases_of, failure, report, run_cases
from lit_symbolic.verifiers.compiling.departure import first_that_breaks
from lit_symbolic.verifiers.compiling.diagnostics import (
    SEMANTIC,
    SOURCE_NAME,
    SYNTAX,
    Pointing,
    compiler_findings,
    read_diagnostics,
    read_origins,
)
from lit_symbolic.verifiers.compiling.linker import LINKER, assembler_findings, linker_findings
from lit_symbolic.verifiers.compiling.prelude import prelude, toolchain
from lit_symbolic.verifiers.compiling.program import Program, fenced_code
from lit_symbolic.verifiers.sandbox import Execution, Limits, Outcome, Sandbox

GOAL = "goal"
"""Tests fail: the whole answer, since nothing says where. With ``locate_departure`` the first part that makes the reference fail."""
RESOURCES = "resources"
"""The compiler used up its time or memory on it, or broke: the whole answer."""
TOO_LONG = "too_long"
"""The whole answer: it was not read."""

KINDS = (SYNTAX, SEMANTIC, LINKER, GOAL, RESOURCES, TOO_LONG)

ENDS_EARLY = frozenset(["exit", "_exit", "_Exit", "quick_exit", "pthread_exit", "thrd_exit", "syscall", "fexecve"]) | {
    f"exec{kind}" for kind in ("l", "lp", "le", "v", "ve", "vp", "vpe")
}
"""Functions by which an answer could make a test that only looks at the exit status end well before its checks."""

_BROKEN = re.compile(r"internal compiler error|terminated program|out of memory|virtual memory exhausted|memory exhausted")
_NOT_THE_PROGRAM = ("<command-line>", "<built-in>", "cc1plus")
_JSON = ("-fdiagnostics-format=json",)
_PLAIN = ("-fdiagnostics-format=text", "-fno-diagnostics-show-caret", "-fdiagnostics-column-unit=byte")
_LINKING = b"collect2: "
"""Begins what g++ says if linking failed."""
_ENVIRONMENT = {"LC_ALL": "C", "TMPDIR": "/work"}


@dataclass(frozen=True)
class CppVerifier:
    """The symbolic tool of C++: g++ and the compiled program.

    Facts of a problem, all of them optional:

    - ``prefix``, ``suffix``: code before and behind the answer, in the same file; the suffix begins on a line of its own;
    - ``tests``: mappings with ``input``, ``output``, ``hidden``, see :class:`~lit_symbolic.verifiers.compiling.cases.Case`. Without
      tests an answer is correct if it compiles. An ``output`` of None means that the exit status alone decides, as with a
      suffix full of assertions; the answer may then not call ``exit`` and its like;
    - ``run_seconds``, ``run_megabytes``: in place of this verifier's.

    Measures: ``compiled`` 1 or 0 (with tests: and linked); ``tests``, ``tests_passed``: their numbers, and ``tests_fraction``,
    the share; ``public_fraction`` and ``hidden_fraction`` the same of those, 1 where there are none and it compiled. The score
    is ``tests_fraction``, or ``compiled`` where there are no tests.

    An answer on which the compiler uses up its processor time or memory is rejected: that is the answer's doing. A deadline
    alone, with processor time left, may be a busy machine: it is no evidence (``timeout``), for the compiler as for a test. A
    program that uses up its processor time fails the test, and those behind it are not run and count as failed.

    Args:
        compiler: Name or path of g++, version 11 or newer.
        standard: The language's standard, as behind ``-std=``.
        flags: Further flags.
        headers: Included before every program, from a precompiled header that all workers share. ``()`` is none: then an
            ``#include`` that is missing is an error, as it is elsewhere, and a compilation takes most of a second.
        errors: ``all``, or only the ``first`` in the order of their places.
        spans: ``token``: the characters that the compiler points at; ``line``: the lines that hold them.
        previous_line: Where something is missing before a line break (a ``;``), point there, not at the next line, where the
            compiler notices it.
        code_fence: If there is a Markdown fence in the answer, what is inside the first one is the program.
        max_errors: So many of its errors are read. (``-fmax-errors`` would lose them all: g++ 12 then ends without its JSON.)
        compile_seconds: Processor time for the compiler.
        compile_megabytes: Memory for the compiler.
        run_seconds: Processor time for each test, in whole seconds (a fraction is rounded up).
        run_megabytes: Memory for each test.
        output_megabytes: What a test may write.
        patience: A deadline is so many times the processor time that is allowed. It ends what sleeps, and what a busy machine
            does not get done.
        tolerance: Numbers in the output may differ by this much, absolutely or relatively.
        max_characters: Longer answers are rejected unread.
        locate_departure: Where tests fail, and the problem has a reference, point at the first part of the answer with which the reference
            does not pass either (see :mod:`~lit_symbolic.verifiers.compiling.departure`). For training: it tells of the reference. Takes
            a compilation for every doubling of the number of places in which they differ; none where there is one such place.
        locate_seconds: No further such trial is begun after so many seconds; the place is then the whole answer.
        sandbox: Mode of the :class:`~lit_symbolic.verifiers.sandbox.Sandbox`.
        cache_dir: Folder of the precompiled header; None is the user's cache.

    Example:
        >>> problem = Problem("cpp", "double", "", {"tests": [{"input": "4", "output": "8"}, {"input": "0", "output": "0"}]})
        >>> answer = "int main() {\\n  int n;\\n  std::cin >> n;\\n  std::cout << 2 * n"
        >>> CppVerifier().verify(problem, answer + ";\\n}\\n").correct  # doctest: +SKIP
        True
        >>> finding, = CppVerifier().verify(problem, answer + "\\n}\\n").findings  # doctest: +SKIP
        >>> finding.kind, finding.start == len(answer), finding.message  # doctest: +SKIP
        ('syntax', True, "expected ';' before '}' token")
    """

    compiler: str = "g++"
    standard: str = "gnu++17"
    flags: tuple[str, ...] = ("-O1",)
    headers: tuple[str, ...] = ("bits/stdc++.h",)
    errors: Literal["all", "first"] = "all"
    spans: Literal["token", "line"] = "token"
    previous_line: bool = True
    code_fence: bool = False
    max_errors: int = 20
    compile_seconds: float = 4.0
    compile_megabytes: int = 1024
    run_seconds: int = 2
    run_megabytes: int = 256
    output_megabytes: int = 4
    patience: float = 4.0
    tolerance: float = 0.0
    max_characters: int = 100_000
    locate_departure: bool = False
    locate_seconds: float = 1.5
    sandbox: Literal["required", "best_effort", "off"] = "required"
    cache_dir: str | None = None

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify a program, see the class.

        Raises:
            CompilerUnavailable: If g++ is missing; says what to install.
        """
        cases = cases_of(problem.facts)
        if len(text) > self.max_characters:
            message = f"the answer has {len(text)} characters; at most {self.max_characters} are read"
            return _rejected(text, TOO_LONG, message, cases)
        start, end = fenced_code(text) if self.code_fence else (0, len(text))
        program = Program(str(problem.facts.get("prefix", "")), text[start:end], str(problem.facts.get("suffix", "")))
        quick_linker = toolchain(self.compiler).quick_linker
        compiled = self._compile(program, cases, linker=quick_linker)
        if quick_linker and _LINKING in compiled.stderr:  # the usual linker decides, and its words are those that are read
            compiled = self._compile(program, cases)
        if compiled.returncode == 0 and compiled.outcome is Outcome.EXITED and not compiled.truncated:
            if not cases:
                return Certificate(True, 1.0, measures=_measures(cases, compiled=True), evidence="compiles")
            certificate = self._test(problem, compiled.stdout, cases, text)
            if not self.locate_departure or certificate.correct or not certificate.is_evidence or problem.reference is None:
                return certificate
            return self._located(certificate, problem, program.answer, start)
        if isinstance(failed := self._why_not_compiled(program, compiled, cases, text), Certificate):
            return failed
        moved = [Finding(f.start + start, f.end + start, f.kind, f.message) for f in failed]
        if self.errors == "first":
            moved = moved[:1]
        return Certificate(False, 0.0, tuple(moved), _measures(cases, compiled=False), evidence=_listed(moved, text))

    def prepare(self) -> None:
        """Find the compiler and build the shared header now, which takes seconds, instead of with the first answer.

        Raises:
            CompilerUnavailable: If g++ is missing; says what to install.
        """
        toolchain(self.compiler)
        if self.headers:
            prelude(self.compiler, self._language(), self.headers, self.cache_dir)

    def check_start(self) -> str:
        """Get ready as workers will: what is active, see :class:`~lit_symbolic.verifiers.base.Verifier`.

        Raises:
            CompilerUnavailable: If g++ is missing; says what to install.
            SandboxUnavailable: If the sandbox is required and cannot be had.
        """
        self.prepare()
        return Sandbox(self.sandbox).check_start()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A worker of a pool is given time to unpickle a verifier before the first deadline: the time to build the header."""
        self.__dict__.update(state)
        self.prepare()

    def _language(self) -> tuple[str, ...]:
        return (f"-std={self.standard}", *self.flags)

    def _compile(
        self, program: Program, cases: Sequence[Case], diagnostics: Sequence[str] = _JSON, linker: Sequence[str] = ()
    ) -> Execution:
        """Compile the program; with tests also link it, and have the executable on standard output.

        ``-fsyntax-only`` where there are no tests. Where there are, its pass is the first part of compiling: run on its own
        before it would find the same errors, and cost correct answers that part twice.
        """
        tool = toolchain(self.compiler)
        command = [tool.path, *self._language(), "-w", *diagnostics]
        readable = [*tool.readable]
        if self.headers:
            header = prelude(self.compiler, self._language(), self.headers, self.cache_dir)
            command += ["-include", str(header)]
            readable.append(str(header.parent))
        command.append(SOURCE_NAME)
        if cases and diagnostics is _JSON:
            forbidden = [f"-Wl,--wrap={name}" for name in sorted(_forbidden(program, cases))]
            script = '"$0" "$@" -o program && exec cat program'
            command = ["/bin/sh", "-c", script, *command, "-pipe", *linker, *forbidden]
        else:
            command.append("-fsyntax-only")
        return Sandbox(self.sandbox).run(
            command,
            files={SOURCE_NAME: program.data},
            readable=readable,
            environment=_ENVIRONMENT,
            limits=Limits(
                wall_seconds=self.patience * self.compile_seconds,
                cpu_seconds=math.ceil(self.compile_seconds),
                memory_megabytes=self.compile_megabytes,
                file_megabytes=64,
                tmpfs_megabytes=128,
                output_bytes=32 << 20,
            ),
        )

    def _why_not_compiled(
        self, program: Program, compiled: Execution, cases: Sequence[Case], text: str
    ) -> Certificate | list[Finding]:
        """Findings in the answer's code, or the certificate of a compiler that came to no end."""
        output = compiled.stderr.decode("utf-8", "replace")
        errors, rest = read_diagnostics(output, program, self.max_errors)
        if any(error.file in _NOT_THE_PROGRAM for error in errors) and not program.renumbers_lines:
            return Certificate.without_evidence(Status.CRASHED, f"the compiler was not started right: {errors[0].message}")
        if errors:
            origins = {}
            if any(error.span is None for error in errors) and not program.renumbers_lines:
                again = self._compile(program, cases, _PLAIN)
                origins = read_origins(again.stderr.decode("utf-8", "replace"), program)
            pointing = Pointing(whole_lines=self.spans == "line", previous_line=self.previous_line)
            return compiler_findings(errors, origins, program, pointing)
        if findings := linker_findings(rest, program, _forbidden(program, cases)) or assembler_findings(rest, program):
            return findings
        if compiled.cpu_seconds >= 0.95 * self.compile_seconds:  # what is killed at the limit was not always charged all of it
            message = f"the compiler needs more than {self.compile_seconds:g} s of processor time"
            return _rejected(text, RESOURCES, message, cases)
        if compiled.outcome is Outcome.TIMEOUT:
            return Certificate.without_evidence(Status.TIMEOUT, f"the compiler was stopped after {compiled.wall_seconds:.1f} s")
        if compiled.outcome in (Outcome.MEMORY_LIMIT, Outcome.OUTPUT_LIMIT) or compiled.truncated:
            return _rejected(text, RESOURCES, "the compiler needs too much memory, or writes too much", cases)
        if compiled.outcome is Outcome.SIGNALED or _BROKEN.search(output):
            return _rejected(text, RESOURCES, "the compiler broke, or ran out of memory", cases)
        return Certificate.without_evidence(Status.CRASHED, f"the compiler failed without an error in the program: {output}")

    def _test(self, problem: Problem, executable: bytes, cases: Sequence[Case], text: str) -> Certificate:
        """Run the program on all cases, and compare what it wrote."""
        seconds = math.ceil(problem.facts.get("run_seconds", self.run_seconds))
        megabytes = int(problem.facts.get("run_megabytes", self.run_megabytes))
        try:
            budget = Budget(seconds, self.patience, megabytes, self.output_megabytes)
            runs = run_cases(Sandbox(self.sandbox), executable, cases, budget)
        except TestsInterrupted as interruption:
            return Certificate.without_evidence(Status.TIMEOUT, str(interruption))
        failures = {}
        for index, case in enumerate(cases):
            why = failure(case, runs[index], self.tolerance) if index < len(runs) else "not run"
            if why is not None:
                failures[index] = why
        measures = _measures(cases, compiled=True, failures=failures)
        if not failures:
            return Certificate(True, 1.0, measures=measures, evidence=f"compiles and passes {len(cases)} tests")
        told = report(cases, failures)
        finding = Finding(0, len(text), GOAL, f"{len(failures)} of {len(cases)} tests failed; {told.partition(chr(10))[0]}")
        return Certificate(False, measures["tests_fraction"], (finding,), measures, evidence=told)

    def _located(self, certificate: Certificate, problem: Problem, code: str, offset: int) -> Certificate:
        """The certificate of failed tests, its finding where the code left the reference."""
        until = time.monotonic() + self.locate_seconds
        plain = replace(self, locate_departure=False, code_fence=False)

        def passes(code: str) -> bool | None:
            tried = plain.verify(problem, code) if time.monotonic() < until else None
            return tried.correct if tried is not None and tried.is_evidence else None

        piece = first_that_breaks(code, str(problem.reference), passes)
        if piece is None:
            return certificate
        (whole,) = certificate.findings
        start, end = piece.place
        return replace(certificate, findings=(Finding(start + offset, end + offset, GOAL, whole.message),))


def _forbidden(program: Program, cases: Sequence[Case]) -> frozenset[str]:
    """The functions that the answer may not call: those of :data:`ENDS_EARLY` that the code around it does not use either."""
    if all(case.output is not None for case in cases):
        return frozenset()
    return ENDS_EARLY - set(re.findall(r"\w+", program.prefix)) - set(re.findall(r"\w+", program.suffix))


def _measures(cases: Sequence[Case], compiled: bool, failures: Sequence[int] | dict[int, str] = ()) -> dict[str, float]:
    def fraction(indices: list[int]) -> float:
        if not compiled:
            return 0.0
        return sum(index not in failures for index in indices) / len(indices) if indices else 1.0

    everything = list(range(len(cases)))
    return {
        "compiled": float(compiled),
        "tests": float(len(cases)),
        "tests_passed": float(len(cases) - len(failures)) if compiled else 0.0,
        "tests_fraction": fraction(everything),
        "public_fraction": fraction([index for index in everything if not cases[index].hidden]),
        "hidden_fraction": fraction([index for index in everything if cases[index].hidden]),
    }


def _rejected(text: str, kind: str, message: str, cases: Sequence[Case]) -> Certificate:
    finding = Finding(0, len(text), kind, message)
    return Certificate(False, 0.0, (finding,), _measures(cases, compiled=False), Status.REJECTED, message)


def _listed(findings: Sequence[Finding], text: str) -> str:
    """The findings with their lines, as a compiler lists them."""
    return "\n".join(f"line {text.count(chr(10), 0, f.start) + 1}: {f.kind}: {f.message}" for f in findings)
