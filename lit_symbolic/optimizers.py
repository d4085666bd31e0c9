"""Muon for the matrices of a network and AdamW for the rest, as one optimizer.

Muon (https://kellerjordan.github.io/posts/muon/) takes matrices only. Lightning's automatic optimisation takes one optimizer.
:class:`torch.optim.Muon` multiplies in bfloat16 everywhere. A CPU without instructions for it (most) then spends four fifths of a small
model's training there, so that this one multiplies in the matrices' own precision on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from transformers import PreTrainedModel

NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, Muon's own: steepest at 0, and no further from 1 than 0.7 to 1.2 at the end."""
RMS_OF_ADAMW = 0.2


def orthogonalized(matrix: Tensor) -> Tensor:
    """The matrix with all its singular values brought near 1, by a quintic Newton-Schulz iteration.

    Args:
        matrix: Float, shape (rows, columns).

    Returns:
        Shape (rows, columns); in bfloat16 unless the matrix is on a CPU.

    Example:
        >>> values = torch.linalg.svdvals(orthogonalized(torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])))
        >>> print(", ".join(f"{value:.2f}" for value in values.tolist()))
        1.13, 0.75
    """
    first, third, fifth = NEWTON_SCHULZ
    wide = matrix if matrix.device.type == "cpu" else matrix.bfloat16()
    tall = matrix.shape[0] > matrix.shape[1]
    if tall:
        wide = wide.T
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=third, alpha=fifth), wide, beta=first)
    return wide.T if tall else wide


def _loss_of(closure: Callable[[], Any] | None) -> Any:
    """What a step returns: the loss that its closure computes, with gradients."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


class MatrixMuon(Muon):
    """:class:`torch.optim.Muon` with Nesterov momentum, whose step multiplies as :func:`orthogonalized` does.

    Args:
        groups: Parameter groups with ``params``, ``lr``, ``momentum`` and ``weight_decay``.

    Raises:
        ValueError: If a parameter is no matrix.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step."""
        loss = _loss_of(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalized(parameter.grad.lerp(momentum, group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * RMS_OF_ADAMW * math.sqrt(max(parameter.shape)))
        return loss


class MuonAdamW(Optimizer):
    """Runs :class:`MatrixMuon` on groups with ``muon: True`` and :class:`torch.optim.AdamW` on the others.

    Muon's updates are scaled to the root mean square of AdamW's (https://arxiv.org/abs/2502.16982, equation 4), so that
    one learning rate serves both.

    Args:
        groups: Parameter groups with ``params`` and, optionally, ``muon``.
        lr: Learning rate.
        betas: Decay of AdamW's moments.
        momentum: Muon's momentum.
        weight_decay: Decoupled weight decay.

    Raises:
        ValueError: If a group with ``muon: True`` holds a parameter that is no matrix.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> optimizer = MuonAdamW([{"params": [layer.weight], "muon": True}, {"params": [layer.bias], "muon": False}], lr=0.1)
        >>> layer(torch.ones(1, 2)).sum().backward()
        >>> _ = optimizer.step()
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": weight_decay, "muon": False}
        super().__init__(list(groups), defaults)
        self._share()

    def _share(self) -> None:
        """Make the two optimizers work on this one's groups and state."""
        muon = [group for group in self.param_groups if group["muon"]]
        rest = [group for group in self.param_groups if not group["muon"]]
        self._parts: list[Optimizer] = []
        if muon:
            self._parts.append(MatrixMuon(muon))
        if rest:
            self._parts.append(AdamW(rest))
        for part in self._parts:
            part.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load, and let the two optimizers work on what was loaded."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both."""
        loss = _loss_of(closure)
        for part in self._parts:
            part.step()
        return loss


def adamw(name: Literal["adamw", "adamw8bit", "paged_adamw8bit"]) -> Callable[..., Optimizer]:
    """The class of an AdamW: torch's, or one of bitsandbytes with moments in 8 bits (tensors of 4096 weights and more)."""
    if name == "adamw":
        return AdamW
    from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit  # a second's import, which most runs do without

    return AdamW8bit if name == "adamw8bit" else PagedAdamW8bit


def split_for_muon(model: nn.Module, parameters: Iterable[Tensor]) -> list[dict[str, Any]]:
    """Two groups: the matrices inside the network, and embeddings, output head, a critic's head, vectors.

    Args:
        model: Says which parameters are embeddings or heads.
        parameters: What to split.
    """
    outer: set[int] = set()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            outer |= {id(p) for p in module.parameters()}
        head = module.get_output_embeddings() if isinstance(module, PreTrainedModel) else None
        if head is not None:
            outer |= {id(p) for p in head.parameters()}
    wanted = list(parameters)
    matrices = [p for p in wanted if p.ndim == 2 and min(p.shape) > 1 and id(p) not in outer]
    chosen = {id(p) for p in matrices}
    groups = [{"params": matrices, "muon": True}, {"params": [p for p in wanted if id(p) not in chosen], "muon": False}]
    return [group for group in groups if group["params"]]
