"""What a task must offer: problems, demonstrations, a verifier."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from lit_symbolic.certificate import Problem
from lit_symbolic.verifiers.base import Verifier

Split = Literal["train", "validation", "test"]


class Task(ABC):
    """A source of problems with the tool that judges the answers.

    Subclasses are built from typed keyword arguments, which are then the keys of the YAML config.
    """

    name: str
    """Identifier, equal to ``Problem.task`` of every problem it gives."""

    @property
    @abstractmethod
    def verifier(self) -> Verifier:
        """The symbolic tool for this task's answers."""

    @abstractmethod
    def problems(self, split: Split) -> Sequence[Problem]:
        """The fixed problems of one split; splits share no problem, and the same settings give the same split."""

    def sample(self, rng: random.Random) -> Problem:
        """One training problem. A task with a generator overrides this; by default a uniform draw of the train split."""
        return rng.choice(self.problems("train"))

    def demonstration(self, problem: Problem, rng: random.Random) -> str:
        """An answer to imitate in supervised fine-tuning; by default the problem's reference.

        Raises:
            ValueError: If the problem has no reference.
        """
        if problem.reference is None:
            raise ValueError(
                f"problem {problem.id!r} of task {self.name!r} has no reference to imitate; give one, or override demonstration()"
            )
        return problem.reference

    def vocabulary(self) -> Sequence[str]:
        """Words that a tokenizer made for this task alone must hold (the tiny model's); empty if it needs none."""
        return ()
