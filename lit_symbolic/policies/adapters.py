"""Several LoRA adapters on one base: which one a forward pass goes through."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any, TypeAlias

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel

AdapterLayer: TypeAlias = BaseTunerLayer | AuxiliaryTrainingWrapper

# What decides how the weights of a LoRA adapter are read; the layers it sits on are seen from its weights.
MEANING = ("peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")


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
    present = Route(model)
    if not present.stations:
        raise ValueError("the model carries no adapters: give policy.lora, or choose a reference or critic that needs none")
    known = getattr(model, "peft_config", {})
    if name is not None and name not in known:
        raise ValueError(f"no adapter {name!r} to switch to; the model has {sorted(known)}")
    try:
        _switch([(layer, names if name is None else [name], name is None) for layer, names, _ in present.stations])
        yield
    finally:
        present.take()


class Route:
    """Which adapters each layer of a module went through when this was made.

    Args:
        module: A model or a part of one.
    """

    def __init__(self, module: nn.Module) -> None:
        layers = [layer for layer in module.modules() if isinstance(layer, (BaseTunerLayer, AuxiliaryTrainingWrapper))]
        self.stations: list[tuple[AdapterLayer, list[str], bool]] = [
            (layer, list(layer.active_adapters), layer.disable_adapters) for layer in layers
        ]

    def take(self) -> None:
        """Send forward passes through those adapters again."""
        _switch(self.stations)


def _switch(stations: Iterable[tuple[AdapterLayer, list[str], bool]]) -> None:
    """Give each layer its active adapters, or none where the flag says disabled; what is trainable stays as it is."""
    for layer, names, disabled in stations:
        if (list(layer.active_adapters), layer.disable_adapters) == (names, disabled):
            continue
        assert isinstance(layer, nn.Module)
        trainable = [(parameter, parameter.requires_grad) for parameter in layer.parameters()]
        layer.enable_adapters(not disabled)
        layer.set_adapter(names)
        for parameter, requires_grad in trainable:
            parameter.requires_grad_(requires_grad)


def train_adapter(model: PreTrainedModel, name: str) -> None:
    """Freeze all weights but those of adapter ``name``, and hold its low-rank matrices in float32.

    Small updates of bfloat16 weights would be rounded away; PEFT does the same in ``get_peft_model``.
    """
    model.requires_grad_(False)
    for key, parameter in model.named_parameters():
        if belongs_to(key, name):
            parameter.requires_grad_(True)
            if ".lora_" in key:
                parameter.data = parameter.data.float()


def belongs_to(key: str, adapter: str) -> bool:
    """Whether the weight ``key`` belongs to ``adapter``.

    Example:
        >>> [belongs_to(key, "default") for key in ("q.lora_A.default.weight", "embed.lora_embedding_A.default", "q.weight")]
        [True, True, False]
    """
    return adapter in key.split(".")


def meaning_of(config: object) -> dict[str, Any]:
    """What decides how an adapter's weights are read, in plain values that a checkpoint can hold."""
    values = {field: getattr(config, field, None) for field in MEANING}
    return {field: str(value.value) if isinstance(value, Enum) else value for field, value in values.items()}


def require_same_adapter(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse weights of one adapter for another in which they would mean something else.

    Args:
        saved: :func:`meaning_of` the adapter that the weights were trained in.
        wanted: :func:`meaning_of` the adapter that they are for.

    Raises:
        ValueError: If rank, scale or kind of update differ.
    """
    differences = [f"{field} is {saved[field]} there and {now} here" for field, now in wanted.items() if saved[field] != now]
    if differences:
        raise ValueError(
            f"the saved adapter differs from policy.lora: {'; '.join(differences)}; give policy.lora the saved values"
        )


def clone_adapter(model: PreTrainedModel, source: str, name: str, trainable: bool) -> None:
    """Add adapter ``name`` with the configuration and the weights of ``source``.

    Raises:
        ValueError: If the model has no adapter ``source``.
    """
    configs = getattr(model, "peft_config", {})
    if source not in configs:
        raise ValueError(
            f"a second adapter needs a policy with adapters: give policy.lora (no adapter {source!r}; there are {sorted(configs) or 'none'})"
        )
    wanted = {p: p.requires_grad for p in model.parameters()}
    model.add_adapter(copy.deepcopy(configs[source]), adapter_name=name)
    model.set_adapter(source)
    for parameter, requires_grad in wanted.items():
        parameter.requires_grad_(requires_grad)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for key in [k for k in parameters if belongs_to(k, source)]:
            copied = parameters[".".join(name if part == source else part for part in key.split("."))]
            # PEFT made it in the base's type; rounded to bfloat16 it would not compute what its source does.
            copied.data = parameters[key].detach().clone()
            copied.requires_grad_(trainable)
