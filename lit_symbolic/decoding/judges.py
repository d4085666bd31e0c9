"""Who evaluates the beginnings of an answer: the symbolic tool, the model, or first the one and then the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.decoding.steps import whole_steps
from lit_symbolic.decoding.tree_of_thoughts import DISCARDED, Judge, Thought
from lit_symbolic.rollouts.spending import Spent
from lit_symbolic.tasks import Task

Certify = Callable[[Sequence[tuple[Problem, str]]], list[Certificate]]
"""Has texts verified."""

Opinion = Callable[[Sequence[tuple[Problem, str]]], list[float]]
"""What the model thinks of beginnings of answers; larger is better."""


@dataclass(frozen=True)
class ToolJudge:
    """Discards what the verifier rules out.

    Of a beginning it reads the steps that are complete, and :meth:`Task.ruled_out <lit_symbolic.tasks.Task.ruled_out>` says what a
    finding means; a whole answer must be certified. Where the tool comes to no end there is no evidence, and nothing is discarded.

    Attributes:
        task_of: The task of a problem.
        problems: Problem of each root.
        text_of: Text of a thought.
        certify: Has texts verified.
        spent: Counts the texts.
    """

    task_of: Callable[[Problem], Task]
    problems: Sequence[Problem]
    text_of: Callable[[Thought], str]
    certify: Certify
    spent: Spent

    def __call__(self, thoughts: Sequence[Thought]) -> list[Thought]:
        """Give each its value: 0, or ``-inf``."""
        read = [thought for thought in thoughts if _may_count(thought)]
        for thought in read:
            self.spent.add("tool_calls", thought.root, 1)
        asked = [(self.problems[thought.root], self._text(thought)) for thought in read]
        judged = map(self._judged, read, self.certify(asked) if asked else [])
        return [next(judged) if _may_count(thought) else replace(thought, value=DISCARDED) for thought in thoughts]

    def _text(self, thought: Thought) -> str:
        text = self.text_of(thought)
        return text if thought.finished else whole_steps(text, self.task_of(self.problems[thought.root]).step_end)

    def _judged(self, thought: Thought, certificate: Certificate) -> Thought:
        if not certificate.is_evidence:
            return thought
        if thought.finished:
            return replace(thought, certified=certificate.correct, value=0.0 if certificate.correct else DISCARDED)
        problem = self.problems[thought.root]
        lost = self.task_of(problem).ruled_out(problem, self._text(thought), certificate)
        return replace(thought, value=DISCARDED if lost else 0.0)


def _may_count(thought: Thought) -> bool:
    """Whether it is not cut off: an answer without an end is none."""
    return thought.finished or not thought.over


def step_logprob(thoughts: Sequence[Thought]) -> list[Thought]:
    """A judge: the log-prob of the last step, per token.

    Example:
        >>> step_logprob([Thought(0, (5, 6, 7), (-9.0, -1.0, -3.0), step=1)])[0].value
        -2.0
    """
    return [
        replace(thought, value=math.fsum(thought.logprobs[thought.step :]) / len(thought.logprobs[thought.step :]))
        for thought in thoughts
    ]


@dataclass(frozen=True)
class OpinionJudge:
    """Values a beginning as the model does when it is asked.

    Attributes:
        problems: Problem of each root.
        text_of: Text of a thought.
        opinion: Asks the model.
        spent: Counts the questions.
    """

    problems: Sequence[Problem]
    text_of: Callable[[Thought], str]
    opinion: Opinion
    spent: Spent

    def __call__(self, thoughts: Sequence[Thought]) -> list[Thought]:
        """Give each its value."""
        for thought in thoughts:
            self.spent.add("model_calls", thought.root, 1)
        asked = [(self.problems[thought.root], self.text_of(thought)) for thought in thoughts]
        values = self.opinion(asked) if asked else []
        return [replace(thought, value=value) for thought, value in zip(thoughts, values, strict=True)]


@dataclass(frozen=True)
class BothJudges:
    """The first one discards and certifies; the second ranks what is left.

    Attributes:
        first: Usually the tool.
        second: Usually the model.
    """

    first: Judge
    second: Judge

    def __call__(self, thoughts: Sequence[Thought]) -> list[Thought]:
        """Give each its value."""
        judged = list(self.first(thoughts))
        left = [place for place, thought in enumerate(judged) if thought.value > DISCARDED and not thought.certified]
        for place, thought in zip(left, self.second([judged[place] for place in left]), strict=True):
            judged[place] = thought
        return judged
