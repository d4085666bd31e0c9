"""A policy's LoRA adapter for a server that holds the base: whether it can be served, and its versions as PEFT folders."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

# Ways to begin an adapter that leave the base as it is; others (PiSSA, OLoRA, LoftQ ...) move a part of it into the adapter.
BASE_UNTOUCHED = (True, False, "gaussian", "eva", "orthogonal")


def served_adapter(model: PreTrainedModel) -> LoraConfig:
    """The configuration of the policy's adapter.

    Raises:
        ValueError: If the policy has no adapter, several at work or none, or one that means more than its matrices.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if not layers:
        raise ValueError(
            "VLLMEngine exchanges LoRA adapters, and this policy has none: give policy.lora, or take NativeEngine to train all weights"
        )
    at_work = {name for layer in layers if not layer.disable_adapters for name in layer.active_adapters}
    if len(at_work) != 1 or any(layer.disable_adapters for layer in layers):
        raise ValueError(f"one adapter has to be at work in all layers to be sampled from, found {sorted(at_work) or 'none'}")
    config = model.peft_config[at_work.pop()]
    if not isinstance(config, LoraConfig):
        raise ValueError(f"only LoRA adapters can be served, got {config.peft_type}")
    beyond = {
        "use_dora": config.use_dora,
        "bias": config.bias != "none",
        "lora_bias": config.lora_bias,
        "modules_to_save": config.modules_to_save,
        # One scale would be applied to all layers, silently.
        "rank_pattern": config.rank_pattern,
        "alpha_pattern": config.alpha_pattern,
        "layer_replication": config.layer_replication,
        "trainable_token_indices": config.trainable_token_indices,
        "target_parameters": getattr(config, "target_parameters", None),
        "init_lora_weights": config.init_lora_weights not in BASE_UNTOUCHED,
    }
    refused = [name for name, given in beyond.items() if given]
    if refused:
        raise ValueError(f"vLLM does not apply {', '.join(refused)} of policy.lora.options: leave it out, or take NativeEngine")
    return config


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """One state of an adapter's weights.

    Attributes:
        number: 1 for the first, and so on.
        path: A PEFT folder.
    """

    number: int
    path: Path


class AdapterVersions:
    """Writes an adapter whenever its weights have changed, into a private folder that goes when this object goes."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lit-symbolic-adapter-")
        self._weights: dict[str, Tensor] = {}
        self._latest: AdapterVersion | None = None

    def current(self, model: PreTrainedModel) -> AdapterVersion:
        """The present weights of the adapter at work; their folder is the only one that is kept."""
        config = served_adapter(model)
        weights = {name: value.detach().cpu().clone() for name, value in model.get_adapter_state_dict().items()}
        latest = self._latest
        if latest is not None and _equal(weights, self._weights):
            return latest
        number = 1 if latest is None else latest.number + 1
        version = AdapterVersion(number, Path(self._folder.name) / f"adapter-{number}")
        config.save_pretrained(str(version.path))
        # The prefix is that of PEFT's own files.
        save_file({f"base_model.model.{name}": value for name, value in weights.items()}, version.path / SAFETENSORS_WEIGHTS_NAME)
        if latest is not None:
            shutil.rmtree(latest.path)
        self._weights, self._latest = weights, version
        return version

    def close(self) -> None:
        """Remove what was written."""
        self._folder.cleanup()


def _equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())
