"""Figures of many minibatches, added up on the device and read once."""

from __future__ import annotations

import torch
from torch import Tensor


class RunningFigures:
    """Means and maxima over an iteration.

    Nothing is read back to the host, so a step on an accelerator never waits for its own logging.

    Example:
        >>> figures = RunningFigures()
        >>> figures.add("loss", total=torch.tensor(6.0), count=torch.tensor(2))
        >>> figures.add("loss", total=torch.tensor(2.0), count=torch.tensor(2))
        >>> figures.at_least("ratio_max", torch.tensor(1.5))
        >>> {name: value.item() for name, value in figures.compute().items()}
        {'loss': 2.0, 'ratio_max': 1.5}
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._maxima: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor, count: Tensor) -> None:
        """Add a sum and the number of what it sums, scalars; without anything that counts, the mean is 0."""
        part = torch.stack([total.detach().float(), count.detach().float()])
        self._sums[name] = self._sums[name] + part if name in self._sums else part

    def at_least(self, name: str, value: Tensor) -> None:
        """Raise a maximum to ``value``, a scalar."""
        value = value.detach()
        self._maxima[name] = torch.maximum(self._maxima[name], value) if name in self._maxima else value

    def compute(self) -> dict[str, Tensor]:
        """All figures, scalars on their device."""
        return {name: total / count.clamp(min=1) for name, (total, count) in self._sums.items()} | self._maxima

    def clear(self) -> None:
        """Forget everything."""
        self._sums.clear()
        self._maxima.clear()
