"""What an iteration collects: answers with their certificates and rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from lit_symbolic.certificate import Certificate, Problem


@dataclass(frozen=True, slots=True)
class FinishedAnswer:
    """One answer that has ended while others may still be sampled."""

    row: int
    problem: Problem
    text: str


@dataclass(frozen=True, slots=True)
class SampledAnswer:
    """One answer with all that is known about it, in plain values, for reports and predictions.

    Attributes:
        problem: What was asked.
        text: The answer.
        spans: Characters of each token, ``[start, end)`` in ``text``.
        certificate: What the primary verifier said.
        rewards: Combined reward of each token.
        loss_mask: Whether each token counts in the policy loss.
        ended: Whether the answer ended by itself.
        earlier: The attempts before this one, each of which the verifier refused; and those behind it about which it could say nothing,
            which do not take its place.
    """

    problem: Problem
    text: str
    spans: tuple[tuple[int, int], ...]
    certificate: Certificate
    rewards: tuple[float, ...]
    loss_mask: tuple[bool, ...]
    ended: bool
    earlier: tuple[SampledAnswer, ...] = ()

    def to(self, *_: object, **__: object) -> SampledAnswer:
        """Itself: Lightning moves predictions to the CPU, and there are no tensors here."""
        return self


@dataclass(slots=True)
class Rollouts:
    """Answers of one iteration, a row each, the samples of one problem beside each other.

    Attributes:
        problems: Problem of each row.
        samples: Rows per problem.
        prompt_ids: Left-padded prompts, long, shape (rows, prompt length).
        prompt_mask: True at real prompt tokens, bool, the same shape.
        ids: Right-padded answers, end-of-sequence token included, long, shape (rows, length).
        mask: True at answer tokens, bool, shape (rows, length).
        logprobs: Log-probs at sampling time, float32, shape (rows, length), 0 at padding.
        ended: Whether an answer ended by itself, bool, shape (rows,).
        texts: Answers as text, special tokens removed.
        spans: Characters of each token of each answer.
        certificates: The primary verifier's, one a row; filled by its reward callback.
        rewards: One reward matrix per reward callback, float32, shape (rows, length).
        loss_masks: Tokens that a callback wants in the policy loss, bool, shape (rows, length).
        evidence: Rows about which a callback has evidence, bool, shape (rows,).
        objections: Token at which a callback objects, -1 where it does not, long, shape (rows,).
        in_finding: Tokens inside a finding of the primary verifier, bool, shape (rows, length).
        token_rewards: The combined reward, float32, shape (rows, length).
        loss_mask: Tokens that count in policy and value loss, bool, shape (rows, length).
        spent: What each answer cost where it was searched for or asked for again, float32, shape (rows,), see
            :mod:`lit_symbolic.rollouts.spending`.
    """

    problems: list[Problem]
    samples: int
    prompt_ids: Tensor
    prompt_mask: Tensor
    ids: Tensor
    mask: Tensor
    logprobs: Tensor
    ended: Tensor
    texts: list[str]
    spans: list[tuple[tuple[int, int], ...]]
    certificates: list[Certificate] = field(default_factory=list)
    rewards: dict[str, Tensor] = field(default_factory=dict)
    loss_masks: dict[str, Tensor] = field(default_factory=dict)
    evidence: dict[str, Tensor] = field(default_factory=dict)
    objections: dict[str, Tensor] = field(default_factory=dict)
    in_finding: Tensor | None = None
    token_rewards: Tensor | None = None
    loss_mask: Tensor | None = None
    spent: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.problems)

    @property
    def correct(self) -> Tensor:
        """Whether each answer is certified correct and ended by itself, bool, shape (rows,)."""
        certified = torch.tensor([c.correct for c in self.certificates], device=self.ids.device)
        return certified & self.ended

    def replaced(self, rows: Sequence[int], others: Rollouts) -> Rollouts:
        """A copy with other answers in some rows, which the same callbacks have scored; what these cost is added.

        An answer about which there is no evidence adds its cost and takes no place: whether it is better is not known.

        Args:
            rows: Which rows.
            others: An answer for each of them, in order.
        """
        at = torch.tensor(list(rows), device=self.ids.device)
        known = torch.tensor([certificate.is_evidence for certificate in others.certificates], device=self.ids.device)

        def laid(name: str, ours: Any, theirs: Any) -> Any:
            if isinstance(ours, dict):
                return {key: laid(name, value, theirs[key]) for key, value in ours.items()}
            if isinstance(ours, list):
                found = {row: other for row, other, is_known in zip(rows, theirs, known.tolist(), strict=True) if is_known}
                return [found.get(row, own) for row, own in enumerate(ours)]
            if not isinstance(ours, Tensor):
                return ours
            if name == "spent":
                return ours.index_add(0, at, theirs.to(ours))
            if ours.ndim == 1:
                return ours.index_copy(0, at[known], theirs.to(ours)[known])
            longest = max(ours.shape[1], theirs.shape[1])
            padded = [
                pad(values, (longest - values.shape[1], 0) if name.startswith("prompt") else (0, longest - values.shape[1]))
                for values in (ours, theirs.to(ours))
            ]
            return padded[0].index_copy(0, at[known], padded[1][known])

        return replace(self, **{f.name: laid(f.name, getattr(self, f.name), getattr(others, f.name)) for f in fields(self)})

    def answers(self) -> list[SampledAnswer]:
        """The rows in plain values; needs certificates and combined rewards."""
        if self.token_rewards is None or self.loss_mask is None:
            raise RuntimeError("these rollouts have not been scored yet: answers() needs certificates and combined rewards")
        rewards, loss_mask, ended = self.token_rewards.tolist(), self.loss_mask.tolist(), self.ended.tolist()
        return [
            SampledAnswer(
                problem=self.problems[row],
                text=self.texts[row],
                spans=spans,
                certificate=self.certificates[row],
                rewards=tuple(rewards[row][: len(spans)]),
                loss_mask=tuple(loss_mask[row][: len(spans)]),
                ended=ended[row],
            )
            for row, spans in enumerate(self.spans)
        ]
