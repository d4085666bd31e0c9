"""Means and counts over answers, summed over batches and processes.

An answer without evidence says nothing about the policy: it is left out of what its verifier would have said, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_symbolic.certificate import Certificate


class Ratio(Metric):
    """A sum over a sum: the mean over everything seen, however it was cut into batches or spread over processes.

    ``compute`` gives NaN while nothing has been counted.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # float64: a float32 sum of tokens is no longer exact above 16.7 million.
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Tensor, counts: Tensor) -> None:
        """Add ``values`` where ``counts`` is True; the same shape."""
        self.total += values[counts].sum().to(self.total)
        self.count += counts.sum().to(self.count)

    def compute(self) -> Tensor:
        """The mean, float32."""
        return (self.total / self.count).float()


class SuccessRate(Ratio):
    """Share of correct answers among those with evidence.

    Example:
        >>> rate = SuccessRate()
        >>> rate.update(torch.tensor([True, False, False]), evidence=torch.tensor([True, True, False]))
        >>> rate.compute().item()
        0.5
    """

    def update(self, correct: Tensor, evidence: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            correct: Bool, shape (answers,).
            evidence: Answers that count, bool, shape (answers,); all by default.
        """
        self.add(correct, torch.ones_like(correct) if evidence is None else evidence)


class EndRate(Ratio):
    """Share of the answers that ended by themselves and were not cut off; needs no evidence.

    Example:
        >>> rate = EndRate()
        >>> rate.update(torch.tensor([True, True, True, False]))
        >>> rate.compute().item()
        0.75
    """

    def update(self, ended: Tensor) -> None:
        """Add a batch; ``ended``: bool, shape (answers,)."""
        self.add(ended, torch.ones_like(ended))


class MeanLength(Ratio):
    """Mean number of tokens of an answer, the end-of-sequence token included; needs no evidence.

    Example:
        >>> length = MeanLength()
        >>> length.update(torch.tensor([[True, True, True], [True, False, False]]))
        >>> length.compute().item()
        2.0
    """

    def update(self, mask: Tensor) -> None:
        """Add a batch; ``mask``: answer tokens, bool, shape (answers, length)."""
        lengths = mask.sum(dim=1)
        self.add(lengths, torch.ones_like(lengths, dtype=torch.bool))


class MeanCost(Ratio):
    """Mean of what answers cost at test time, see :mod:`lit_symbolic.rollouts.spending`.

    Example:
        >>> cost = MeanCost()
        >>> cost.update(torch.tensor([3.0, 5.0]))
        >>> cost.compute().item()
        4.0
    """

    def update(self, spent: Tensor) -> None:
        """Add a batch; ``spent``: float, shape (answers,)."""
        self.add(spent, torch.ones_like(spent, dtype=torch.bool))


class ErrorTokenFraction(Ratio):
    """Share of the tokens that lie in a finding, among the tokens of answers with evidence.

    Example:
        >>> fraction = ErrorTokenFraction()
        >>> fraction.update(torch.tensor([[False, True, False]]), torch.tensor([[True, True, False]]))
        >>> fraction.compute().item()
        0.5
    """

    def update(self, in_finding: Tensor, mask: Tensor, evidence: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            in_finding: Tokens in a finding, bool, shape (answers, length).
            mask: Answer tokens, the same shape.
            evidence: Answers that count, bool, shape (answers,); all by default.
        """
        self.add(in_finding, mask if evidence is None else mask & evidence[:, None])


class MeanMeasure(Ratio):
    """Mean of one of the verifier's measures over the answers that have evidence and this measure.

    ``MeanMeasure("step_validity")`` is the mean share of valid steps of an answer.

    Args:
        measure: Key of ``Certificate.measures``.

    Example:
        >>> validity = MeanMeasure("step_validity")
        >>> validity.update([Certificate(False, 0.5, measures={"step_validity": 0.5}), Certificate(True, 1.0)])
        >>> validity.compute().item()
        0.5
    """

    def __init__(self, measure: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.measure = measure

    def update(self, certificates: Sequence[Certificate]) -> None:
        """Add a batch."""
        found = [c.measures[self.measure] for c in certificates if c.is_evidence and self.measure in c.measures]
        values = torch.tensor(found, dtype=torch.float64, device=self.device)
        self.add(values, torch.ones_like(values, dtype=torch.bool))


class NoEvidenceCount(Metric):
    """Number of answers whose verification timed out or crashed.

    Example:
        >>> count = NoEvidenceCount()
        >>> count.update(torch.tensor([True, False, False]))
        >>> count.compute().item()
        2
    """

    is_differentiable = False
    full_state_update = False
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("count", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, evidence: Tensor) -> None:
        """Add a batch; ``evidence``: bool, shape (answers,)."""
        self.count += (~evidence).sum()

    def compute(self) -> Tensor:
        """The count."""
        return self.count
