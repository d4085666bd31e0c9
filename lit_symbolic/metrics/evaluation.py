"""All metrics of an evaluation at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast, get_args

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lit_symbolic.metrics.answers import EndRate, ErrorTokenFraction, MeanCost, MeanLength, NoEvidenceCount, SuccessRate
from lit_symbolic.metrics.named import named_metric
from lit_symbolic.metrics.pass_at_k import PassAtK
from lit_symbolic.rollouts.spending import Cost

if TYPE_CHECKING:
    from lit_symbolic.certificate import Certificate
    from lit_symbolic.rollouts.batch import Rollouts


class AnswerMetrics(nn.Module):
    """What is reported about scored rollouts.

    ``success_rate``, ``mean_length``, ``end_rate``, ``error_token_fraction``, ``no_evidence_count``, ``pass@k`` with ``pass@k_low``
    and ``pass@k_high``, and each of the tasks' own metrics that their verifiers gave something for. With several tasks also
    ``success_rate/<task>``, and a metric that several of them name as ``<metric>/<task>``: over all of them together it would
    mix what cannot be compared. With ``costs`` also the mean of what they cost, as ``spent/<cost>``.

    Args:
        pass_at: Values of k; those above ``samples`` are left out.
        samples: Answers per problem.
        metrics: The metrics that each task names (see :mod:`lit_symbolic.metrics.named`), by ``Problem.task``.
        resamples: Bootstrap draws for the intervals.
        costs: Whether answers are searched for or asked for again, and cost more than their tokens.

    Example:
        >>> from lit_symbolic.certificate import Certificate, Problem
        >>> from lit_symbolic.rollouts.batch import Rollouts
        >>> ones, no = torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)
        >>> rollouts = Rollouts([Problem("sums", "1+1", "1+1=")] * 2, 2, ones.long(), ones.bool(), ones.long(), ones.bool(), ones,
        ...     ended=ones[:, 0].bool(), texts=["2", "3"], spans=[((0, 1), (1, 1), (1, 1))] * 2,
        ...     certificates=[Certificate(True, 1.0), Certificate(False, 0.0, measures={"off_by": 1.0})], in_finding=no)
        >>> metrics = AnswerMetrics(pass_at=(1, 2, 8), samples=2, metrics={"sums": ["off_by"]}, resamples=0)
        >>> metrics.update(rollouts)
        >>> {name: value.item() for name, value in metrics.compute().items() if value}
        {'success_rate': 0.5, 'mean_length': 3.0, 'end_rate': 1.0, 'pass@1': 0.5, 'pass@2': 1.0, 'off_by': 1.0}
    """

    def __init__(
        self,
        pass_at: Sequence[int] = (1,),
        samples: int = 1,
        metrics: Mapping[str, Sequence[str]] | None = None,
        resamples: int = 1_000,
        costs: bool = False,
    ) -> None:
        super().__init__()
        self.success_rate = SuccessRate()
        self.mean_length = MeanLength()
        self.end_rate = EndRate()
        self.error_token_fraction = ErrorTokenFraction()
        self.no_evidence_count = NoEvidenceCount()
        self.pass_at = nn.ModuleList(PassAtK(k, resamples=resamples) for k in pass_at if k <= samples)
        metrics = metrics or {}
        named = [(task, name) for task, names in metrics.items() for name in dict.fromkeys(names)]
        times = Counter(name for _, name in named)
        self.own = [(task, name if times[name] == 1 else f"{name}/{task}") for task, name in named]
        """Task and reported name of each of :attr:`own_metrics`."""
        self.own_metrics = nn.ModuleList(named_metric(name) for _, name in named)
        self.tasks = list(metrics) if len(metrics) > 1 else []
        """Tasks whose success is reported apart, by :attr:`task_success`."""
        self.costs: tuple[str, ...] = get_args(Cost) if costs else ()
        self.spent = nn.ModuleList(MeanCost() for _ in self.costs)
        self.task_success = nn.ModuleList(SuccessRate() for _ in self.tasks)

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
        self.end_rate.update(rollouts.ended)
        self.error_token_fraction.update(rollouts.in_finding, rollouts.mask, evidence)
        self.no_evidence_count.update(evidence)
        for metric in cast(Iterable[PassAtK], self.pass_at):
            metric.update(correct, prompt_index, evidence)
        for cost, mean in zip(self.costs, cast(Iterable[MeanCost], self.spent), strict=True):
            mean.update(rollouts.spent.get(cost, correct.new_zeros(0).float()))
        certificates: dict[str, list[Certificate]] = defaultdict(list)
        for problem, certificate in zip(rollouts.problems, rollouts.certificates, strict=True):
            certificates[problem.task].append(certificate)
        for (task, _), own in zip(self.own, self.own_metrics, strict=True):
            own.update(certificates[task])  # type: ignore[operator]
        for task, rate in zip(self.tasks, cast(Iterable[SuccessRate], self.task_success), strict=True):
            of_task = torch.tensor([problem.task == task for problem in rollouts.problems], device=correct.device)
            rate.update(correct, evidence & of_task)

    def compute(self) -> dict[str, Tensor]:
        """The figures, over all processes; what only verifiers give is left out where none gave it, other unknowns are NaN."""
        names = ("success_rate", "mean_length", "end_rate", "error_token_fraction")
        found = {name: getattr(self, name).compute() for name in names}
        found["no_evidence_count"] = self.no_evidence_count.compute().float()
        for metric in cast(Iterable[PassAtK], self.pass_at):
            found |= metric.compute()
        own = dict(zip([name for _, name in self.own], cast(Iterable[Metric], self.own_metrics), strict=True))
        own |= {f"success_rate/{task}": cast(Metric, rate) for task, rate in zip(self.tasks, self.task_success, strict=True)}
        own |= {f"spent/{cost}": mean for cost, mean in zip(self.costs, cast(Iterable[Metric], self.spent), strict=True)}
        computed = {name: metric.compute() for name, metric in own.items()}
        return found | {name: value for name, value in computed.items() if not value.isnan()}

    def reset(self) -> None:
        """Forget everything."""
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.reset()
