"""Unbiased pass@k with a bootstrap interval over prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

DRAWS_AT_ONCE = 1 << 22


def pass_at_k(samples: Tensor, correct: Tensor, k: int) -> Tensor:
    r"""Chance that at least one of ``k`` samples is correct, estimated without bias from more than ``k``.

    $1 - \binom{n-c}{k} / \binom{n}{k} = 1 - \prod_{i=n-c+1}^{n} (1 - k/i)$, the product being stable for any n
    (equation 1 and figure 3 of https://arxiv.org/abs/2107.03374).

    Args:
        samples: Samples of each prompt, n, long, shape (prompts,), each at least ``k``.
        correct: Correct ones among them, c, long, shape (prompts,).
        k: Size of the draw, at least 1.

    Returns:
        The estimate for each prompt, float64, shape (prompts,).

    Raises:
        ValueError: If ``k`` is not positive, or a prompt has fewer than ``k`` samples.

    Example:
        >>> pass_at_k(torch.tensor([4, 4]), torch.tensor([1, 3]), k=2).tolist()
        [0.5, 1.0]
    """
    if k < 1:
        raise ValueError(f"pass@k needs k of at least 1, got {k}")
    if samples.numel() == 0:
        return torch.zeros(0, dtype=torch.float64, device=samples.device)
    if int(samples.min()) < k:
        raise ValueError(f"pass@{k} needs at least {k} samples of each prompt, got {int(samples.min())}")
    i = torch.arange(1, int(samples.max()) + 1, dtype=torch.float64, device=samples.device)
    n, c = samples[:, None], correct[:, None]
    # Factors with i < k are negative, but then i = k, whose factor is 0, is in the product too.
    factors = torch.where((i > n - c) & (i <= n), 1.0 - k / i, torch.ones_like(i))
    return 1.0 - factors.prod(dim=1)


def bootstrap_interval(values: Tensor, confidence: float = 0.95, resamples: int = 1_000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean: the values are drawn again with replacement, the quantiles of the means taken.

    It does not depend on the order of the values, nor on any global generator.

    Args:
        values: Independent values (one a prompt), float, shape (values,).
        confidence: Probability that the interval is to have.
        resamples: Number of draws.
        seed: Seed of the draws.

    Returns:
        Lower and upper end; NaN for no values.

    Example:
        >>> low, high = bootstrap_interval(torch.tensor([0.0, 1.0] * 50))
        >>> 0.39 <= low < 0.5 < high <= 0.61
        True
    """
    values = values.detach().double().cpu().sort().values
    count = len(values)
    if count == 0:
        return float("nan"), float("nan")
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, DRAWS_AT_ONCE // count)
    means = []
    for start in range(0, resamples, rows):
        draws = torch.randint(count, (min(rows, resamples - start), count), generator=generator)
        means.append(values[draws].mean(dim=1))
    tail = (1.0 - confidence) / 2.0
    ends = torch.tensor([tail, 1.0 - tail], dtype=torch.float64)
    low, high = torch.quantile(torch.cat(means), ends).tolist()
    return low, high


class PassAtK(Metric):
    """Unbiased pass@k: mean over prompts, with a bootstrap interval over prompts.

    Samples without evidence are left out; a prompt that has fewer than ``k`` others is left out too, and counted in
    :attr:`prompts_left_out`.

    Args:
        k: Size of the draw.
        confidence: Probability that the interval is to have.
        resamples: Bootstrap draws; 0 leaves the interval out.
        seed: Seed of the draws.

    Raises:
        ValueError: If ``k`` is not positive, ``confidence`` not within (0, 1), or ``resamples`` negative.

    Example:
        >>> metric = PassAtK(k=2, resamples=0)
        >>> correct = torch.tensor([True, False, False, False, False, False])
        >>> metric.update(correct, torch.tensor([0, 0, 0, 1, 1, 1]))
        >>> {name: round(value.item(), 4) for name, value in metric.compute().items()}
        {'pass@2': 0.3333}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    samples: list[Tensor] | Tensor
    correct: list[Tensor] | Tensor

    def __init__(self, k: int, confidence: float = 0.95, resamples: int = 1_000, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if k < 1 or not 0.0 < confidence < 1.0 or resamples < 0:
            raise ValueError(
                f"k is at least 1, confidence within (0, 1), resamples at least 0; got {k=}, {confidence=}, {resamples=}"
            )
        self.k, self.confidence, self.resamples, self.seed = k, confidence, resamples, seed
        self.add_state("samples", [], dist_reduce_fx="cat")
        self.add_state("correct", [], dist_reduce_fx="cat")

    def update(self, correct: Tensor, prompt_index: Tensor, evidence: Tensor | None = None) -> None:
        """Add a batch of samples that holds all samples of each of its prompts.

        Args:
            correct: Bool, shape (answers,).
            prompt_index: Which samples belong together, long, shape (answers,); it means something in this call only, so
                that batches and processes need not agree on numbers.
            evidence: Samples that count, bool, shape (answers,); all by default.
        """
        evidence = torch.ones_like(correct) if evidence is None else evidence
        _, prompt = prompt_index.unique(return_inverse=True)
        prompts = int(prompt.max()) + 1 if len(prompt) else 0
        for state, counts in ((self.samples, evidence), (self.correct, correct & evidence)):
            assert isinstance(state, list)
            # Floats: for a process without prompts torchmetrics gathers an empty tensor of the metric's dtype.
            zeros = torch.zeros(prompts, dtype=torch.float32, device=correct.device)
            state.append(zeros.index_add_(0, prompt, counts.float()))

    @property
    def prompts_left_out(self) -> int:
        """Prompts of this process with fewer than ``k`` samples that have evidence."""
        return int((self._counts()[0] < self.k).sum())

    def compute(self) -> dict[str, Tensor]:
        """``pass@k``, and with ``resamples`` the ends of its interval ``pass@k_low`` and ``pass@k_high``; NaN without prompts.

        Where prompts were left out, over all processes, also ``pass@k_prompts_left_out``, their number.
        """
        samples, correct = self._counts()
        enough = samples >= self.k
        values = pass_at_k(samples[enough], correct[enough], self.k)
        found = {f"pass@{self.k}": values.mean().float()}
        if not bool(enough.all()):
            found[f"pass@{self.k}_prompts_left_out"] = (~enough).sum().float()
        if self.resamples:
            low, high = bootstrap_interval(values, self.confidence, self.resamples, self.seed)
            found[f"pass@{self.k}_low"] = torch.tensor(low, device=values.device, dtype=torch.float32)
            found[f"pass@{self.k}_high"] = torch.tensor(high, device=values.device, dtype=torch.float32)
        return found

    def _counts(self) -> tuple[Tensor, Tensor]:
        if isinstance(self.samples, list) and not self.samples:
            empty = torch.zeros(0, dtype=torch.long, device=self.device)
            return empty, empty
        return dim_zero_cat(self.samples).long(), dim_zero_cat(self.correct).long()
