"""What answers cost at test time: searches and second attempts are compared at equal cost, or not at all."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Cost = Literal["samples", "tokens", "tool_calls", "model_calls", "dead_ends"]
"""``samples``: calls of the sampler, for a step or a whole answer; ``tokens``: sampled ones; ``tool_calls``: texts that the verifier
read in order to find or mend the answer; ``model_calls``: prompts with which the model was asked for a verdict; ``dead_ends``: 1 for a
search in which every proposal was discarded."""


class Spent:
    """Sums for each row.

    Example:
        >>> spent = Spent(2)
        >>> spent.add("tokens", 1, 7)
        >>> spent.tensors()["tokens"].tolist()
        [0.0, 7.0]
    """

    def __init__(self, rows: int) -> None:
        self._sums: dict[str, list[float]] = {name: [0.0] * rows for name in get_args(Cost)}

    def add(self, cost: Cost, row: int, number: float) -> None:
        """Add to one row."""
        self._sums[cost][row] += number

    def tensors(self) -> dict[str, Tensor]:
        """The sums, float32, shape (rows,)."""
        return {name: torch.tensor(sums) for name, sums in self._sums.items()}
