"""Credit: from a certificate and the characters of each token to a reward for each token.

Pure functions. An answer that ended by itself has as its last entry that of the end-of-sequence token; the others are
response tokens. An answer that was cut off has response tokens only, and counts as not correct whatever its certificate
says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from lit_symbolic.certificate import Certificate, Finding
from lit_symbolic.rollouts.alignment import Span, tokens_in

if TYPE_CHECKING:
    from lit_symbolic.rollouts.batch import Rollouts

SchemeName = Literal[
    "token",
    "token_penalty",
    "until_error",
    "boolean",
    "graded",
    "token_sum_at_end",
    "token_shuffled",
    "until_error_shuffled",
]
"""How a certificate becomes a reward for every token, see :func:`token_rewards`."""

CombinationRule = Literal["sum", "minimum", "first_to_object"]
"""How several callbacks' rewards become one, see :func:`combine`."""


@dataclass(frozen=True, slots=True)
class TokenReward:
    """What one certificate says about each token of one answer.

    Attributes:
        values: Reward, float32, shape (tokens,).
        loss_mask: True counts in the loss, bool, shape (tokens,).
        in_finding: Whether a finding covers a character of the token, bool, shape (tokens,).
        objection: Index of the token at which the answer failed: the first in a located finding, the last token if the
            failure has no place; -1 if there is no failure, or no evidence.
    """

    values: Tensor
    loss_mask: Tensor
    in_finding: Tensor
    objection: int


def token_rewards(
    scheme: SchemeName,
    certificate: Certificate,
    spans: Sequence[Span],
    ended: bool,
    *,
    prefix_weight: float = 0.0,
    failure_reward: float = 0.0,
    score_weight: float = 0.0,
    generator: torch.Generator | None = None,
) -> TokenReward:
    """Give each token of an answer its reward.

    - ``token``: 1 for a right response token, 0 for one in a finding; the end-of-sequence entry is 1 if the answer is
      correct, else 0. (RLSF, https://arxiv.org/abs/2405.16661.)
    - ``token_penalty``: the same, less one.
    - ``until_error``: 1 on the end-of-sequence token of a correct answer; ``failure_reward`` on the first wrong token of
      another, and what follows, which cannot change the outcome, is masked out of the loss. A failure without a place (no
      finding, or one over the whole answer, or an empty one at its end: something is missing) stands on the last token and
      masks nothing.
    - ``boolean``: 1 or 0 on the last token. ``graded``: the score there.
    - ``token_sum_at_end``, ``token_shuffled``: controls. The sum of the ``token`` rewards on the last token; the ``token``
      rewards of the response tokens in random order, the end-of-sequence entry in its place.
    - ``until_error_shuffled``: control. As ``until_error``, but a failure that has a place stands on a random response token.

    An answer that was cut off has no end-of-sequence entry: ``boolean`` and ``graded`` are 0, ``until_error`` pays
    ``failure_reward`` (where -1 pays for failing, running on must not be the way out), the others pay its response tokens.
    Without evidence all values are 0 and nothing counts in the loss.

    Args:
        scheme: Name of the scheme.
        certificate: What the tool says about the answer.
        spans: Characters of each token, ``[start, end)``, the end-of-sequence token included.
        ended: Whether the last token is the end-of-sequence token.
        prefix_weight: ``until_error``, like its control, also pays this times the share of response tokens that are right and stand before
            the first wrong one, in equal parts on those tokens: at most ``prefix_weight`` in all, which a correct answer gets.
        failure_reward: What ``until_error`` and its control pay for a failure.
        score_weight: They pay the less for it the better the answer was: ``failure_reward`` times one less this times the score (of one
            that was cut off 0). With 1 an answer that passes two of three checks pays a third. Where it stands is not changed.
        generator: Randomness of the shuffled controls; None is the global generator.

    Returns:
        Rewards and masks, an entry per token; empty for an answer without tokens.

    Raises:
        ValueError: If the scheme is unknown, ``prefix_weight`` (failing late would pay more than winning) or ``score_weight``
            is outside [0, 1], or ``failure_reward`` is positive.

    Example:
        >>> answer = [(0, 1), (1, 3), (3, 5), (5, 7), (7, 7)]  # four response tokens, then the end
        >>> wrong = Certificate(correct=False, score=0.5, findings=(Finding(3, 5, "arithmetic", "is 4"),))
        >>> token_rewards("token", wrong, answer, ended=True).values.tolist()
        [1.0, 1.0, 0.0, 1.0, 0.0]
        >>> reward = token_rewards("until_error", wrong, answer, ended=True, failure_reward=-1.0, prefix_weight=0.5)
        >>> reward.values.tolist(), reward.loss_mask.tolist()
        ([0.125, 0.125, -1.0, 0.0, 0.0], [True, True, True, False, False])
    """
    if scheme not in get_args(SchemeName):
        raise ValueError(f"unknown reward scheme {scheme!r}; there are {', '.join(get_args(SchemeName))}")
    if not 0.0 <= prefix_weight <= 1.0 or failure_reward > 0.0:
        raise ValueError(
            f"prefix_weight lies in [0, 1] and failure_reward is at most 0, got {prefix_weight} and {failure_reward}"
        )
    if not 0.0 <= score_weight <= 1.0:
        raise ValueError(f"score_weight lies in [0, 1], got {score_weight}")
    length = len(spans)
    values, loss_mask = torch.zeros(length, dtype=torch.float32), torch.ones(length, dtype=torch.bool)
    if not certificate.is_evidence:
        return TokenReward(values, ~loss_mask, torch.zeros(length, dtype=torch.bool), -1)
    if not length:
        return TokenReward(values, loss_mask, loss_mask.clone(), -1)

    success = certificate.correct and ended
    responses = length - ended
    in_finding, located = _findings_on_tokens(certificate.findings, spans, responses)
    first = int(located.int().argmax()) if located.any() else length - 1
    objection = -1 if success else first

    if scheme == "boolean":
        values[-1] = float(success)
    elif scheme == "graded":
        values[-1] = certificate.score if ended else 0.0
    elif scheme in ("until_error", "until_error_shuffled"):
        if located.any() and responses and scheme == "until_error_shuffled":
            first = int(torch.randint(responses, (), generator=generator))
        if prefix_weight and responses:
            right = ~(located if located.any() else in_finding)[:responses]
            right[responses if success else first :] = False
            values[:responses][right] = prefix_weight / responses
        score = certificate.score if ended else 0.0
        values[-1 if success else first] += 1.0 if success else failure_reward * (1.0 - score_weight * score)
        if located.any():
            loss_mask[first + 1 :] = False
    else:
        values = (~in_finding).float()
        if ended:
            values[-1] = float(success)
        if scheme == "token_penalty":
            values -= 1.0
        elif scheme == "token_sum_at_end":
            total = values.sum()
            values = torch.zeros_like(values)
            values[-1] = total
        elif scheme == "token_shuffled":
            order = torch.randperm(responses, generator=generator)
            values[:responses] = values[:responses][order]
    return TokenReward(values, loss_mask, in_finding, objection)


