"""A tool that errs at a stated rate, to measure what errors of the symbolic tool cost.

Whether it errs about an answer is a digest of seed, problem and answer: the same in every process, every run, and each time that the
answer is written again, as with a real tool that is wrong about something.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass, replace
from typing import Literal

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.base import Verifier

NoiseKind = Literal["outcome", "contradict"]
"""What an error is, see :class:`NoisyVerifier`."""

ERRED = "(on purpose this tool errs about this answer) "
WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class NoisyVerifier:
    """Wraps a verifier and errs about a stated share of the answers.

    - ``outcome``: right and wrong are exchanged. A right answer is called wrong without saying where (an empty finding at its end,
      score 0); a wrong one is called right (no findings, score 1).
    - ``contradict``: the places are exchanged. A finding stands on a word that the wrapped tool holds right, before its first finding
      if one stands there, and one of the wrapped tool's findings is gone; so beside the wrapped tool the two disagree about the same
      characters, where a reward that ends at the first fault sees it. A right answer is called wrong then (score 0); a wrong one stays
      wrong. An answer without a word that is held right only loses a finding, and one without either is left alone.

    Measures, and what else the wrapped tool says, stay. Where it has no evidence, there is nothing to err about. The answers are
    drawn each by itself: of many different ones a share of about ``rate`` is erred about, and one that is written often counts as
    often. It errs about every problem that it is asked about, so evaluate with the wrapped verifier.

    Args:
        verifier: The tool that is right.
        rate: Share of the answers that it errs about, from 0 to 1.
        kind: What an error is.
        seed: Which answers these are.

    Raises:
        ValueError: If ``rate`` is no share, or the kind is unknown.

    Example:
        >>> from lit_symbolic.verifiers.game24 import Game24Verifier
        >>> problem = Problem("game24", "4-4-6-8", "", facts={"cards": (4, 4, 6, 8), "target": 24})
        >>> right, wrong = "(4 + 8) * (6 - 4)", "(4 + 8) * (6 - 3)"
        >>> lies = NoisyVerifier(Game24Verifier(), rate=1.0, kind="outcome")
        >>> lies.verify(problem, right).correct, lies.verify(problem, wrong).correct
        (False, True)
        >>> misplaces = NoisyVerifier(Game24Verifier(), rate=1.0, kind="contradict")
        >>> [wrong[finding.start : finding.end] for finding in Game24Verifier().verify(problem, wrong).findings]
        ['3']
        >>> [wrong[finding.start : finding.end] for finding in misplaces.verify(problem, wrong).findings]
        ['+']
    """

    verifier: Verifier
    rate: float
    kind: NoiseKind
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(f"the rate of a noisy verifier is a share between 0 and 1, got {self.rate}")
        if self.kind not in ("outcome", "contradict"):
            raise ValueError(
                f"a noisy verifier errs about the outcome ('outcome') or the place ('contradict'), got {self.kind!r}"
            )

    def verify(self, problem: Problem, text: str) -> Certificate:
        """What the wrapped tool says, or where this one errs something else."""
        certificate = self.verifier.verify(problem, text)
        rng = self._rng(problem, text)
        if rng.random() >= self.rate or not certificate.is_evidence:
            return certificate
        evidence = ERRED + certificate.evidence
        if self.kind == "contradict":
            return _contradicted(certificate, text, evidence, rng)
        if not certificate.correct:
            return replace(certificate, correct=True, score=1.0, findings=(), status=Status.OK, evidence=evidence)
        nowhere = Finding(len(text), len(text), "noise", "called wrong, and it is not")
        return replace(certificate, correct=False, score=0.0, findings=(nowhere,), evidence=evidence)

    def _rng(self, problem: Problem, text: str) -> random.Random:
        parts = (str(self.seed), problem.task, problem.id, problem.prompt, text)
        digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass"))
        return random.Random(digest.digest())


def _contradicted(certificate: Certificate, text: str, evidence: str, rng: random.Random) -> Certificate:
    """The certificate with a finding on a word that had none, and one finding less."""
    findings = list(certificate.findings)
    words = [match.span() for match in WORD.finditer(text)]
    right = [span for span in words if not any(f.start < span[1] and span[0] < f.end for f in findings)]
    first = min((finding.start for finding in findings), default=len(text))
    right = [span for span in right if span[1] <= first] or right
    if findings:
        findings.pop(rng.randrange(len(findings)))
    if right:
        findings.append(Finding(*rng.choice(right), "noise", "called wrong, and it is not"))
    if tuple(findings) == certificate.findings:  # no word and no finding: there is no place to disagree about
        return certificate
    score = 0.0 if certificate.correct else certificate.score
    return replace(certificate, correct=False, score=score, findings=tuple(sorted(findings)), evidence=evidence)
