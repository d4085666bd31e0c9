"""Tiny models with random weights of the classes that people load from a hub, each with a tokenizer, as folders."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    StableLmConfig,
)

from lit_symbolic.policies.tiny import tiny_tokenizer

WORDS = [str(i) for i in range(30)]
TOKENIZER = tiny_tokenizer(WORDS)
# Rows beyond the vocabulary, as in Qwen and GPT-NeoX.
ROWS = 64
_SIZES = {
    "vocab_size": ROWS,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": TOKENIZER.pad_token_id,
    "bos_token_id": TOKENIZER.bos_token_id,
    "eos_token_id": TOKENIZER.eos_token_id,
    "dtype": "float32",
}
_GATED = {**_SIZES, "intermediate_size": 128}

ARCHITECTURES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(num_key_value_heads=2, attention_dropout=0.1, **_GATED),
    "mistral": MistralConfig(num_key_value_heads=2, sliding_window=None, attention_dropout=0.1, **_GATED),
    # Tied and scaled embeddings, one key-value head, heads wider than their share of the stream.
    "gemma": GemmaConfig(num_key_value_heads=1, head_dim=32, **_GATED),
    "qwen2": Qwen2Config(num_key_value_heads=2, **_GATED),
    # Galactica: learned positions, no biases; OPT-350m: embeddings narrower than the stream.
    "opt": OPTConfig(ffn_dim=128, word_embed_proj_dim=64, enable_bias=False, dropout=0.1, activation_function="gelu", **_SIZES),
    "opt_projected": OPTConfig(ffn_dim=128, word_embed_proj_dim=32, dropout=0.1, layerdrop=0.1, **_SIZES),
    "stablelm": StableLmConfig(num_key_value_heads=2, use_qkv_bias=True, hidden_dropout=0.1, **_GATED),
    "gpt_neox": GPTNeoXConfig(hidden_dropout=0.1, attention_dropout=0.1, **_GATED),
    "phi": PhiConfig(resid_pdrop=0.1, embd_pdrop=0.1, **_GATED),
}


def random_model(config: PretrainedConfig, seed: int = 0) -> PreTrainedModel:
    """A float32 model whose weights, biases and norms are all far from where they are initialised."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def save_architecture(name: str, folder: Path, tokenizer: PreTrainedTokenizerFast = TOKENIZER, **sizes: int) -> Path:
    """Save a tiny model of :data:`ARCHITECTURES`, some of its ``sizes`` changed, with a tokenizer under ``folder``."""
    path, config = folder / name, copy.deepcopy(ARCHITECTURES[name])
    for size, value in sizes.items():
        setattr(config, size, value)
    random_model(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
