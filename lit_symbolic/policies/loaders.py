"""Where the policy's weights come from: a tiny model from scratch, or any Hugging Face causal LM."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, load_peft_weights, set_peft_model_state_dict
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lit_symbolic.policies.adapters import has_adapters, meaning_of, require_same_adapter, train_adapter
from lit_symbolic.policies.checkpointing import checkpoint_activations
from lit_symbolic.policies.forward import require_plain_head
from lit_symbolic.policies.special_tokens import complete_special_tokens, require_plain_embeddings
from lit_symbolic.policies.tiny import task_tokenizer, tiny_llama
from lit_symbolic.seeding import run_seed
from lit_symbolic.vocabulary import Vocabulary

POLICY_ADAPTER = "default"


class PolicyLoader(ABC):
    """Makes the model to be trained and its tokenizer, inside ``configure_model()``."""

    @abstractmethod
    def load(self, vocabulary: Vocabulary) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Load or make model and tokenizer.

        Args:
            vocabulary: The task's, for a loader that makes its own tokenizer.
        """


class TinyLlama(PolicyLoader):
    """A Llama of about 2 M weights from scratch, with a tokenizer made for the task: of its words, or learned from its texts.

    Args:
        hidden_size: Width of the residual stream.
        layers: Number of blocks.
        heads: Number of attention heads.
        intermediate_size: Width of the gated feed-forward layer.
        max_length: Longest prompt plus answer, in tokens.
        seed: Seed of the first weights; null takes the run's.
    """

    def __init__(
        self,
        hidden_size: int = 192,
        layers: int = 4,
        heads: int = 6,
        intermediate_size: int = 512,
        max_length: int = 512,
        seed: int | None = None,
    ) -> None:
        self.hidden_size = hidden_size
        self.layers = layers
        self.heads = heads
        self.intermediate_size = intermediate_size
        self.max_length = max_length
        self.seed = seed

    def load(self, vocabulary: Vocabulary) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """See :meth:`PolicyLoader.load`."""
        tokenizer = task_tokenizer(vocabulary)
        model = tiny_llama(
            tokenizer,
            self.hidden_size,
            self.layers,
            self.heads,
            self.intermediate_size,
            self.max_length,
            run_seed() if self.seed is None else self.seed,
        )
        return model, tokenizer


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters, by the names of :class:`peft.LoraConfig`.

    Args:
        r: Rank.
        lora_alpha: Scale; the update is multiplied by ``lora_alpha / r``.
        target_modules: Names of the layers that are adapted, or ``all-linear``.
        options: Further fields of :class:`peft.LoraConfig`.

    Raises:
        ValueError: If ``options`` names a field that is set here, or dropout or bias, which stay off.
    """

    r: int = 16
    lora_alpha: int = 32
    target_modules: str | list[str] = "all-linear"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = {"r", "lora_alpha", "target_modules", "lora_dropout", "bias", "task_type"} & self.options.keys()
        if taken:
            raise ValueError(
                f"policy.lora.options must not hold {sorted(taken)}: dropout and bias stay off, the others are fields of policy.lora"
            )

    def config(self) -> LoraConfig:
        """The PEFT configuration; without dropout (the first probability ratio would not be 1) and bias (a reference could not undo it)."""
        return LoraConfig(
            r=self.r,
            lora_alpha=self.lora_alpha,
            target_modules=self.target_modules,
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
            **self.options,
        )


class HuggingFacePolicy(PolicyLoader):
    """Any Hugging Face causal LM by hub name or local folder, optionally in 4 bits and with LoRA.

    Args:
        name: Hub name or folder; a PEFT adapter folder is opened with its base model, and its adapter is trained on.
        quantization: ``nf4`` loads the base in 4 bits (NF4, double quantisation) through bitsandbytes.
        lora: Adapters to train; None trains all weights, which a quantized base does not allow.
        dtype: Type of the weights that are not quantized, and of 4-bit arithmetic; null is bfloat16 under LoRA and
            float32 where all weights are trained, since small steps would be rounded away in bfloat16.
        attn_implementation: As in transformers; None takes its default.
        gradient_checkpointing: Recompute activations in the backward pass (non-reentrant).
        revision: Hub revision.

    Raises:
        ValueError: If the base is quantized and ``lora`` is None; on loading, if ``name`` is an adapter folder and
            ``lora`` describes another adapter, if the model alters logits after its head, or if no end-of-sequence or
            padding token can be found (see :func:`lit_symbolic.policies.special_tokens.complete_special_tokens`).
    """

    def __init__(
        self,
        name: str,
        quantization: Literal["none", "nf4"] = "none",
        lora: Lora | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] | None = None,
        attn_implementation: str | None = None,
        gradient_checkpointing: bool = False,
        revision: str = "main",
    ) -> None:
        if quantization != "none" and lora is None:
            raise ValueError("4-bit weights cannot be trained: give policy.lora, or set policy.quantization to none")
        self.name = name
        self.quantization = quantization
        self.lora = lora
        self.dtype = dtype or ("float32" if lora is None else "bfloat16")
        self.attn_implementation = attn_implementation
        self.gradient_checkpointing = gradient_checkpointing
        self.revision = revision

    def load(self, vocabulary: Vocabulary) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """See :meth:`PolicyLoader.load`; ``vocabulary`` is not used."""
        dtype = getattr(torch, self.dtype)
        options: dict[str, Any] = {"dtype": dtype, "revision": self.revision}
        if self.attn_implementation is not None:
            options["attn_implementation"] = self.attn_implementation
        if self.quantization == "nf4":
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
        tokenizer = AutoTokenizer.from_pretrained(self.name, revision=self.revision)
        model = AutoModelForCausalLM.from_pretrained(self.name, **options)
        if self.quantization == "nf4":
            keep_cpu_weights_packed(model)
        require_plain_head(model)
        added = complete_special_tokens(model, tokenizer, frozen=self.lora is not None or has_adapters(model))
        if has_adapters(model):
            if self.lora is not None:
                require_same_adapter(meaning_of(model.peft_config[POLICY_ADAPTER]), meaning_of(self.lora.config()))
            train_adapter(model, POLICY_ADAPTER)
            # Once more, now in float32: transformers rounds an adapter to the base's type, and skips DoRA's magnitudes.
            saved = load_peft_weights(self.name, device="cpu", revision=self.revision)
            set_peft_model_state_dict(model, saved, adapter_name=POLICY_ADAPTER)
        elif self.lora is not None:
            config = self.lora.config()
            config.revision = None if self.revision == "main" else self.revision  # an exported adapter names its base by it
            model.add_adapter(config, adapter_name=POLICY_ADAPTER)
            train_adapter(model, POLICY_ADAPTER)
        if added and has_adapters(model):
            require_plain_embeddings(model)
        if self.gradient_checkpointing:
            checkpoint_activations(model)
        switch_dropout_off(model)
        return model, tokenizer


def load_folder(path: Path, like: PolicyLoader) -> tuple[PreTrainedModel, PreTrainedTokenizerBase] | None:
    """Open a saved model folder with the settings of ``like``; None if the folder holds an adapter only.

    Raises:
        FileNotFoundError: If the folder holds neither a model nor an adapter.
    """
    if (path / "adapter_config.json").is_file():
        return None
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} holds neither a model (config.json) nor an adapter (adapter_config.json)")
    if isinstance(like, HuggingFacePolicy):
        settings = {**vars(like), "name": str(path), "revision": "main"}
        return HuggingFacePolicy(**settings).load(())
    return HuggingFacePolicy(str(path), dtype="float32").load(())


def keep_cpu_weights_packed(model: nn.Module) -> None:
    """Stop bitsandbytes from repacking 4-bit weights on CPUs with AVX512-BF16, after which they could not be trained."""
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def switch_dropout_off(model: PreTrainedModel) -> None:
    """Set every rate of dropout, layer drop and router noise to zero: else the first probability ratio of PPO is not 1.

    Rates stand in dropout layers, in attributes of other layers, and in configs that are read in each forward pass.
    """
    owners: list[Any] = list(model.modules())
    configs = [
        model.config,
        *(module.config for module in owners if isinstance(getattr(module, "config", None), PretrainedConfig)),
    ]
    for config in configs:
        configs.extend(
            nested for nested in vars(config).values() if isinstance(nested, PretrainedConfig) and nested not in configs
        )
    for owner in [*owners, *configs]:
        if isinstance(owner, nn.modules.dropout._DropoutNd):
            owner.p = 0.0
        for name, value in list(vars(owner).items()):
            if isinstance(value, float) and any(part in name for part in ("drop", "jitter")):
                setattr(owner, name, 0.0)
