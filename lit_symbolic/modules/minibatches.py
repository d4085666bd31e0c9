"""Cutting an iteration into minibatches whose means come out the same however it is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor


def permuted_minibatches(rows: int, size: int, epochs: int, generator: torch.Generator) -> list[Tensor]:
    """Row indices of every minibatch: each row once per epoch, in an order of its own each time.

    Args:
        rows: Rows of the iteration.
        size: Rows in one minibatch; the last of an epoch may hold fewer.
        epochs: Passes over the rows.
        generator: Source of randomness.

    Example:
        >>> [len(i) for i in permuted_minibatches(5, 2, 1, torch.Generator().manual_seed(0))]
        [2, 2, 1]
    """
    return [part for _ in range(epochs) for part in torch.randperm(rows, generator=generator).split(size)]


def step_weights(
    counts: Sequence[Tensor], accumulate: int, sum_over_ranks: Callable[[Tensor], Tensor], ranks: int
) -> list[Tensor]:
    """Factors that turn each minibatch's sum into its share of a mean over a whole optimizer step.

    Lightning divides each minibatch's loss by ``accumulate``, also in a last step that holds fewer, and averages
    gradients over ranks. With these factors what remains is the sum over the step divided by its count.

    Args:
        counts: What each minibatch counts, a vector of numbers (one per kind of mean).
        accumulate: Minibatches in one optimizer step.
        sum_over_ranks: Adds a tensor over all processes.
        ranks: Number of processes.

    Returns:
        A factor for each minibatch and kind, 0 where a step counts nothing.

    Example:
        >>> weights = step_weights([torch.tensor([3.0]), torch.tensor([1.0])], 2, lambda t: t, 1)
        >>> [w.item() for w in weights]
        [0.5, 0.5]
    """
    weights: list[Tensor] = []
    for first in range(0, len(counts), accumulate):
        step = torch.stack([c.float() for c in counts[first : first + accumulate]])
        total = sum_over_ranks(step.sum(dim=0))
        factor = torch.where(total > 0, accumulate * ranks / total.clamp(min=1e-12), torch.zeros_like(total))
        weights.extend([factor] * len(step))
    return weights


def trimmed(batch: dict[str, Tensor], rows: Tensor, per_token: Iterable[str]) -> dict[str, Tensor]:
    """Rows of a batch, with the columns behind their longest answer cut off.

    Args:
        batch: Tensors with rows first, among them ``mask``, True at answer tokens.
        rows: Indices, long.
        per_token: Names of the tensors of shape (rows, answer length).

    Example:
        >>> trimmed({"mask": torch.tensor([[True, False], [True, True]])}, torch.tensor([0]), ["mask"])["mask"].shape
        torch.Size([1, 1])
    """
    chosen = {name: value[rows] for name, value in batch.items()}
    length = max(1, int(chosen["mask"].sum(dim=1).max()))
    for name in per_token:
        chosen[name] = chosen[name][:, :length]
    if "prompt_mask" in chosen:
        first = int(chosen["prompt_mask"].long().argmax(dim=1).min())
        chosen["prompt_ids"], chosen["prompt_mask"] = chosen["prompt_ids"][:, first:], chosen["prompt_mask"][:, first:]
    return chosen


def mask_or_none(mask: Tensor) -> Tensor | None:
    """None where nothing is padded, so that attention takes its fast causal path."""
    return None if bool(mask.all()) else mask
