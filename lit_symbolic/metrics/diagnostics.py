"""PPO's diagnostics by their usual names: what they are read for, and when to worry.

Pure functions; every mask is bool and True counts. Without a token that counts, means are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor


def approx_kl(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """Mean KL(old || new) per token, from samples of the old policy: Schulman's k3, ``(r - 1) - log r``, never negative.

    Source: http://joschu.net/blog/kl-approx.html. Steadily above about 0.02 the steps are too large.

    Args:
        logprobs: Log-probs under the policy being trained, float, shape (batch, length).
        old_logprobs: Log-probs when the answers were sampled, the same shape.
        mask: Tokens that count, the same shape.

    Example:
        >>> one = torch.ones(1, 2, dtype=torch.bool)
        >>> approx_kl(torch.zeros(1, 2), torch.zeros(1, 2), one).item()
        0.0
    """
    log_ratio = (logprobs - old_logprobs).float()
    return mean_over(torch.expm1(log_ratio) - log_ratio, mask)


def clipfrac(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Share of the tokens whose ratio is more than ``clip`` away from 1.

    Args:
        logprobs: See :func:`approx_kl`.
        old_logprobs: See :func:`approx_kl`.
        mask: See :func:`approx_kl`.
        clip: Half-width of the interval around ratio 1.

    Example:
        >>> clipfrac(torch.tensor([[0.3, 0.1]]), torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), clip=0.2).item()
        0.5
    """
    return mean_over((torch.expm1((logprobs - old_logprobs).float()).abs() > clip).float(), mask)


def entropy(entropies: Tensor, mask: Tensor) -> Tensor:
    """Mean entropy of the policy over the tokens that count, in nats.

    Args:
        entropies: Entropy of the distribution of each token, float, shape (batch, length).
        mask: Tokens that count, the same shape.

    Example:
        >>> entropy(torch.tensor([[0.5, 1.5, 9.0]]), torch.tensor([[True, True, False]])).item()
        1.0
    """
    return mean_over(entropies.float(), mask)


def ratio_max(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """Largest probability ratio of a token; 1 without a token that counts.

    In the first pass over an iteration it is 1: anything else means that sampling and training disagree.

    Args:
        logprobs: See :func:`approx_kl`.
        old_logprobs: See :func:`approx_kl`.
        mask: See :func:`approx_kl`.

    Example:
        >>> ratio_max(torch.tensor([[0.0, 5.0]]), torch.zeros(1, 2), torch.tensor([[True, False]])).item()
        1.0
    """
    log_ratio = (logprobs - old_logprobs).float().masked_fill(~mask, -torch.inf)
    return torch.where(mask.any(), log_ratio.amax().exp(), torch.ones((), device=mask.device))


def importance_truncated(logprobs: Tensor, sampler_logprobs: Tensor, mask: Tensor, cap: float | None) -> Tensor:
    """Share of the tokens whose importance weight was cut to ``cap``; many of them mean that the engine samples something else.

    Args:
        logprobs: Log-probs under the policy, float, shape (batch, length).
        sampler_logprobs: Log-probs under the distribution that was sampled from, the same shape.
        mask: Tokens that count, the same shape.
        cap: Largest weight; None for none.

    Example:
        >>> one = torch.ones(1, 2, dtype=torch.bool)
        >>> importance_truncated(torch.tensor([[0.0, -1.0]]), torch.tensor([[0.0, -3.0]]), one, cap=2.0).item()
        0.5
    """
    beyond = torch.zeros_like(mask) if cap is None else (logprobs - sampler_logprobs).exp() > cap
    return mean_over(beyond.float(), mask)


def effective_share(weights: Tensor, mask: Tensor) -> Tensor:
    """Kish's effective sample size ``(sum w)^2 / sum w^2`` of importance weights, as a share of the tokens that count.

    1 where all weights are equal: nothing is lost to weighting. Without a token that counts it is 1.

    Args:
        weights: Not negative, float, shape (batch, length).
        mask: Tokens that count, the same shape.

    Example:
        >>> effective_share(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.ones(1, 4, dtype=torch.bool)).item()
        0.5
    """
    counted = torch.where(mask, weights, torch.zeros_like(weights)).double()
    share = counted.sum().square() / (counted.square().sum() * mask.sum()).clamp(min=1e-30)
    return torch.where(mask.any(), share, torch.ones_like(share)).float()


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Share of the returns' variance that the critic's values account for: ``1 - Var(returns - values) / Var(returns)``.

    1 is a perfect critic, 0 one that says the mean, negative one worse than that. Returns without variance (fewer than two
    tokens, or all answers fail alike) leave nothing to explain: 0, so that the curve has no gaps.

    Args:
        values: Values, float, shape (batch, length).
        returns: Returns, the same shape.
        mask: Tokens that count, the same shape.

    Example:
        >>> returns = torch.tensor([[0.0, 1.0, 5.0]])
        >>> explained_variance(returns + 3, returns, torch.tensor([[True, True, False]])).item()
        1.0
    """
    variance, left = _variance(returns.double(), mask), _variance((returns - values).double(), mask)
    return torch.where(variance > 1e-12, 1.0 - left / variance.clamp(min=1e-12), torch.zeros_like(variance)).float()


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values that count; 0 without any.

    Example:
        >>> mean_over(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False])).item()
        2.0
    """
    return torch.where(mask, values, torch.zeros_like(values)).sum() / mask.sum().clamp(min=1)


def _variance(values: Tensor, mask: Tensor) -> Tensor:
    return mean_over((values - mean_over(values, mask)).square(), mask)
