"""The vocabulary: what is asked (:class:`Problem`), what is wrong (:class:`Finding`), what was certified (:class:`Certificate`).

Standard library only, so that a verifier's worker process stays small and starts quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

MAX_EVIDENCE_CHARACTERS = 2_000


class Status(StrEnum):
    """How a verification ended. Only :attr:`OK` and :attr:`REJECTED` say something about the answer."""

    OK = "ok"
    """The tool ran to its end."""
    REJECTED = "rejected"
    """The tool refused the answer (too long, not text, forbidden): the answer is at fault."""
    TIMEOUT = "timeout"
    """The tool was stopped at its deadline: no evidence about the answer."""
    CRASHED = "crashed"
    """The tool died: no evidence about the answer."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with the facts that its verifier needs.

    Args:
        task: Name of the task it belongs to; the verifier is looked up by it.
        id: Stable identifier, unique within the task and split.
        prompt: The text that the model is given, the task's template applied.
        facts: What the verifier reads. Plain picklable values only.
        reference: A correct answer, where one is known.

    Example:
        >>> Problem(task="game24", id="4-4-6-8", prompt="4 4 6 8", facts={"cards": (4, 4, 6, 8), "target": 24}).facts["target"]
        24
    """

    task: str
    id: str
    prompt: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A fault of an answer, at a span of its characters.

    Args:
        start: First character of the fault, 0-based.
        end: One past its last character. ``start == end`` is a fault at a place where something is missing.
        kind: Class of fault in lower case: ``syntax``, ``semantic``, ``goal``, or finer (``arithmetic``).
        message: What is wrong, for a person.

    Raises:
        ValueError: If the span is not ``0 <= start <= end``.

    Example:
        >>> Finding(0, 5, "arithmetic", "1 + 1 is 2, not 3").end
        5
    """

    start: int
    end: int
    kind: str
    message: str

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"a finding needs 0 <= start <= end, got start={self.start}, end={self.end}")


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a symbolic tool says about one answer.

    Args:
        correct: The whole answer reaches its goal.
        score: Graded quality in [0, 1]; 1 for a correct answer.
        findings: Faults, in order of their place.
        measures: Numbers about this answer that metrics aggregate.
        status: How the verification ended, see :class:`Status`.
        evidence: The tool's own words or proof, cut to ``MAX_EVIDENCE_CHARACTERS``.

    Raises:
        ValueError: If ``score`` is outside [0, 1], or a correct answer has findings or no score of 1.

    Example:
        >>> Certificate(correct=False, score=0.5, findings=(Finding(3, 4, "syntax", "unclosed ("),)).is_evidence
        True
    """

    correct: bool
    score: float
    findings: tuple[Finding, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)
    status: Status = Status.OK
    evidence: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"a certificate's score lies in [0, 1], got {self.score}")
        if self.correct and (self.findings or self.score != 1.0):
            raise ValueError("a correct answer has score 1 and no findings")
        if len(self.evidence) > MAX_EVIDENCE_CHARACTERS:
            object.__setattr__(self, "evidence", self.evidence[: MAX_EVIDENCE_CHARACTERS - 1] + "…")

    @property
    def is_evidence(self) -> bool:
        """Whether this says anything about the answer; a rollout without evidence is masked out of the loss."""
        return self.status in (Status.OK, Status.REJECTED)

    def as_record(self) -> dict[str, Any]:
        """All of it in dicts, lists and plain values, for files that other programs read.

        Example:
            >>> Certificate(False, 0.5, (Finding(3, 4, "syntax", "unclosed ("),)).as_record()["findings"]
            [{'start': 3, 'end': 4, 'kind': 'syntax', 'message': 'unclosed ('}]
        """
        return {
            "correct": self.correct,
            "score": self.score,
            "status": str(self.status),
            "findings": [asdict(finding) for finding in self.findings],
            "measures": dict(self.measures),
            "evidence": self.evidence,
        }

    @classmethod
    def without_evidence(cls, status: Status, evidence: str) -> Certificate:
        """A certificate for a verification that timed out or crashed.

        Example:
            >>> Certificate.without_evidence(Status.TIMEOUT, "stopped after 5 s").is_evidence
            False
        """
        return cls(correct=False, score=0.0, status=status, evidence=evidence)
