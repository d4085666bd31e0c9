"""Speed, gold answers and injected faults of the Game of 24's verifier, for the tables of ``benchmarks/verifiers.py``.

Gold answers are the solver's own: a plain and a random solution of every card set that has one, among them all of 4nums.com's list where
``../shared/data`` (or ``LIT_SYMBOLIC_DATA``) holds it.
"""

from __future__ import annotations

import os
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from lit_symbolic.certificate import Problem
from lit_symbolic.tasks.game24 import Game24, read_puzzles
from lit_symbolic.verifiers.calculating.arithmetic import read_step, write_step
from lit_symbolic.verifiers.calculating.game24_solver import all_card_sets, legal_steps, play, solvable
from lit_symbolic.verifiers.game24 import Game24Verifier
from runs import ROOT
from verifier_tables import Faults, Gold, Speed

DATA = Path(os.environ.get("LIT_SYMBOLIC_DATA", ROOT.parent / "shared" / "data"))
TARGET = 24

Pairs = list[tuple[Problem, str]]
Injection = tuple[str, int, int]
"""The answer with its fault, and the fault's span."""


@lru_cache(None)
def solutions(random_ones: bool) -> Pairs:
    """Every solvable set of four cards with a solution in three steps."""
    task = Game24()
    pairs = []
    for cards in all_card_sets():
        if solvable(cards, TARGET):
            problem = task.problem(cards, TARGET)
            rng = random.Random(problem.id)
            pairs.append((problem, task.random_solution(problem, rng) if random_ones else problem.reference or ""))
    return pairs


def expressions() -> Pairs:
    """The same solutions, each as one expression."""
    pairs = []
    for problem, text in solutions(random_ones=True):
        values = [(value, str(value)) for value in problem.facts["cards"]]
        for start, end in _lines(text):
            step = read_step(text, start, end)
            if step.a is None or step.b is None or step.result is None:
                raise ValueError(f"the solver's own step cannot be read: {text[start:end]}")
            parts = []
            for number in (step.a.value, step.b.value):
                place = next(index for index, (value, _) in enumerate(values) if value == number)
                parts.append(values.pop(place)[1])
            values.append((step.result.value, f"({parts[0]} {step.operator} {parts[1]})"))
        pairs.append((problem, f"{values[0][1]} = {TARGET}"))
    return pairs


def speed(quick: bool) -> list[Speed]:
    """Answers certified per second of processor time."""
    verifier = Game24Verifier()
    rows = []
    for what, pairs in (("solutions", solutions(True)), ("solutions with an unreachable step", _lost())):
        pairs = pairs[:200] if quick else pairs
        figures = []
        for _ in range(3 if quick else 7):
            began = time.process_time()
            for problem, text in pairs:
                verifier.verify(problem, text)
            figures.append(len(pairs) / (time.process_time() - began))
        named = f"Game of 24, {what} certified per second of processor time"
        rows.append(Speed(named, statistics.median(figures), min(figures), max(figures)))
    return rows


def _lost() -> Pairs:
    pairs = []
    for problem, text in solutions(True):
        rng = random.Random(problem.id)
        pairs += [(problem, broken) for broken, _, _ in list(unreachable(text, problem, rng))[:1]]
    return pairs


def gold(quick: bool) -> list[Gold]:
    """The solver's own solutions."""
    sets = [
        ("every solvable card set, plain solution", solutions(False)),
        ("every solvable card set, random solution", solutions(True)),
        ("every solvable card set, as one expression", expressions()),
    ]
    puzzles = DATA / "game24" / "24.csv"
    if puzzles.exists():
        task = Game24()
        listed = [task.problem(cards, TARGET) for cards in read_puzzles(puzzles)]
        sets.append(("4nums.com's puzzles, plain solution", [(problem, problem.reference or "") for problem in listed]))
    rows = []
    for source, pairs in sets:
        pairs = pairs[:200] if quick else pairs
        certificates = [(problem, Game24Verifier().verify(problem, text)) for problem, text in pairs]
        wrong = [f"{p.id}: {'; '.join(f.message for f in c.findings)}" for p, c in certificates if not c.correct]
        rows.append(Gold(source, len(pairs), len(pairs) - len(wrong), wrong))
    return rows


