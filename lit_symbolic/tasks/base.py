"""What a task must offer: problems, demonstrations, a verifier."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.vocabulary import Vocabulary

Split = Literal["train", "validation", "test"]
PromptStyle = Literal["plain", "few_shot"]
"""``plain``: as short as it gets, for a model that knows one task only; ``few_shot``: an instruction and worked examples."""

MAX_FINDINGS_TOLD = 5
MAX_QUOTED = 60


class Task(ABC):
    """A source of problems with the tool that judges the answers.

    Subclasses are built from typed keyword arguments, which are then the keys of the YAML config.
    """

    name: str
    """Identifier, equal to ``Problem.task`` of every problem it gives."""

    metrics: Sequence[str] = ()
    """Names of what is reported beside success, pass@k and length: metrics of :mod:`lit_symbolic.metrics.named`, or keys of
    ``Certificate.measures``, whose mean is then reported."""

    step_end: str = ""
    """The character that ends a step of an answer, for searches that go step by step (:mod:`lit_symbolic.decoding`); empty if answers
    have no steps. An answer's last step ends with the answer."""

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

    def lesson(self, rng: random.Random) -> Problem:
        """What supervised fine-tuning shows next; by default :meth:`sample`. It needs a prompt and a demonstration, but no tool that
        could judge an answer: a task may cut small lessons from what it has."""
        return self.sample(rng)

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

    @property
    def next_example(self) -> str:
        """How another worked example begins, line break included, where prompts show some; empty where they show none, as by default.

        A model that is not tuned for conversation goes on with one: its answer ends there.
        """
        return ""

    @property
    def verifiers(self) -> Sequence[Verifier]:
        """All symbolic tools that it uses; a mixture of tasks has several."""
        return [self.verifier]

    def verifier_of(self, problem: Problem) -> Verifier:
        """The symbolic tool for answers to one problem; a mixture of tasks has several."""
        return self.verifier

    def task_of(self, problem: Problem) -> Task:
        """The task that a problem belongs to: itself; a mixture has several."""
        return self

    def ruled_out(self, problem: Problem, beginning: str, certificate: Certificate) -> bool:
        """Whether the tool's word on the first steps of an answer says that no right answer begins with them.

        By default: it refused them, or found a fault that has a place in them. A fault of the whole text (failed tests), or at its
        end (something is missing), may be nothing but that they are not all.

        Args:
            problem: What was asked.
            beginning: Complete steps.
            certificate: The verifier's on ``beginning``, as if it were an answer.
        """
        written = len(beginning.rstrip())
        located = [f for f in certificate.findings if f.start < written and (f.start > 0 or f.end < len(beginning))]
        return certificate.status is Status.REJECTED or bool(located)

    def second_prompt(self, problem: Problem, answer: str, certificate: Certificate) -> str:
        """The prompt of another attempt: the first one, the answer, and what the symbolic tool found in it (see :meth:`tellable`)."""
        findings = [known for finding in certificate.findings if (known := self.tellable(answer, finding))]
        lines = list(dict.fromkeys(f"- {_place(answer, finding)}: {finding.message}" for finding in findings))
        told = lines[:MAX_FINDINGS_TOLD]
        more = len(lines) - len(told)
        told += [f"- and {more} more"] if more > 0 else []
        evidence = "" if certificate.findings else certificate.evidence
        found = "\n".join(told or [f"- {evidence or 'it does not reach its goal'}"])
        prompt = problem.prompt if problem.prompt[-1:].isspace() else f"{problem.prompt}\n"
        return f"{prompt}{answer}\n\nThis answer is wrong. What was found in it:\n{found}\nThe corrected answer:\n"

    def tellable(self, answer: str, finding: Finding) -> Finding | None:
        """What a second prompt may tell of a finding: what a tool knows that has no reference to compare with.

        By default all of it. A task whose tool looks at a reference, to place a fault for training, leaves that out here: the finding
        with another place, or None.
        """
        return finding

    def vocabulary(self) -> Vocabulary:
        """What a tokenizer made for this task alone must hold (the tiny model's); empty if it needs none."""
        return ()


def _place(answer: str, finding: Finding) -> str:
    """Where a fault stands, by line and in the answer's own words: nobody counts characters."""
    start, end = finding.start, min(finding.end, len(answer))
    if start >= len(answer):
        return "at the end"
    if start == 0 and end == len(answer):
        return "in the whole answer"
    line = answer.count("\n", 0, start) + 1
    if start == end:
        return f"line {line}, before {_quoted(answer[start:])}"
    return f"line {line}, {_quoted(answer[start:end])}"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 1]}…")
