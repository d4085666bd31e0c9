"""The GPU memory that training a model is computed to need.

    python -m lit_symbolic.policies.memory configs/models/llama2_7b.yaml --prompt 512

What stands the whole time, and the larger of what sampling and learning need besides:

=================  =====================================================================================================
base               linear layers but the head: 4 bits and 0.127 bits of constants a weight (NF4, double quantisation), or
                   2 bytes; embeddings, head, norms, biases: 2 bytes. 4 bytes each where all weights are trained
adapters           LoRA, rank x (inputs + outputs) weights for each adapted layer: 4 bytes each, as many for gradients, and
                   8 (``adamw``), 4 (``muon``: one momentum) or 2.03 (8 bits and constants) for the optimizer's state
critic             ``head``: width + 1 weights; ``adapter``: the adapters once more; ``own``: a model of its own, all trained
reference          ``adapter``: LoRA weights, 4 bytes; ``copy``: the base once more; ``adapters_off``: nothing
sampling           cache: rows x tokens x layers x key-value heads x head width x 2 (keys, values) x 2 bytes; logits and what
                   is computed of them: rows x vocabulary x 18 bytes; the prompts' pass through one layer
learning           inputs of all blocks (gradient checkpointing), 2 bytes x tokens x width x blocks; one block in full (all
                   blocks without checkpointing); chunks of logits, three times 128 MiB; the largest 4-bit layer in bf16
=================  =====================================================================================================

A block in full keeps, per token: inputs of its linear layers, outputs of layer and adapter in bf16, two norms in float32 and
the rank-wide products. That is what autograd was seen to keep under ``trainer.precision: bf16-mixed``, with a third to spare
for the backward pass; attention is taken to keep no matrix of length x length. Not counted: CUDA's own context (about half a
GB) and what its allocator leaves unused.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from lit_symbolic.policies.critic import CriticKind
from lit_symbolic.policies.loaders import Lora
from lit_symbolic.policies.reference import ReferenceKind
from lit_symbolic.policies.shapes import SHAPES

# 8 bits a block of 64 weights, and 32 bits for 256 of those blocks.
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
STATE_BYTES = {"adamw": 8.0, "muon": 4.0, "adamw8bit": 2 * (1 + 4 / 256), "paged_adamw8bit": 2 * (1 + 4 / 256)}
LOGITS_CHUNK_BYTES = 3 * 128 * 2**20
SAMPLED_LOGIT_BYTES = 2 + 4 * 4


@dataclass(frozen=True)
class Memory:
    """Bytes, by what holds them.

    Attributes:
        base: The model's own weights; with their gradients and optimizer state where all weights are trained.
        adapters: LoRA weights, gradients and optimizer state.
        critic: All of the critic.
        reference: What the reference adds.
        sampling: Cache, logits and the prompts' pass.
        learning: Activations and chunks of logits.
    """

    base: float
    adapters: float
    critic: float
    reference: float
    sampling: float
    learning: float

    @property
    def total(self) -> float:
        """The highest point: sampling and learning take turns."""
        return self.base + self.adapters + self.critic + self.reference + max(self.sampling, self.learning)


def memory_need(
    config: PretrainedConfig,
    quantization: Literal["none", "nf4"] = "nf4",
    lora: Lora | None = None,
    optimizer: str = "adamw",
    critic: CriticKind = "head",
    reference: ReferenceKind = "auto",
    gradient_checkpointing: bool = True,
    prompt_tokens: int = 512,
    new_tokens: int = 256,
    sampling_rows: int = 16,
    minibatch_rows: int = 4,
) -> Memory:
    """Compute what PPO on one GPU needs; supervised fine-tuning needs less.

    Args:
        config: The model's shape.
        quantization: As in :class:`lit_symbolic.policies.HuggingFacePolicy`.
        lora: Adapters; None trains all weights in float32.
        optimizer: As in ``optimization.optimizer``.
        critic: As in :class:`lit_symbolic.policies.Critic`.
        reference: As in :class:`lit_symbolic.policies.Reference`.
        gradient_checkpointing: Whether blocks are recomputed.
        prompt_tokens: Longest prompt.
        new_tokens: Longest answer.
        sampling_rows: Rows sampled at a time (``engine.max_rows``).
        minibatch_rows: Rows of a minibatch.

    Returns:
        Bytes by holder.

    Raises:
        ValueError: If a base in 4 bits has no adapters.

    Example:
        >>> need = memory_need(SHAPES["meta-llama/Llama-2-7b-chat-hf"](), lora=Lora(r=16))
        >>> f"{need.base / 1e9:.2f} GB of weights, {need.adapters / 1e9:.2f} GB for LoRA"
        '3.87 GB of weights, 0.64 GB for LoRA'
    """
    if quantization == "nf4" and lora is None:
        raise ValueError("4-bit weights cannot be trained: give lora, or quantization none")
    text = config.get_text_config(decoder=True)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings()
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head}
    weights = sum(parameter.numel() for parameter in model.parameters())
    matrices = sum(layer.weight.numel() for layer in linear.values())
    trained_bytes = 4 + 4 + STATE_BYTES[optimizer]

    adapted = [] if lora is None else [layer for name, layer in linear.items() if _is_adapted(name, lora)]
    rank = 0 if lora is None else lora.r
    lora_weights = rank * sum(layer.in_features + layer.out_features for layer in adapted)
    frozen = matrices * (NF4_BYTES if quantization == "nf4" else 2) + (weights - matrices) * 2
    base = weights * trained_bytes if lora is None else frozen

    own_head = (text.hidden_size + 1) * trained_bytes
    critics = {"head": 0.0, "adapter": lora_weights * trained_bytes, "own": weights * trained_bytes}
    copied = weights * 4 if lora is None else frozen
    kind = ("copy" if lora is None else "adapter") if reference == "auto" else reference
    references = {"adapters_off": 0.0, "adapter": lora_weights * 4.0, "copy": copied}

    blocks = text.num_hidden_layers
    inputs = sum(layer.in_features for layer in linear.values()) / blocks
    outputs = sum(layer.out_features for layer in linear.values()) / blocks
    block_bytes = 2 * inputs + 4 * outputs + 8 * text.hidden_size + 4 * rank * len(adapted) / blocks
    tokens = minibatch_rows * (prompt_tokens + new_tokens)
    kept = 2 * text.hidden_size * blocks + block_bytes if gradient_checkpointing else block_bytes * blocks
    dequantized = 2 * max(layer.weight.numel() for layer in linear.values()) if quantization == "nf4" else 0

    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    cache = sampling_rows * (prompt_tokens + new_tokens) * blocks * heads * width * 2 * 2
    logits = sampling_rows * text.vocab_size * SAMPLED_LOGIT_BYTES
    return Memory(
        base=base,
        adapters=lora_weights * trained_bytes,
        critic=own_head + critics[critic],
        reference=references[kind],
        sampling=cache + logits + sampling_rows * prompt_tokens * block_bytes + dequantized,
        learning=tokens * kept + LOGITS_CHUNK_BYTES + dequantized,
    )


def memory_of_overlay(path: Path, prompt_tokens: int = 512) -> Memory:
    """What a recipe under the overlay ``path`` needs, by the overlay's own settings and the modules' defaults."""
    arguments: dict[str, Any] = yaml.safe_load(path.read_text())["model"]["init_args"]
    policy = arguments["policy"]["init_args"]
    name = policy["name"]
    return memory_need(
        SHAPES[name]() if name in SHAPES else AutoConfig.from_pretrained(name),
        quantization=policy.get("quantization", "none"),
        lora=Lora(**policy["lora"]) if policy.get("lora") else None,
        optimizer=arguments.get("optimization", {}).get("optimizer", "adamw"),
        critic=arguments.get("critic", "head"),
        reference=arguments.get("reference", "auto"),
        gradient_checkpointing=policy.get("gradient_checkpointing", False),
        prompt_tokens=prompt_tokens,
        new_tokens=arguments["max_new_tokens"],
        sampling_rows=arguments["engine"]["init_args"]["max_rows"],
        minibatch_rows=arguments["minibatch_rows"],
    )


def header_line(need: Memory, prompt_tokens: int = 512) -> str:
    """The need in one line, as it stands in an overlay's header.

    Example:
        >>> header_line(Memory(4e9, 5e8, 1e5, 1.6e8, 6e9, 2e9))
        'Computed GPU memory: 10.7 GB for prompts of 512 tokens (weights 4.0, adapters and critic 0.5, reference 0.2, sampling 6.0, learning 2.0).'
    """
    parts = {
        "weights": need.base,
        "adapters and critic": need.adapters + need.critic,
        "reference": need.reference,
        "sampling": need.sampling,
        "learning": need.learning,
    }
    described = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in parts.items())
    return f"Computed GPU memory: {need.total / 1e9:.1f} GB for prompts of {prompt_tokens} tokens ({described})."


def _is_adapted(name: str, lora: Lora) -> bool:
    targets = lora.target_modules
    return targets == "all-linear" or name.rsplit(".", 1)[-1] in targets


def main() -> None:
    """Print what the overlays named on the command line need."""
    parser = argparse.ArgumentParser(description="The GPU memory that an overlay of configs/models is computed to need.")
    parser.add_argument("overlays", nargs="+", type=Path, help="YAML files")
    parser.add_argument("--prompt", type=int, default=512, help="longest prompt in tokens")
    given = parser.parse_args()
    for path in given.overlays:
        print(f"{path}: {header_line(memory_of_overlay(path, given.prompt), given.prompt)}")


if __name__ == "__main__":
    main()
