"""Certifies answers to the Game of 24: three steps ``a op b = c (left: …)``, or one expression on one line.

A step is judged by the position it is taken in, exactly and over the rationals, and each fault is located at the
characters that made it. The position after a step is the one that its ``a op b`` truly gives, whatever the answer
states; so one slip of arithmetic is one finding and the steps behind it are still judged. Checking stops only where a
step leads to no position: ``a op b`` cannot be read, uses a number that is not there, or divides by zero.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.calculating.arithmetic import (
    Literal,
    Number,
    Operation,
    StepReading,
    ZeroDivisor,
    apply,
    evaluate,
    read_expression,
    read_step,
)
from lit_symbolic.verifiers.calculating.game24_solver import (
    begins_winning_step,
    final_values,
    solvable,
    states_exhausted,
)

UNAVAILABLE_NUMBER = "unavailable_number"
"""An operand that is not on the table: its characters."""
FALSE_ARITHMETIC = "false_arithmetic"
"""A stated result that is not the value: its characters."""
DIVISION_BY_ZERO = "division_by_zero"
"""The divisor."""
WRONG_REMAINDER = "wrong_remainder"
"""A number that is not left, or the closing parenthesis where one that is left is missing."""
MALFORMED_STEP = "malformed_step"
"""From the first character that cannot be read to the line's end."""
EXTRA_STEP = "extra_step"
"""All that stands behind the last possible step."""
UNREACHABLE = "unreachable"
"""The end of ``a op b``, from the first word after which every way to go on loses, in a game that could still be won."""
GOAL = "goal"
"""The target was not reached and nothing above says why: the end of an answer that stops early, or the last result."""
TOO_LONG = "too_long"
"""The whole answer: it was not read."""

KINDS = (
    UNAVAILABLE_NUMBER,
    FALSE_ARITHMETIC,
    DIVISION_BY_ZERO,
    WRONG_REMAINDER,
    MALFORMED_STEP,
    EXTRA_STEP,
    UNREACHABLE,
    GOAL,
    TOO_LONG,
)

Span = tuple[int, int]

