"""Cutting an iteration into minibatches whose means come out the same however it is cut.

What decides the cut (lengths, whose prompt is whose) is known on the host, in plain numbers, so that cutting never waits for the
device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Minibatch = dict[str, Any]
"""Tensors and plain values of some rows, what ``training_step`` gets."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many tokens each row has, in plain numbers.

    Attributes:
        prompts: Tokens of each row's prompt.
        answers: Tokens of each row's answer.

    Example:
        >>> Lengths(prompts=[9, 9, 12], answers=[30, 4, 5]).padded([0, 2])
        84
    """

    prompts: Sequence[int]
    answers: Sequence[int]

    def __len__(self) -> int:
        return len(self.answers)

    def padded(self, rows: Sequence[int]) -> int:
        """Tokens of a minibatch of these rows, padding included: prompts are padded to the longest, and so are answers."""
        return len(rows) * (max(self.prompts[row] for row in rows) + max(self.answers[row] for row in rows))


def permuted_minibatches(rows: int, size: int, epochs: int, generator: torch.Generator) -> list[list[int]]:
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
    return [part.tolist() for _ in range(epochs) for part in torch.randperm(rows, generator=generator).split(size)]


def budgeted_minibatches(lengths: Lengths, tokens: int, epochs: int, generator: torch.Generator) -> list[list[int]]:
    """Row indices of minibatches of rows of like length, each at most ``tokens`` large with its padding.

    Each row comes once per epoch. Rows of one length are in random order, and so are the minibatches. A row that is larger
    than the budget by itself is a minibatch by itself. There are as few minibatches as the budget allows, and they are as
    even as that number allows: so each optimizer step holds about the same number of tokens, the last of an epoch too.

    Args:
        lengths: Of the iteration's rows.
        tokens: Most tokens of one minibatch, prompts, answers and padding.
        epochs: Passes over the rows.
        generator: Source of randomness.

    Example:
        >>> lengths = Lengths(prompts=[2] * 5, answers=[8, 1, 8, 1, 1])
        >>> sorted(sorted(part) for part in budgeted_minibatches(lengths, 20, 1, torch.Generator().manual_seed(0)))
        [[0, 2], [1, 3, 4]]
    """
    minibatches = []
    for _ in range(epochs):
        shuffled: list[int] = torch.randperm(len(lengths), generator=generator).tolist()
        order = by_length(lengths, shuffled)
        parts = _evened(lengths, order, tokens)
        minibatches += [parts[index] for index in torch.randperm(len(parts), generator=generator).tolist()]
    return minibatches


def by_length(lengths: Lengths, rows: Iterable[int]) -> list[int]:
    """Rows from the shortest to the longest; those of one length stay in their order.

    Example:
        >>> by_length(Lengths(prompts=[2, 2, 2], answers=[5, 1, 5]), [2, 1, 0])
        [1, 2, 0]
    """
    return sorted(rows, key=lambda row: lengths.prompts[row] + lengths.answers[row])


def cut_by_budget(lengths: Lengths, order: Sequence[int], tokens: int) -> list[list[int]]:
    """Cut rows, in their order, into the fewest parts of at most ``tokens`` tokens with padding.

    Example:
        >>> cut_by_budget(Lengths(prompts=[2, 2, 2], answers=[1, 1, 8]), [0, 1, 2], 10)
        [[0, 1], [2]]
    """
    parts: list[list[int]] = []
    prompt = answer = 0
    for row in order:
        longest = max(prompt, lengths.prompts[row]), max(answer, lengths.answers[row])
        if parts and (len(parts[-1]) + 1) * sum(longest) <= tokens:
            parts[-1].append(row)
            prompt, answer = longest
        else:
            parts.append([row])
            prompt, answer = lengths.prompts[row], lengths.answers[row]
    return parts


def _evened(lengths: Lengths, order: Sequence[int], tokens: int) -> list[list[int]]:
    """The smallest budget that needs no more parts than ``tokens`` does."""
    parts = cut_by_budget(lengths, order, tokens)
    low, high = 0, tokens
    while high - low > 1:
        middle = (low + high) // 2
        fewer = cut_by_budget(lengths, order, middle)
        if len(fewer) <= len(parts):
            parts, high = fewer, middle
        else:
            low = middle
    return parts


def step_weights(
    counts: Sequence[Tensor], accumulate: int, sum_over_ranks: Callable[[Tensor], Tensor], ranks: int
) -> list[Tensor]:
    """Factors that turn each minibatch's sum into its share of a mean over a whole optimizer step.

    Lightning divides each minibatch's loss by ``accumulate``, also in a last step that holds fewer, and averages
    gradients over ranks. With these factors what remains is the sum over the step divided by its count.

    Args:
        counts: What each minibatch counts, a vector of numbers (one per kind of mean). Every rank has as many.
        accumulate: Minibatches in one optimizer step.
        sum_over_ranks: Adds a tensor over all processes; called once.
        ranks: Number of processes.

    Returns:
        A factor for each minibatch and kind, 0 where a step counts nothing.

    Example:
        >>> weights = step_weights([torch.tensor([3.0]), torch.tensor([1.0])], 2, lambda t: t, 1)
        >>> [w.item() for w in weights]
        [0.5, 0.5]
    """
    counted = torch.stack(list(counts)).float()
    totals = sum_over_ranks(torch.stack([step.sum(dim=0) for step in counted.split(accumulate)]))
    factors = torch.where(totals > 0, accumulate * ranks / totals.clamp(min=1e-12), torch.zeros_like(totals))
    return list(factors.repeat_interleave(accumulate, dim=0)[: len(counted)].unbind())


def cut(batch: dict[str, Tensor], rows: Sequence[int], lengths: Lengths, samples: int = 1) -> Minibatch:
    """Rows of a batch, with the columns cut off that hold nothing but padding.

    Args:
        batch: Tensors with rows first: ``prompt_ids`` and ``prompt_mask``, left-padded, and others of shape (rows, answer
            length).
        rows: Indices.
        lengths: Of all rows.
        samples: Rows per prompt where a prompt is to be read once for all of its rows; ``prompt_ids`` then has a row per prompt.

    Returns:
        The same names. ``prompt_mask`` is left out where no prompt is padded, so that attention takes its fast causal path. With
        ``samples`` above 1 there is ``prompt_of``: the prompt of each row, among those of the minibatch.

    Example:
        >>> batch = {"mask": torch.tensor([[True, False], [True, True]]), "prompt_ids": torch.tensor([[0, 5], [6, 7]])}
        >>> batch["prompt_mask"] = batch["prompt_ids"] > 0
        >>> {name: value.tolist() for name, value in cut(batch, [0], Lengths([1, 2], [1, 2])).items()}
        {'mask': [[True]], 'prompt_ids': [[5]]}
    """
    device = batch["prompt_ids"].device
    prompts = sorted({row // samples for row in rows})
    longest = max(lengths.prompts[row] for row in rows)
    length = max(1, max(lengths.answers[row] for row in rows))
    indices = {"rows": torch.tensor(rows, device=device), "prompts": torch.tensor(prompts, device=device)}
    chosen: Minibatch = {}
    for name, value in batch.items():
        if name in ("prompt_ids", "prompt_mask"):
            chosen[name] = value[indices["prompts" if samples > 1 else "rows"], value.shape[1] - longest :]
        else:
            chosen[name] = value[indices["rows"], :length]
    if all(lengths.prompts[row] == longest for row in rows):
        chosen.pop("prompt_mask", None)
    if samples > 1:
        place = {prompt: index for index, prompt in enumerate(prompts)}
        chosen["prompt_of"] = torch.tensor([place[row // samples] for row in rows], device=device)
    return chosen


def minibatches_on_every_rank(minibatches: list[list[int]], most: Callable[[int], int]) -> tuple[list[list[int]], int]:
    """As many minibatches as the rank with the most has: others wait for its gradients, and would wait for ever.

    Args:
        minibatches: Rows of this rank's minibatches; at least one.
        most: The largest of a number over all processes.

    Returns:
        The minibatches, and how many at the end were added: they hold one row and must count nothing.

    Example:
        >>> minibatches_on_every_rank([[4, 2], [7]], lambda count: 3)
        ([[4, 2], [7], [4]], 1)
    """
    added = most(len(minibatches)) - len(minibatches)
    return [*minibatches, *([minibatches[0][:1]] * added)], added
