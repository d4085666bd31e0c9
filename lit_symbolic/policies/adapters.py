"""Several LoRA adapters on one base: which one a forward pass goes through."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel


def has_adapters(model: nn.Module) -> bool:
    """Whether any layer of ``model`` carries an adapter."""
    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


@contextmanager
def active_adapter(model: PreTrainedModel, name: str | None) -> Iterator[None]:
    """Send forward passes through adapter ``name``, or past all adapters with None.

    What is trainable stays as it was: switching must neither freeze nor free a weight.

    Raises:
        ValueError: If the model has no adapters, or none of that name.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if not layers:
        raise ValueError("the model carries no adapters: give policy.lora, or choose a reference or critic that needs none")
    known = getattr(model, "peft_config", {})
    if name is not None and name not in known:
        raise ValueError(f"no adapter {name!r} to switch to; the model has {sorted(known)}")
    trainable = {p: p.requires_grad for p in model.parameters()}
    before = [(layer, list(layer.active_adapters), layer.disable_adapters) for layer in layers]

    def restore_trainable() -> None:
        for parameter, requires_grad in trainable.items():
            parameter.requires_grad_(requires_grad)

    try:
        for layer in layers:
            layer.enable_adapters(name is not None)
            if name is not None:
                layer.set_adapter([name])
        restore_trainable()
        yield
    finally:
        for layer, names, disabled in before:
            layer.enable_adapters(not disabled)
            layer.set_adapter(names)
        restore_trainable()


def clone_adapter(model: PreTrainedModel, source: str, name: str, trainable: bool) -> None:
    """Add adapter ``name`` with the configuration and the weights of ``source``.

    Raises:
        ValueError: If the model has no adapter ``source``.
    """
    configs = getattr(model, "peft_config", {})
    if source not in configs:
        raise ValueError(f"no adapter {source!r} to copy; the model has {sorted(configs) or 'no adapters'}")
    wanted = {p: p.requires_grad for p in model.parameters()}
    model.add_adapter(copy.deepcopy(configs[source]), adapter_name=name)
    model.set_adapter(source)
    for parameter, requires_grad in wanted.items():
        parameter.requires_grad_(requires_grad)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for key in [k for k in parameters if f".{source}." in k]:
            copied = parameters[key.replace(f".{source}.", f".{name}.")]
            # PEFT made it in the base's type; rounded to bfloat16 it would not compute what its source does.
            copied.data = parameters[key].detach().clone()
            copied.requires_grad_(trainable)
