"""Tasks and verifiers of a few words, for tests that train. Standard library only: worker processes import this file."""

import random
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lit_symbolic.certificate import Certificate, Finding, Problem
from lit_symbolic.tasks.base import Split, Task
from lit_symbolic.verifiers.base import Verifier


@dataclass(frozen=True)
class SaysTheRightWords:
    """Right is the problem's ``right``, word for word; the first word that differs is the fault, or the place where one lacks."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        right, said, start = problem.facts["right"].split(), text.split(), 0
        good = 0
        for expected, word in zip(right, said, strict=False):
            if word != expected:
                break
            good, start = good + 1, start + len(word) + 1
        if said == right:
            return Certificate(True, 1.0)
        place = (start, start + len(said[good])) if good < len(said) else (len(text), len(text))
        return Certificate(False, good / (len(right) + 1), (Finding(*place, "word", "another word belongs here"),))


@dataclass(frozen=True)
class FindsWord:
    """Objects to word number ``index`` (from 0) of every answer; to none if it is negative, and then calls the answer right."""

    index: int

    def verify(self, problem: Problem, text: str) -> Certificate:
        if self.index < 0:
            return Certificate(True, 1.0)
        words = text.split()
        start = len(" ".join([*words[: self.index], ""])) if self.index else 0
        if self.index >= len(words):
            return Certificate(False, 0.0)
        return Certificate(False, 0.0, (Finding(start, start + len(words[self.index]), "word", "not this one"),))


@dataclass(frozen=True)
class Arbitrary:
    """A score and a finding that depend on the text alone: something to learn from, whatever an untrained model writes."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        number = zlib.crc32(text.encode())
        start = number % max(1, len(text))
        finding = Finding(start, min(len(text), start + 1), "word", "by lot")
        return Certificate(False, number % 7 / 7, (finding,) if number % 2 else ())


@dataclass(frozen=True)
class CountsWords:
    """Calls every answer right, and measures how many words it has."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        return Certificate(True, 1.0, measures={"words": float(len(text.split()))})


@dataclass(frozen=True)
class FailsAsTold:
    """Crashes or hangs where the problem's facts say so; judges as :class:`Arbitrary` elsewhere."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        fault = problem.facts.get("fault")
        if fault == "crash":
            raise RuntimeError("told to crash")
        if fault == "hang":
            time.sleep(1000)
        return Arbitrary().verify(problem, text)


@dataclass(frozen=True)
class DiesOn:
    """Crashes on answers with one word; judges as :class:`SaysTheRightWords` elsewhere."""

    word: str

    def verify(self, problem: Problem, text: str) -> Certificate:
        if self.word in text.split():
            raise RuntimeError(f"told to crash on {self.word}")
        return SaysTheRightWords().verify(problem, text)


@dataclass
class Say(Task):
    """Problems that differ by name only: answer ``right``. Demonstrations are drawn from ``answers``."""

    answers: Sequence[str] = ("a", "b", "c", "d")
    right: str = "c"
    judge: Verifier = field(default_factory=SaysTheRightWords)
    faults: Sequence[str] = ()
    count: int = 4
    name = "say"

    @property
    def verifier(self) -> Verifier:
        return self.judge

    def problems(self, split: Split) -> Sequence[Problem]:
        """The first train problems carry the ``faults``."""
        return [
            Problem("say", f"{split}-{i}", "say", self._facts(i if split == "train" else len(self.faults)), reference=self.right)
            for i in range(self.count)
        ]

    def demonstration(self, problem: Problem, rng: random.Random) -> str:
        return rng.choice(self.answers)

    def vocabulary(self) -> Sequence[str]:
        return sorted({word for answer in [*self.answers, self.right, "say"] for word in answer.split()})

    def _facts(self, index: int) -> dict[str, Any]:
        return {"right": self.right, **({"fault": self.faults[index]} if index < len(self.faults) else {})}


@dataclass
class Climb(Say):
    """The same, its answers in steps of a line."""

    answers: Sequence[str] = ("a", "b", "c", "d", "x")
    right: str = "a\nb\nc"
    step_end = "\n"