def faults(quick: bool) -> list[Faults]:
    """One fault each in a random solution of every card set."""
    verifier = Game24Verifier()
    tables = []
    for kind, inject in INJECTIONS.items():
        table = Faults(kind)
        for problem, text in solutions(True):
            rng = random.Random(f"{kind} {problem.id}")
            broken = list(inject(text, problem, rng))
            if broken and len(table.overlapped) < (40 if quick else 1000):
                answer, start, end = rng.choice(broken)
                table.add(verifier.verify(problem, answer), answer, start, end)
        tables.append(table)
    return tables


def _lines(text: str) -> list[tuple[int, int]]:
    spans, start = [], 0
    for line in text.split("\n"):
        spans.append((start, start + len(line)))
        start += len(line) + 1
    return spans


def _replaced(text: str, start: int, end: int, new: str) -> Injection:
    return text[:start] + new + text[end:], start, start + len(new)


def false_step(text: str, problem: Problem, rng: random.Random) -> Iterator[Injection]:
    """A wrong result."""
    for start, end in _lines(text):
        result = read_step(text, start, end).result
        if result is not None:
            yield _replaced(text, result.start, result.end, str(result.value + rng.choice([-2, -1, 1, 2, 10])))


def unavailable(text: str, problem: Problem, rng: random.Random) -> Iterator[Injection]:
    """An operand that is not on the table."""
    for start, end in _lines(text):
        step = read_step(text, start, end)
        for operand in (step.a, step.b):
            if operand is not None:
                yield _replaced(text, operand.start, operand.end, str(rng.randint(100, 150)))


def wrong_remainder(text: str, problem: Problem, rng: random.Random) -> Iterator[Injection]:
    """Another number in the list of those left."""
    for start, end in _lines(text):
        for number in read_step(text, start, end).left or ():
            yield _replaced(text, number.start, number.end, str(number.value + rng.choice([-1, 1, 7])))


def lost_remainder(text: str, problem: Problem, rng: random.Random) -> Iterator[Injection]:
    """A number missing in the list of those left; the list has no order, so the fault is the list."""
    for start, end in _lines(text)[:-1]:
        left = read_step(text, start, end).left or ()
        for number, following in pairwise(left):
            broken = text[: number.start] + text[following.start :]
            yield broken, left[0].start, broken.index(")", number.start) + 1


def unreachable(text: str, problem: Problem, rng: random.Random) -> Iterator[Injection]:
    """A true step that loses the game, with the list it truly leaves; the fault is its ``a op b``."""
    position = tuple(problem.facts["cards"])
    for start, end in _lines(text):
        losing = [s for s in legal_steps(position) if not solvable(play(position, s), TARGET) and s.result >= 0]
        if losing and len(position) > 1:
            step = rng.choice(losing)
            line = write_step(step.a, step.operator, step.b, step.result, play(position, step))
            yield text[:start] + line, start, start + line.index(" =")
        taken = read_step(text, start, end)
        if taken.a and taken.b and taken.operator:
            match = next(
                s for s in legal_steps(position) if (s.a, s.operator, s.b) == (taken.a.value, taken.operator, taken.b.value)
            )
            position = play(position, match)


def malformed(text: str, problem: Problem, rng: random.Random) -> Iterator[Injection]:
    """``==``, a word, or a letter where an operator or a number stands."""
    for match in re.finditer(r"[-+*/](?= )|=|\d+(?= =)", text):
        yield _replaced(text, match.start(), match.end(), rng.choice(["plus", "x", "?"]))


def stops_early(text: str, problem: Problem, rng: random.Random) -> Iterator[Injection]:
    """The last step or two left out."""
    for _, end in _lines(text)[:-1]:
        yield text[:end], end, end


def goes_on(text: str, problem: Problem, rng: random.Random) -> Iterator[Injection]:
    """A step behind the last."""
    more = f"\n{TARGET} + 0 = {TARGET} (left: {TARGET})"
    yield text + more, len(text) + 1, len(text) + len(more)


INJECTIONS: dict[str, Callable[[str, Problem, random.Random], Iterator[Injection]]] = {
    "a false step": false_step,
    "a number that is not available": unavailable,
    "a wrong number in the list of those left": wrong_remainder,
    "a number missing in the list of those left": lost_remainder,
    "a true step after which 24 cannot be reached": unreachable,
    "a symbol that cannot be read": malformed,
    "steps missing at the end": stops_early,
    "a step too many": goes_on,
}
