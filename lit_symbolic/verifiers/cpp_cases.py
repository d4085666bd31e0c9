"""Test cases of C++ programs: what they are made of, and whether an execution passes one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_symbolic.verifiers.sandbox import Execution, Outcome

_SHOWN_CHARACTERS = 60


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


def cases_of(facts: Mapping[str, Any]) -> list[Case]:
    """The test cases of a problem: its fact ``tests``, mappings with the keys ``input``, ``output``, ``hidden``.

    Raises:
        ValueError: If one has another key.
    """
    try:
        return [Case(**test) for test in facts.get("tests", ())]
    except TypeError as error:
        raise ValueError(f"a test has the keys input, output and hidden, see Case: {error}") from error


def failure(case: Case, execution: Execution, tolerance: float, cpu_seconds: float) -> str | None:
    """Why an execution fails a test case, in words; None if it passes."""
    stdout = execution.stdout.decode("utf-8", "replace")
    if ran_out_of_time(execution, cpu_seconds):
        return f"it needs more than {cpu_seconds:g} s of processor time"
    if execution.outcome is Outcome.MEMORY_LIMIT:
        return "it needs too much memory"
    if execution.outcome is Outcome.OUTPUT_LIMIT or execution.truncated:
        return "it writes too much"
    if execution.outcome is Outcome.SIGNALED:
        said = execution.stderr.decode("utf-8", "replace").strip()
        return f"it is killed by signal {abs(execution.returncode)}" + (f": {_shown(said)}" if said and not case.hidden else "")
    if execution.returncode != 0:
        return f"its exit status is {execution.returncode}, not 0"
    if case.output is None or same_output(stdout, case.output, tolerance):
        return None
    if case.hidden:
        return "its output is wrong"
    return f"for the input {_shown(case.input)} it writes {_shown(stdout)}, not {_shown(case.output)}"


def ran_out_of_time(execution: Execution, cpu_seconds: float) -> bool:
    """Whether it used up its processor time. That is its own doing; a deadline alone may be a machine that is busy."""
    return execution.cpu_seconds >= 0.95 * cpu_seconds  # what is killed at the limit was not always charged all of it


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