def _findings_on_tokens(findings: Sequence[Finding], spans: Sequence[Span], responses: int) -> tuple[Tensor, Tensor]:
    """Tokens in any finding, and those in a finding that has a place; bool, shape (tokens,)."""
    length = len(spans)
    characters = max((end for _, end in spans), default=0)
    in_finding, located = torch.zeros(length, dtype=torch.bool), torch.zeros(length, dtype=torch.bool)
    for finding in findings:
        if finding.start <= 0 and finding.end >= characters:
            in_finding[:responses] = True  # tokens without characters too
            continue
        hit = torch.tensor(tokens_in(spans, finding.start, finding.end))
        in_finding |= hit
        if finding.start < characters:
            located |= hit
    return in_finding, located


def combine(
    rollouts: Rollouts,
    primary: str,
    rule: CombinationRule = "sum",
    objections: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Make one reward and one loss mask of what all reward callbacks wrote.

    A callback contributes to the rows about which it has evidence. To each token:

    - ``sum``: the sum over the contributing callbacks. A token counts in the loss if it does for any of them.
    - ``minimum``: the least of their rewards: one that objects is not outvoted. A token counts in the loss if it does for all of them:
      what stands behind the first fault of one is not learned from, though the others see no fault.
    - ``first_to_object``: reward and loss mask of the contributing callback whose objection comes first in the row, of the
      primary one if none objects, or in a tie with it; otherwise ties go by the order of ``rollouts.rewards``.

    The end-of-sequence entry is always the primary's reward there. A row without the primary's evidence has no rewards and
    counts nowhere; another callback's missing rows are counted by :func:`left_out`.

    Args:
        rollouts: Reads ``rewards``, ``loss_masks``, ``evidence``, ``mask`` and ``ended``.
        primary: Name of the callback that decides what is correct.
        rule: How to combine.
        objections: For ``first_to_object`` and several callbacks: index of the token at which a callback objects in each
            row (:attr:`TokenReward.objection`), -1 where it does not, long, shape (rows,). A callback without an entry
            never objects.

    Returns:
        Rewards, float32, and loss mask, bool, both of shape (rows, length), 0 and False at padding.

    Raises:
        KeyError: If the primary callback wrote no rewards.
        ValueError: If the rule is unknown, or ``first_to_object`` is given no objections.

    Example:
        See :func:`combine_tensors`.
    """
    if rule == "first_to_object" and len(rollouts.rewards) > 1 and objections is None:
        raise ValueError("the rule first_to_object needs the token at which each callback objects: pass objections")
    return combine_tensors(
        rollouts.rewards,
        rollouts.loss_masks,
        rollouts.evidence,
        rollouts.mask,
        rollouts.ended,
        primary,
        rule,
        objections or {},
    )


def combine_tensors(
    rewards: Mapping[str, Tensor],
    loss_masks: Mapping[str, Tensor],
    evidence: Mapping[str, Tensor],
    mask: Tensor,
    ended: Tensor,
    primary: str,
    rule: CombinationRule,
    objections: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """The arithmetic of :func:`combine`.

    Args:
        rewards: Reward of each callback, float32, shape (rows, length).
        loss_masks: Tokens that count for it, bool, the same shape; a callback without one counts all.
        evidence: Rows about which it says something, bool, shape (rows,); a callback without one says something about all.
        mask: Answer tokens, bool, shape (rows, length).
        ended: Whether a row's last answer token is the end-of-sequence token, bool, shape (rows,).
        primary: See :func:`combine`.
        rule: See :func:`combine`.
        objections: See :func:`combine`.

    Returns:
        See :func:`combine`.

    Example:
        >>> rewards = {"tests": torch.tensor([[1.0, 1.0, 1.0]]), "types": torch.tensor([[1.0, 0.0, 0.0]])}
        >>> mask, ended = torch.tensor([[True, True, True]]), torch.tensor([True])
        >>> for rule in ("sum", "minimum", "first_to_object"):  # the last entry is the primary's
        ...     combine_tensors(rewards, {}, {}, mask, ended, "tests", rule, {"types": torch.tensor([1])})[0].tolist()
        [[2.0, 1.0, 1.0]]
        [[1.0, 0.0, 1.0]]
        [[1.0, 0.0, 1.0]]
    """
    if rule not in get_args(CombinationRule):
        raise ValueError(f"unknown rule {rule!r} for combining rewards; there are {', '.join(get_args(CombinationRule))}")
    names = [primary, *(name for name in rewards if name != primary)]
    values = torch.stack([rewards[name] for name in names])  # (callbacks, rows, length)
    everywhere = torch.ones_like(ended)
    contributes = torch.stack([evidence.get(name, everywhere) for name in names])[:, :, None]
    counts = torch.stack([loss_masks.get(name, mask) for name in names]) & contributes
    if rule == "sum":
        combined, loss_mask = (values * contributes).sum(dim=0), counts.any(dim=0)
    elif rule == "minimum":
        combined, loss_mask = values.masked_fill(~contributes, torch.inf).amin(dim=0), (counts | ~contributes).all(dim=0)
    else:
        never = torch.full_like(ended, mask.shape[1], dtype=torch.long)
        places = torch.stack([objections.get(name, never) for name in names])
        places = torch.where((places < 0) | ~contributes[:, :, 0], never, places)
        chosen = places.argmin(dim=0)  # of equal ones the first: the primary
        rows = torch.arange(len(ended), device=ended.device)
        combined, loss_mask = values[chosen, rows], counts[chosen, rows]
    last = mask.sum(dim=1) - 1
    is_end = (torch.arange(mask.shape[1], device=mask.device) == last[:, None]) & ended[:, None]
    combined = torch.where(is_end, values[0], combined)
    scored = mask & contributes[0]
    return torch.where(scored, combined, torch.zeros_like(combined)), loss_mask & scored


def left_out(evidence: Mapping[str, Tensor], primary: str) -> dict[str, int]:
    """Rows in which each callback but the primary was left out of the combination for want of evidence.

    Args:
        evidence: Rows about which a callback says something, bool, shape (rows,).
        primary: Rows without its evidence are no part of any combination and are not counted.

    Example:
        >>> left_out({"tests": torch.tensor([True, True, False]), "types": torch.tensor([True, False, False])}, "tests")
        {'types': 1}
    """
    return {name: int((evidence[primary] & ~rows).sum()) for name, rows in evidence.items() if name != primary}