_NUMBERS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Game24Verifier:
    """The symbolic tool of the Game of 24; reads the facts ``cards`` (tuple of int) and ``target`` (int).

    An answer on one line without ``(left:`` is read as an expression, if it opens a parenthesis or has more than two
    numbers before its ``=``; ``4 + 8 = 12`` alone is a step that lacks its list. Measures:

    - ``solved``: 1 for a correct answer; ``steps``: steps written (operations of an expression);
    - ``steps_valid``: those with available numbers, true arithmetic and the right remainder; ``step_validity``: their share;
    - ``reachable_steps``: steps taken until the target was out of reach.

    The score of a wrong answer is the share of the steps that come before the first finding, never all of them; of a
    wrong expression, 0.

    Args:
        strict: Every line must be a step. Otherwise a line without ``=`` (``Steps:``, a code fence) is skipped, as suits
            chat models; if no line has one, none is skipped. Blank lines are skipped either way.
        max_characters: Longer answers are rejected unread.

    Example:
        >>> problem = Problem("game24", "24:4-4-6-8", "", {"cards": (4, 4, 6, 8), "target": 24})
        >>> two_steps = "4 + 8 = 12 (left: 4 6 12)\\n6 - 4 = 2 (left: 2 12)\\n"
        >>> Game24Verifier().verify(problem, two_steps + "2 * 12 = 24 (left: 24)").correct
        True
        >>> finding, = Game24Verifier().verify(problem, two_steps + "2 + 12 = 14 (left: 14)").findings
        >>> finding.kind, finding.start - len(two_steps), finding.end - len(two_steps)  # the game was lost at "+"
        ('unreachable', 2, 6)
        >>> Game24Verifier().verify(problem, "(4 + 8) * (6 - 4)").correct
        True
    """

    strict: bool = True
    max_characters: int = 4_000

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify an answer, see the class."""
        if len(text) > self.max_characters:
            message = f"the answer has {len(text)} characters; at most {self.max_characters} are read"
            return Certificate(False, 0.0, (Finding(0, len(text), TOO_LONG, message),), _measures(), Status.REJECTED, message)
        cards, target = tuple(problem.facts["cards"]), problem.facts["target"]
        lines = _lines(text)
        if not self.strict:
            lines = [(start, end) for start, end in lines if "=" in text[start:end]] or lines
        if len(lines) == 1 and _is_expression(text[slice(*lines[0])], len(cards)):
            return _check_expression(text, *lines[0], cards, target)
        return _check_steps(text, lines, cards, target)


def _lines(text: str) -> list[Span]:
    """Spans of the lines that are not blank, without the blanks around them."""
    spans, start = [], 0
    for line in text.split("\n"):
        stripped = line.strip(" \t\r")
        if stripped:
            first = start + line.index(stripped[0])
            spans.append((first, first + len(stripped)))
        start += len(line) + 1
    return spans


def _is_expression(line: str, cards: int) -> bool:
    before, _, _ = line.partition("=")
    return "(left" not in line and ("(" in before or len(_NUMBERS.findall(before)) >= min(3, cards))


def _check_steps(text: str, lines: Sequence[Span], cards: tuple[int, ...], target: int) -> Certificate:
    position: tuple[Number, ...] | None = tuple(sorted(cards))
    winnable = solvable(cards, target)
    lost = False  # by a step of this answer, which then is the reason for a goal not met
    findings: list[Finding] = []
    evidence: list[str] = [] if winnable else [f"{target} cannot be made of {_show(cards)}"]
    before_first = valid = reachable = 0
    last: Span = (len(text), len(text))

    for start, end in lines:
        if position is None:
            break
        if len(position) == 1:
            message = f"the game ended before this line: {_show(position)} is the last number"
            findings.append(Finding(start, lines[-1][1], EXTRA_STEP, message))
            break
        reading = read_step(text, start, end)
        faults, after = _judge(reading, position, text, end)
        valid += not faults
        if after is not None and reading.a and reading.b:
            last = (reading.a.start, reading.b.end) if reading.result is None else reading.result[1:]
            if winnable and not solvable(after, target):
                winnable, lost = False, True
                place = _point_of_no_return(reading, position, target)
                leaves = f"{text[start : reading.b.end]} leaves {_show(after)}"
                faults.append(Finding(place, reading.b.end, UNREACHABLE, f"{target} can no longer be reached: {leaves}"))
                evidence.append(f"{leaves}; {_proof(after, target)}")
            reachable += winnable
        findings += sorted(faults)
        before_first += not findings
        position = after

    if position is not None and position != (target,) and not lost:
        if len(position) > 1:
            message = f"the answer ends with {_show(position)} left; {target} was to be made of them"
            findings.append(Finding(len(text), len(text), GOAL, message))
        else:
            findings.append(Finding(*last, GOAL, f"the last number is {_show(position)}, not {target}"))

    correct = not findings
    steps_needed = max(len(cards) - 1, len(lines), 1)
    if correct:
        evidence.append(f"{len(lines)} true steps make {target} of {_show(cards)}")
    return Certificate(
        correct=correct,
        score=1.0 if correct else min(before_first, steps_needed - 1) / steps_needed,
        findings=tuple(findings),
        measures=_measures(len(lines), valid, reachable, correct),
        evidence="\n".join(evidence),
    )


def _judge(
    reading: StepReading, position: tuple[Number, ...], text: str, end: int
) -> tuple[list[Finding], tuple[Number, ...] | None]:
    """Findings of one step as such, whatever the target, and the position it leads to (None if to none)."""
    findings = []
    rest: tuple[Number, ...] = position
    available = True
    for operand in (reading.a, reading.b):
        if operand is None:
            available = False
        elif operand.value in rest:
            rest = _without(rest, operand.value)
        else:
            available = False
            message = f"{operand.value} is not available, {_show(rest)} is"
            findings.append(Finding(operand.start, operand.end, UNAVAILABLE_NUMBER, message))

    value: Number | None = None
    if reading.a and reading.b and reading.operator:
        value = apply(reading.operator, reading.a.value, reading.b.value)
        if value is None:
            findings.append(Finding(reading.b.start, reading.b.end, DIVISION_BY_ZERO, "division by zero"))
        elif reading.result and reading.result.value != value:
            findings.append(_false_arithmetic(reading.result, value))

    after = None
    if available and value is not None:
        after = tuple(sorted((*rest, value)))
        if reading.left is not None and reading.result:
            findings += _judge_remainder(reading.left, reading.close, rest, (value, reading.result.value))
    if reading.fault is not None:
        findings.append(_malformed(text, reading.fault, end, reading.expected))
    return findings, after


def _judge_remainder(
    left: Sequence[Literal], close: int | None, rest: tuple[Number, ...], results: tuple[Number, Number]
) -> list[Finding]:
    """The list is right with the true result, and with the stated one: a false result is one fault, not two."""
    true, stated = results
    values = [number.value for number in left]
    result = stated if values.count(stated) > rest.count(stated) else true
    if sorted(values) == sorted((*rest, result)):
        return []
    missing = (*rest, result)
    runs: list[tuple[int, int]] = []  # places of numbers that are not left, neighbours together
    for place, number in enumerate(left):
        if number.value in missing:
            missing = _without(missing, number.value)
        elif runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    findings = []
    for first, behind in runs:
        message = f"not left; left are {_show((*rest, result))}"
        findings.append(Finding(left[first].start, left[behind - 1].end, WRONG_REMAINDER, message))
    if missing and not runs and close is not None:
        findings.append(Finding(close, close + 1, WRONG_REMAINDER, f"{_show(missing)} is missing from the list"))
    return findings


def _point_of_no_return(reading: StepReading, position: tuple[Number, ...], target: int) -> int:
    """First character of the first word of ``a op b`` after which no winning step can be written any more."""
    a, b = reading.a, reading.b
    if a is None or b is None:
        raise ValueError("only a step that was read has a point of no return")
    if not begins_winning_step(position, target, a.value):
        return a.start
    if not begins_winning_step(position, target, a.value, reading.operator):
        return reading.operator_start
    return b.start


@lru_cache(1 << 14)
def _proof(position: tuple[Number, ...], target: int) -> str:
    """Why the target is out of reach: what was exhausted, and what comes out instead."""
    if len(position) == 1:
        return f"it is the last number, not {target}"
    proof = f"all {states_exhausted(position)} ways to play {_show(position)} to the end were tried"
    if len(position) > 3:
        return proof
    values = final_values(position)
    if len(values) <= 6:
        return f"{proof}, they give {_show(sorted(values))}"
    nearest = sorted(sorted(values, key=lambda value: (abs(float(value) - target), float(value)))[:2])
    return f"{proof}, they give {len(values)} numbers, {_show(nearest)} the nearest to {target}"


def _check_expression(text: str, start: int, end: int, cards: tuple[int, ...], target: int) -> Certificate:
    reading = read_expression(text, start, end)
    findings: list[Finding] = []
    unused: tuple[Number, ...] = tuple(sorted(cards))
    behind = reading.literals[-1].end if reading.literals else start
    for count, literal in enumerate(reading.literals):
        if count == len(cards):
            message = f"all {len(cards)} numbers are used before this"
            findings.append(Finding(literal.start, behind, UNAVAILABLE_NUMBER, message))
            break
        if literal.value in unused:
            unused = _without(unused, literal.value)
        else:
            message = f"{literal.value} is not available, {_show(unused)} is"
            findings.append(Finding(literal.start, literal.end, UNAVAILABLE_NUMBER, message))

    legal = not findings
    if reading.fault is not None:
        findings.append(_malformed(text, reading.fault, end, reading.expected))
    if legal and reading.tree is not None:  # at most len(cards) numbers: small
        findings += _judge_value(reading.tree, reading.stated, unused, target)

    correct = not findings
    operations = max(len(reading.literals) - 1, 0)
    valid = operations if legal and reading.fault is None else 0
    return Certificate(
        correct=correct,
        score=float(correct),
        findings=tuple(sorted(findings)),
        measures=_measures(operations, valid, operations if correct else 0, correct),
        evidence=f"{text[start:end]} uses each of {_show(cards)} once and is {target}" if correct else "",
    )


def _judge_value(tree: Literal | Operation, stated: Literal | None, unused: tuple[Number, ...], target: int) -> list[Finding]:
    try:
        value = evaluate(tree)
    except ZeroDivisor as error:
        return [Finding(error.start, error.end, DIVISION_BY_ZERO, "division by zero")]
    findings = []
    if unused or value != target:
        message = f"{_show(unused)} is not used" if unused else f"the expression is {value}, not {target}"
        findings.append(Finding(tree.start, tree.end, GOAL, message))
    if stated is not None and stated.value != value:
        findings.append(_false_arithmetic(stated, value))
    return findings


def _malformed(text: str, start: int, end: int, expected: str) -> Finding:
    # ascii(): a lone surrogate in a message would break whoever writes it to a file.
    found = ascii(text[start : min(end, start + 20)]) if start < end else "the end of the line"
    return Finding(start, end, MALFORMED_STEP, f"expected {expected}, found {found}")


def _false_arithmetic(stated: Literal, value: Number) -> Finding:
    return Finding(stated.start, stated.end, FALSE_ARITHMETIC, f"the value is {value}, not {stated.value}")


def _measures(steps: int = 0, valid: int = 0, reachable: int = 0, solved: bool = False) -> dict[str, float]:
    return {
        "solved": float(solved),
        "steps": float(steps),
        "steps_valid": float(valid),
        "step_validity": valid / steps if steps else 0.0,
        "reachable_steps": float(reachable),
    }


def _without(numbers: tuple[Number, ...], number: Number) -> tuple[Number, ...]:
    place = numbers.index(number)
    return numbers[:place] + numbers[place + 1 :]


def _show(numbers: Sequence[Number]) -> str:
    return " ".join(map(str, numbers)) if numbers else "nothing"
