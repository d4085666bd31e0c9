"""Advantages without a critic: an answer's reward-to-go against the other answers to its prompt, or against the batch.

The published estimators know one number for a whole answer. Here each works per token: on the reward-to-go, so that a reward which
stands where it was earned keeps its place. Where the reward stands on the last token and gamma is 1, they are the published ones.

A baseline compares whole answers, never tokens: at each position every other answer to the prompt enters once, and one that has
ended enters with the value at its last token. Otherwise the answers that are left at a late position would be compared among
themselves alone, and what the short ones did would be forgotten.

RLOO: https://arxiv.org/abs/2402.14740. GRPO: https://arxiv.org/abs/2402.03300. REINFORCE++: https://arxiv.org/abs/2501.03262.
Everywhere a mask is bool and True counts; batch comes first, the answers to one prompt beside each other. An answer of which
nothing counts (no evidence about it) is no part of its group.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from lit_symbolic.objectives.ppo import whiten

GroupEstimator = Literal["rloo", "grpo", "reinforce++"]
"""Estimators that need no critic, see :func:`group_advantages`."""


def group_advantages(
    estimator: GroupEstimator, rewards: Tensor, mask: Tensor, samples: int, gamma: float = 1.0, floor: float = 0.0
) -> Tensor:
    """The advantages of one estimator by its name.

    Args:
        estimator: ``rloo``: :func:`rloo`; ``grpo``: :func:`grpo`; ``reinforce++``: :func:`reinforce_plus_plus`.
        rewards: Reward for taking token t, float, shape (rows, length).
        mask: Positions that count, bool, shape (rows, length).
        samples: Answers per prompt; they stand beside each other, and ``rows`` is a multiple of it.
        gamma: Discount per token that counts.
        floor: Smallest divisor of the estimators that divide by a deviation; 0 is the published form.

    Returns:
        Advantages, float, shape (rows, length), 0 where the mask is False.

    Raises:
        ValueError: If there is no such estimator.

    Example:
        >>> rewards, mask = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.ones(2, 2, dtype=torch.bool)
        >>> for name in ("rloo", "grpo", "reinforce++"):
        ...     group_advantages(name, rewards, mask, samples=2).tolist()
        [[1.0, 1.0], [-1.0, -1.0]]
        [[1.0, 1.0], [-1.0, -1.0]]
        [[1.0, 1.0], [-1.0, -1.0]]
    """
    if estimator not in get_args(GroupEstimator):
        raise ValueError(f"unknown estimator {estimator!r}; without a critic there are {', '.join(get_args(GroupEstimator))}")
    if estimator == "rloo":
        return rloo(rewards, mask, samples, gamma)
    if estimator == "grpo":
        return grpo(rewards, mask, samples, gamma, floor)
    return reinforce_plus_plus(rewards, mask, gamma, floor)


def reward_to_go(rewards: Tensor, mask: Tensor, gamma: float = 1.0) -> Tensor:
    """Discounted sum of the rewards from each position on, over the positions that count.

    Positions that do not count are stepped over, as in :func:`lit_symbolic.objectives.ppo.gae`: they hold no reward and cost no
    discount.

    Args:
        rewards: Reward for taking token t, float, shape (rows, length).
        mask: Positions that count, bool, shape (rows, length).
        gamma: Discount per token that counts.

    Returns:
        Reward-to-go, float, shape (rows, length). A position that does not count has that of the next one that does, and behind
        the last one that counts its value stays: with these an answer enters the comparison at every position.

    Example:
        >>> reward_to_go(torch.tensor([[0.0, 7.0, 1.0, 0.0]]), torch.tensor([[True, False, True, False]]), gamma=0.5).tolist()
        [[0.5, 1.0, 1.0, 1.0]]
    """
    to_go = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        following = torch.where(mask[:, t], rewards[:, t] + gamma * following, following)
        to_go[:, t] = following
    positions = torch.arange(rewards.shape[1], device=rewards.device)
    last = torch.where(mask, positions, -1).amax(dim=1, keepdim=True)
    return torch.where(positions > last, to_go.gather(1, last.clamp(min=0)), to_go)


def rloo(rewards: Tensor, mask: Tensor, samples: int, gamma: float = 1.0) -> Tensor:
    """REINFORCE leave-one-out (section 3 of arXiv 2402.14740), per token.

    The advantage is the reward-to-go less the mean of the other answers' at this position. With the reward on the last token and
    gamma 1: the answer's reward less the mean reward of the others. An answer that is alone in its group has 0.

    Args:
        rewards: See :func:`group_advantages`.
        mask: See :func:`group_advantages`.
        samples: See :func:`group_advantages`.
        gamma: See :func:`group_advantages`.

    Returns:
        See :func:`group_advantages`.

    Example:
        An answer that fails at its first token, and one that wins at its third:

        >>> rewards = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> rloo(rewards, torch.tensor([[True, False, False], [True, True, True]]), samples=2, gamma=0.5).tolist()
        [[-1.25, 0.0, 0.0], [1.25, 1.5, 2.0]]
    """
    deviations, members = _from_the_mean(reward_to_go(rewards, mask, gamma), mask, samples)
    # G - (S - G) / (n - 1) is n / (n - 1) times G - S / n.
    advantages = deviations * (members / (members - 1).clamp(min=1))
    return torch.where(mask, advantages.view_as(rewards), 0.0)


def grpo(rewards: Tensor, mask: Tensor, samples: int, gamma: float = 1.0, floor: float = 0.0) -> Tensor:
    """Group-relative advantages (section 4.1.2 of arXiv 2402.03300), per token.

    The advantage is ``(G - mean) / std`` over the reward-to-go of all answers to the prompt at this position. ``std`` is the
    group's own, with divisor n. (The paper does not say; code that takes the sample's, with n - 1, has advantages smaller by
    ``sqrt((n - 1) / n)``.) With the reward on the last token and gamma 1 it is the paper's form for outcome supervision.

    Args:
        rewards: See :func:`group_advantages`.
        mask: See :func:`group_advantages`.
        samples: See :func:`group_advantages`.
        gamma: See :func:`group_advantages`.
        floor: Smallest divisor. Far from a discounted reward all answers of a group are nearly alike: divided by their own
            deviation, a difference of a thousandth would weigh as much there as the fault itself.

    Returns:
        See :func:`group_advantages`. Where a group has no variance, 0.

    Example:
        >>> rewards = torch.tensor([[0.0, 0.0], [0.0, 4.0], [0.0, 0.0], [0.0, 4.0]])
        >>> grpo(rewards, torch.ones(4, 2, dtype=torch.bool), samples=4).tolist()
        [[-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]]
    """
    deviations, members = _from_the_mean(reward_to_go(rewards, mask, gamma), mask, samples)
    std = (deviations.square().sum(dim=1, keepdim=True) / members.clamp(min=1)).sqrt()
    divisor = torch.where(std > 1e-8, std.clamp(min=floor), 1.0)
    return torch.where(mask, (deviations / divisor).view_as(rewards), 0.0)


def reinforce_plus_plus(rewards: Tensor, mask: Tensor, gamma: float = 1.0, floor: float = 0.0) -> Tensor:
    """REINFORCE++ (arXiv 2501.03262): the reward-to-go, less the mean and by the deviation over all tokens of the batch.

    The paper takes the KL off the reward (``kl.place: reward``, k1 per token), so that it is part of what is normalised. Prompts
    are not told apart: an easy one's answers are all better than the mean.

    Args:
        rewards: See :func:`group_advantages`.
        mask: See :func:`group_advantages`.
        gamma: See :func:`group_advantages`.
        floor: Smallest divisor.

    Returns:
        See :func:`group_advantages`.

    Example:
        >>> rewards = torch.tensor([[0.0, 3.0], [-1.0, 0.0], [-1.0, 0.0]])
        >>> reinforce_plus_plus(rewards, torch.tensor([[True, True], [True, False], [True, False]])).tolist()
        [[1.0, 1.0], [-1.0, 0.0], [-1.0, 0.0]]
    """
    return whiten(reward_to_go(rewards, mask, gamma), mask, floor)


def alone(mask: Tensor, samples: int) -> Tensor:
    """How many answers have no other to be compared with, since the tool had no evidence about the rest of their group.

    Args:
        mask: Positions that count, bool, shape (rows, length).
        samples: Answers per prompt.

    Example:
        >>> alone(torch.tensor([[True], [False], [True], [True]]), samples=2).item()
        1
    """
    return (mask.any(dim=1).view(-1, samples).sum(dim=1) == 1).sum()


def _from_the_mean(to_go: Tensor, mask: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Each answer's distance from the mean of its group, shape (prompts, samples, length), 0 for one that is no member; and the
    number of members, shape (prompts, 1, 1)."""
    grouped = to_go.view(-1, samples, to_go.shape[1])
    member = mask.any(dim=1).view(-1, samples, 1)
    # From the first member on, equal values differ by exactly 0; a plain mean would leave rounding noise for grpo to blow up.
    first = member.int().argmax(dim=1, keepdim=True).expand(-1, 1, to_go.shape[1])
    shifted = torch.where(member, grouped - grouped.gather(1, first), 0.0)
    members = member.sum(dim=1, keepdim=True).to(to_go.dtype)
    mean = shifted.sum(dim=1, keepdim=True) / members.clamp(min=1)
    return torch.where(member, shifted - mean, 0.0), members
