"""Gradient checkpointing: activations are computed again in the backward pass, through the adapters of the forward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from lit_symbolic.policies.adapters import Route


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Keep only the input of each block in training passes (non-reentrant, so frozen inputs need no gradient).

    Raises:
        ValueError: If the model's blocks cannot be recomputed.
    """
    if not _blocks(model):
        raise ValueError(f"{type(model).__name__} has no blocks to recompute; set policy.gradient_checkpointing to false")
    for block in _blocks(model):
        block.gradient_checkpointing = True  # type: ignore[assignment]
        # The place where transformers keeps it for its layers.
        block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)  # type: ignore[assignment]


def recompute_through_own_adapter(model: PreTrainedModel) -> None:
    """Let each block recompute through the adapter that its forward pass went through.

    Where several adapters are trained in one loss, the active one has changed by the time of the backward pass. Without
    gradient checkpointing this does nothing.
    """
    for block in _blocks(model):
        if block.gradient_checkpointing:
            block._gradient_checkpointing_func = partial(  # type: ignore[assignment]
                checkpoint, use_reentrant=False, context_fn=partial(_contexts, block)
            )


def _blocks(model: PreTrainedModel) -> list[nn.Module]:
    return [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds a block's forward pass (called then) and its recomputation."""
    return nullcontext(), _Rerouted(block)


class _Rerouted(AbstractContextManager[None]):
    """Sends a block through the adapters that were active when this was made; may be entered again and again."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.route = Route(block)
        self.before: list[Route] = []

    def __enter__(self) -> None:
        self.before.append(Route(self.block))
        self.route.take()

    def __exit__(self, *exception: object) -> None:
        self.before.pop().take()
