"""Published shapes of the models that have an overlay: what memory is computed from without downloading anything."""

from __future__ import annotations

from collections.abc import Callable

from transformers import GemmaConfig, LlamaConfig, MistralConfig, OPTConfig, PretrainedConfig, Qwen2Config

# Each from the config.json in its hub repository.
SHAPES: dict[str, Callable[[], PretrainedConfig]] = {
    "meta-llama/Llama-2-7b-chat-hf": lambda: LlamaConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=32,
        max_position_embeddings=4096,
    ),
    "mistralai/Mistral-7B-Instruct-v0.3": lambda: MistralConfig(
        vocab_size=32768,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=32768,
        sliding_window=None,
    ),
    "google/codegemma-2b": lambda: GemmaConfig(
        vocab_size=256000,
        hidden_size=2048,
        intermediate_size=16384,
        num_hidden_layers=18,
        num_attention_heads=8,
        num_key_value_heads=1,
        head_dim=256,
        max_position_embeddings=8192,
    ),
    "facebook/galactica-1.3b": lambda: OPTConfig(
        vocab_size=50000,
        hidden_size=2048,
        word_embed_proj_dim=2048,
        ffn_dim=8192,
        num_hidden_layers=24,
        num_attention_heads=32,
        max_position_embeddings=2048,
        activation_function="gelu",
        # Older copies of its config.json keep biases and gains: 0.6 M weights more.
        enable_bias=False,
        layer_norm_elementwise_affine=False,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    ),
    "Qwen/Qwen2.5-7B-Instruct": lambda: Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
    ),
    "meta-llama/Llama-3.1-8B-Instruct": lambda: LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
    ),
}
