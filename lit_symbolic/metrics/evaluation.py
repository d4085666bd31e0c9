"""All metrics of an evaluation at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lit_symbolic.metrics.answers import ErrorTokenFraction, MeanLength, MeanMeasure, NoEvidenceCount, SuccessRate
from lit_symbolic.metrics.pass_at_k import PassAtK

if TYPE_CHECKING:
    from lit_symbolic.rollouts.batch import Rollouts


class AnswerMetrics(nn.Module):
    """What is reported about scored rollouts.

    ``success_rate``, ``mean_length``, ``error_token_fraction``, ``no_evidence_count``, ``pass@k`` with ``pass@k_low`` and
    ``pass@k_high``, and the mean of each of the verifier's measures that was asked for and seen.

    Args:
        pass_at: Values of k; those above ``samples`` are left out.
        samples: Answers per problem.
        measures: Keys of ``Certificate.measures`` to average.
        resamples: Bootstrap draws for the intervals.

    Example:
        >>> from lit_symbolic.certificate import Certificate, Problem
        >>> from lit_symbolic.rollouts.batch import Rollouts
        >>> ones, no = torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)
        >>> rollouts = Rollouts([Problem("sums", "1+1", "1+1=")] * 2, 2, ones.long(), ones.bool(), ones.long(), ones.bool(), ones,
        ...     ended=ones[:, 0].bool(), texts=["2", "3"], spans=[((0, 1), (1, 1), (1, 1))] * 2,
        ...     certificates=[Certificate(True, 1.0), Certificate(False, 0.0)], in_finding=no)
        >>> metrics = AnswerMetrics(pass_at=(1, 2, 8), samples=2, resamples=0)
        >>> metrics.update(rollouts)
        >>> {name: value.item() for name, value in metrics.compute().items() if value}
        {'success_rate': 0.5, 'mean_length': 3.0, 'pass@1': 0.5, 'pass@2': 1.0}
    """

    def __init__(
        self,
        pass_at: Sequence[int] = (1,),
        samples: int = 1,
        measures: Sequence[str] = ("step_validity",),
        resamples: int = 1_000,
    ) -> None:
        super().__init__()
        self.success_rate = SuccessRate()
        self.mean_length = MeanLength()
        self.error_token_fraction = ErrorTokenFraction()
        self.no_evidence_count = NoEvidenceCount()
        self.pass_at = nn.ModuleList(PassAtK(k, resamples=resamples) for k in pass_at if k <= samples)
        self.measures = nn.ModuleList(MeanMeasure(measure) for measure in measures)

    def update(self, rollouts: Rollouts) -> None:
        """Add rollouts that the primary reward callback has scored.

        Raises:
            RuntimeError: If they have no certificates.
        """
        if rollouts.in_finding is None or len(rollouts.certificates) != len(rollouts):
            raise RuntimeError(
                "these rollouts have not been scored yet: metrics need the primary callback's certificates and findings"
            )
        correct = rollouts.correct
        evidence = torch.tensor([c.is_evidence for c in rollouts.certificates], device=correct.device)
        prompt_index = torch.arange(len(rollouts), device=correct.device) // rollouts.samples
        self.success_rate.update(correct, evidence)
        self.mean_length.update(rollouts.mask)
        self.error_token_fraction.update(rollouts.in_finding, rollouts.mask, evidence)
        self.no_evidence_count.update(evidence)
        for metric in self._pass_at:
            metric.update(correct, prompt_index, evidence)
        for mean in self._measures:
            mean.update(rollouts.certificates)

    def compute(self) -> dict[str, Tensor]:
        """The figures, over all processes; a measure that no verifier gave is left out, other unknowns are NaN."""
        found = {name: getattr(self, name).compute() for name in ("success_rate", "mean_length", "error_token_fraction")}
        found["no_evidence_count"] = self.no_evidence_count.compute().float()
        for metric in self._pass_at:
            found |= metric.compute()
        for mean in self._measures:
            value = mean.compute()
            if not value.isnan():
                found[mean.measure] = value
        return found

    def reset(self) -> None:
        """Forget everything."""
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.reset()

    @property
    def _pass_at(self) -> Iterable[PassAtK]:
        return cast(Iterable[PassAtK], self.pass_at)

    @property
    def _measures(self) -> Iterable[MeanMeasure]:
        return cast(Iterable[MeanMeasure], self.measures)
