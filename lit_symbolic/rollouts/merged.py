"""A copy of a model to sample from: plain layers in one type, adapters merged in, quantized weights dequantized.

The model itself is never changed; 4-bit weights are never merged into.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.integrations import dequantize_module_weight
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel


class MergedCopy:
    """A copy of ``model`` without adapters, its parameters in ``dtype``; buffers keep their type.

    It takes two bytes a weight in bfloat16 (14 GB for 7B), held until it is let go of. :meth:`refresh` computes one layer
    at a time, in float32, from the model's own weights: sums over many refreshes would drift. For 4-bit weights that
    is a dequantization of all adapted layers each time (7B on a GPU: about 4 GB read and 14 GB written).

    Args:
        model: A causal LM, with or without LoRA adapters, with or without 4- or 8-bit linear layers.
        dtype: Type of the copy.

    Raises:
        ValueError: If an active adapter is not a plain LoRA, whose update is a product to be added.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype) -> None:
        self.source, self.dtype = self.base_of(model), dtype
        self._same: list[tuple[Tensor, Tensor]] = []
        self._merged: list[tuple[nn.Module, nn.Module]] = []
        memo: dict[int, Any] = {}
        self._note(self.source, memo)
        self.model: PreTrainedModel = copy.deepcopy(self.source, memo).requires_grad_(False).eval()
        self._versions = [_version(source) for source, _ in self._same]
        self.refresh()

    @staticmethod
    def base_of(model: PreTrainedModel) -> PreTrainedModel:
        """The transformers model that ``model`` is, or that stands inside it (a ``PeftModel``)."""
        return model.get_base_model() if isinstance(model, PeftModel) else model

    @property
    def bytes(self) -> int:
        """Memory that the copy takes."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the model's present weights."""
        for index, (source, target) in enumerate(self._same):
            version = _version(source)
            # Not every way to write a trained weight counts as a version.
            if source.requires_grad or version != self._versions[index]:
                target.copy_(source)
                self._versions[index] = version
        for layer, plain in self._merged:
            plain.weight.copy_(_merged_weight(layer))  # type: ignore[operator]

    def _note(self, module: nn.Module, memo: dict[int, Any]) -> None:
        """Note what stands in the copy in place of each parameter, and of each layer that is not plain."""
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in memo:
                memo[id(parameter)] = self._converted(parameter)
                self._same.append((parameter, memo[id(parameter)]))
        for child in module.children():
            if isinstance(child, ModulesToSaveWrapper):
                chosen = _saved_module(child)
                self._note(chosen, memo)
                memo[id(child)] = copy.deepcopy(chosen, memo)
            elif isinstance(child, BaseTunerLayer) or _quantized(child):
                memo[id(child)] = plain = self._plain_layer(child)
                self._merged.append((child, plain))
            else:
                self._note(child, memo)

    def _plain_layer(self, layer: nn.Module) -> nn.Module:
        """A layer for the merged weight, which :meth:`refresh` fills in; the bias is the base's."""
        base = _base_layer(layer)
        bias = getattr(base, "bias", None)
        if not _quantized(base):
            return copy.deepcopy(base, {id(parameter): self._converted(parameter) for parameter in base.parameters()})
        plain = nn.Linear(base.in_features, base.out_features, False, device=base.weight.device, dtype=self.dtype)
        if bias is not None:
            plain.bias = self._converted(bias)
        return plain

    def _converted(self, parameter: Tensor) -> nn.Parameter:
        dtype = self.dtype if parameter.is_floating_point() else parameter.dtype
        return nn.Parameter(parameter.detach().to(dtype, copy=True), requires_grad=False)


def _base_layer(layer: nn.Module) -> Any:
    return layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer


def _saved_module(wrapper: ModulesToSaveWrapper) -> nn.Module:
    if wrapper.disable_adapters or not wrapper.active_adapters:
        return wrapper.original_module
    return wrapper.modules_to_save[wrapper.active_adapters[0]]


def _quantized(module: nn.Module) -> bool:
    """Whether a layer holds its weight in a packed form."""
    weight = getattr(module, "weight", None)
    return isinstance(module, nn.Linear) and type(module) is not nn.Linear and not (weight is None or weight.is_floating_point())


def _merged_weight(layer: nn.Module) -> Tensor:
    """Base and updates of one layer, float32."""
    base = _base_layer(layer)
    weight = (dequantize_module_weight(base) if _quantized(base) else base.weight).detach().float()
    if not isinstance(layer, BaseTunerLayer) or layer.disable_adapters or layer.merged:
        return weight
    for name in layer.active_adapters:
        if not isinstance(layer, LoraLayer):
            raise ValueError(
                f"{type(layer).__name__} cannot be merged into a copy to sample from: only LoRA can; sample with dtype: policy"
            )
        if name in layer.lora_variant or layer.use_dora.get(name) or layer.lora_bias.get(name):
            raise ValueError(
                f"adapter {name!r} is no plain LoRA (DoRA, or with biases) and cannot be merged into a copy to sample from; "
                "sample with dtype: policy"
            )
        if name in layer.lora_A or name in layer.lora_embedding_A:
            weight = weight + layer.get_delta_weight(name).float()
    return weight


def _version(parameter: Tensor) -> tuple[int, int]:
    return parameter.data_ptr(), parameter._version
