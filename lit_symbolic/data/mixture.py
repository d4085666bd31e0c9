"""Several tasks as one."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from lit_symbolic.certificate import Certificate, Finding, Problem
from lit_symbolic.tasks import Split, Task
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.vocabulary import LearnedVocabulary, Vocabulary


class TaskMixture(Task):
    """Draws training problems from several tasks, in proportion to weights; evaluation goes through all their problems.

    Args:
        tasks: What is mixed.
        weights: Of each task, in any unit; equal ones if not given.
        names: Of each task, under which the mixture's problems and figures know it; its own if not given. Two sources of one task
            (``Game24()`` twice, with other data) need names that differ.

    Raises:
        ValueError: If there is no task, two share a name, or weights or names do not fit.

    Example:
        >>> from lit_symbolic.tasks.game24 import Game24
        >>> mixture = TaskMixture([Game24()], [1.0])
        >>> mixture.sample(random.Random(0)).task
        'game24'
        >>> TaskMixture([Game24(), Game24(target=10)], names=["twenty_four", "ten"]).sample(random.Random(0)).task
        'ten'
    """

    name = "mixture"

    def __init__(self, tasks: Sequence[Task], weights: Sequence[float] | None = None, names: Sequence[str] | None = None) -> None:
        names = [task.name for task in tasks] if names is None else list(names)
        if not tasks or len(names) != len(tasks):
            raise ValueError(f"a mixture needs tasks, and a name for each if any; got {len(tasks)} tasks and {len(names)} names")
        if len(set(names)) < len(names):
            raise ValueError(f"a mixture needs tasks whose names differ, got {', '.join(names)}: give them others with names")
        weights = [1.0] * len(tasks) if weights is None else list(weights)
        if len(weights) != len(tasks) or min(weights) < 0 or not 0 < sum(weights) < math.inf:  # false for nan, too
            raise ValueError(f"a mixture needs a finite weight for each of {', '.join(names)}, none negative, got {weights}")
        self.tasks = dict(zip(names, tasks, strict=True))
        self.weights = dict(zip(names, weights, strict=True))
        self.metrics = tuple(dict.fromkeys(name for task in tasks for name in task.metrics))

    @property
    def verifier(self) -> Verifier:
        """Not one: see :meth:`verifier_of`."""
        raise ValueError("a mixture has a verifier for each problem: verifier_of(problem)")

    @property
    def verifiers(self) -> Sequence[Verifier]:
        """Those of all tasks."""
        return [verifier for task in self.tasks.values() for verifier in task.verifiers]

    def verifier_of(self, problem: Problem) -> Verifier:
        """That of the problem's own task."""
        return self.task_of(problem).verifier_of(problem)

    def task_of(self, problem: Problem) -> Task:
        """The problem's own task."""
        return self.tasks[problem.task]

    def ruled_out(self, problem: Problem, beginning: str, certificate: Certificate) -> bool:
        """What the problem's own task says."""
        return self.task_of(problem).ruled_out(problem, beginning, certificate)

    def problems(self, split: Split) -> Sequence[Problem]:
        """Those of all tasks, in their order."""
        return [problem for name in self.tasks for problem in self.problems_of(name, split)]

    def problems_of(self, name: str, split: Split) -> Sequence[Problem]:
        """Those of one task."""
        return [_named(problem, name) for problem in self.tasks[name].problems(split)]

    def sample(self, rng: random.Random) -> Problem:
        """One training problem of a task drawn by weight."""
        name = self._drawn(rng)
        return _named(self.tasks[name].sample(rng), name)

    def lesson(self, rng: random.Random) -> Problem:
        """One lesson of a task drawn by weight."""
        name = self._drawn(rng)
        return _named(self.tasks[name].lesson(rng), name)

    def _drawn(self, rng: random.Random) -> str:
        ends = list(accumulate(self.weights.values()))
        at = rng.random() * ends[-1]
        return next(name for name, end in zip(self.weights, ends, strict=True) if at < end)

    def demonstration(self, problem: Problem, rng: random.Random) -> str:
        """That of the problem's own task."""
        return self.task_of(problem).demonstration(problem, rng)

    def second_prompt(self, problem: Problem, answer: str, certificate: Certificate) -> str:
        """That of the problem's own task."""
        return self.task_of(problem).second_prompt(problem, answer, certificate)

    def tellable(self, answer: str, finding: Finding) -> Finding | None:
        """Not said here: see :meth:`second_prompt`, which asks the problem's own task."""
        raise ValueError("a mixture tells what the problem's own task tells: second_prompt(problem, ...)")

    def vocabulary(self) -> Vocabulary:
        """Words of all tasks, or all their texts.

        Raises:
            ValueError: If some tasks list words and others texts: no tokenizer has both.
        """
        parts = [part for part in (task.vocabulary() for task in self.tasks.values()) if part]
        learned = [part for part in parts if isinstance(part, LearnedVocabulary)]
        if not learned:
            return [word for part in parts if not isinstance(part, LearnedVocabulary) for word in part]
        if len(learned) < len(parts):
            raise ValueError("a tiny model learns tasks with words or tasks with texts, not both: name another model")
        texts = [text for part in learned for text in part.texts]
        return LearnedVocabulary(
            texts, "|".join(dict.fromkeys(f"(?:{part.pieces})" for part in learned)), sum(part.size for part in learned)
        )


def _named(problem: Problem, name: str) -> Problem:
    """The problem as the mixture knows it."""
    return problem if problem.task == name else replace(problem, task=name)
