"""The mathematics of PPO with token rewards: pure functions of tensors.

PPO: https://arxiv.org/abs/1707.06347. GAE: https://arxiv.org/abs/1506.02438. KL estimators: http://joschu.net/blog/kl-approx.html.
Everywhere a mask is bool and True counts; batch comes first.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 1.0) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (equation 16 of arXiv 1506.02438) over the positions that count.

    Positions that do not count are stepped over: what stands behind one is carried to the position before it. After
    the last position that counts the episode is over, and nothing is bootstrapped.

    Args:
        rewards: Reward for taking token t, float, shape (batch, length).
        values: Value of the state before token t, float, shape (batch, length).
        mask: Positions that count, bool, shape (batch, length).
        gamma: Discount per token.
        lam: Bias against variance; 1 is the return less the value.

    Returns:
        Advantages and returns (advantage + value), float32, shape (batch, length), 0 where the mask is False.

    Example:
        >>> advantages, returns = gae(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.5]]), torch.tensor([[True, True]]))
        >>> advantages.tolist(), returns.tolist()
        ([[0.75, 0.5]], [[1.0, 1.0]])
    """
    advantages = torch.zeros_like(values, dtype=torch.float32)
    following_value = torch.zeros_like(values[:, 0])
    following_advantage = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        counts = mask[:, t]
        delta = rewards[:, t] + gamma * following_value - values[:, t]
        advantage = delta + gamma * lam * following_advantage
        advantages[:, t] = torch.where(counts, advantage, 0.0)
        following_value = torch.where(counts, values[:, t], following_value)
        following_advantage = torch.where(counts, advantage, following_advantage)
    return advantages, torch.where(mask, advantages + values, 0.0)


def whiten(values: Tensor, mask: Tensor, floor: float = 0.0, shift: bool = True) -> Tensor:
    """Bring the values that count to mean 0 and standard deviation 1.

    Args:
        values: Float, any shape.
        mask: Positions that count, bool, the same shape.
        floor: Smallest divisor. When nearly every answer fails, the advantages are a critic's noise, and without a
            floor whitening would blow it up to full size.
        shift: Subtract the mean.

    Returns:
        Whitened values, 0 where the mask is False. One value, or none, or no variance: only the shift is applied.

    Example:
        >>> whiten(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False])).tolist()
        [-1.0, 1.0, 0.0]
    """
    counted = values[mask]
    if counted.numel() == 0:
        return torch.zeros_like(values)
    # From the first value on, equal values differ by exactly 0; a plain mean would leave rounding noise to be blown up.
    origin = counted[0]
    mean = (counted - origin).mean()
    deviation = (counted - origin - mean).square().mean().sqrt()
    divisor = torch.where(deviation > 1e-8, deviation.clamp(min=floor), torch.ones_like(deviation))
    return torch.where(mask, (values - (origin + mean if shift else 0.0)) / divisor, torch.zeros_like(values))


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Clipped surrogate loss per token (equation 7 of arXiv 1707.06347, negated).

    Args:
        logprobs: Log-probs under the policy being trained, float, shape (batch, length).
        old_logprobs: Log-probs when the answers were sampled, the same shape.
        advantages: The same shape.
        clip: Half-width of the interval around ratio 1.

    Returns:
        Loss per token, shape (batch, length).

    Example:
        >>> policy_loss(torch.tensor([[0.5]]), torch.tensor([[0.0]]), torch.tensor([[1.0]]), clip=0.2).item()
        -1.2000000476837158
    """
    ratio = (logprobs - old_logprobs).exp()
    return torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip))


def importance_weights(logprobs: Tensor, sampler_logprobs: Tensor, cap: float | None) -> Tensor:
    """Truncated importance weights ``min(p / q, cap)`` per token, for tokens drawn from q where p was meant.

    An engine that computes in another precision than the policy samples from a slightly different distribution; weighted, its
    tokens give the policy's own expectation. Truncation bounds the variance at the price of a small bias. Source: Ionides,
    Truncated Importance Sampling (Journal of Computational and Graphical Statistics 17, 2008); per step as in V-trace,
    https://arxiv.org/abs/1802.01561; for engines of language models Yao et al., Your Efficient RL Framework Secretly Brings
    You Off-Policy RL Training (2025).

    Args:
        logprobs: Log-probs under the policy that the answers were meant to be sampled from, float, shape (batch, length).
        sampler_logprobs: Log-probs under the distribution that they were drawn from, the same shape.
        cap: Largest weight; None for none.

    Returns:
        Weights without gradient, shape (batch, length).

    Example:
        >>> importance_weights(torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.0, -3.0]]), cap=2.0).tolist()
        [[1.0, 2.0]]
    """
    weights = (logprobs - sampler_logprobs).detach().exp()
    return weights if cap is None else weights.clamp(max=cap)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """Half the squared error of the value per token, clipped around the old value where ``clip`` is given.

    Args:
        values: Float, shape (batch, length).
        old_values: Values when the answers were sampled, the same shape.
        returns: Targets, the same shape.
        clip: Largest change of a value that is rewarded; None for the plain squared error.

    Returns:
        Loss per token, shape (batch, length).

    Example:
        >>> value_loss(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([1.0]), clip=0.5).item()
        0.125
    """
    error = (values - returns).square()
    if clip is not None:
        near = old_values + (values - old_values).clamp(-clip, clip)
        error = torch.max(error, (near - returns).square())
    return 0.5 * error


def kl_k1(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Unbiased estimate of KL(policy || reference) per sampled token: the difference of the log-probs.

    It is detached: as a term of the reward it is a number, not a path for gradients.

    Example:
        >>> kl_k1(torch.tensor([-1.0]), torch.tensor([-3.0])).tolist()
        [2.0]
    """
    return (logprobs - reference_logprobs).detach()


def kl_k2(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Half the squared difference of the log-probs: as a loss over sampled tokens its gradient is that of the KL.

    Example:
        >>> kl_k2(torch.tensor([-1.0]), torch.tensor([-3.0])).tolist()
        [2.0]
    """
    return 0.5 * (logprobs - reference_logprobs).square()


def adapted_coefficient(coefficient: float, kl: float, target: float, answers: int, horizon: int) -> float:
    """Move a KL coefficient towards the value that holds the KL at its target (section 2.2 of arXiv 1909.08593).

    Args:
        coefficient: The present coefficient.
        kl: Mean over answers of the KL summed over an answer, in nats.
        target: Wanted value of ``kl``.
        answers: Answers that were sampled since the last call.
        horizon: Answers over which the coefficient adapts. One call moves it by a fifth at most, however short this is.

    Example:
        >>> round(adapted_coefficient(0.1, kl=12.0, target=6.0, answers=100, horizon=1000), 4)
        0.102
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return coefficient * (1.0 + error * min(answers / horizon, 1.0))
