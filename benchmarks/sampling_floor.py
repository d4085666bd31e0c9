"""The bare matrix products of sampling: what no engine that computes the same can be faster than."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import LlamaConfig


def linear_products(
    config: LlamaConfig, prompts: int, prompt_tokens: int, rows: int, new_tokens: int, dtype: torch.dtype
) -> Callable[[], None]:
    """Every product with a weight matrix: the prompt's once for its samples, then a step's for each further token.

    Weights that read the same input are one matrix, results go to memory that is there, and behind the last layer's keys and
    values only a prompt's last token counts: the fastest way to do it.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    width = hidden // config.num_attention_heads
    into_attention = (hidden, hidden + 2 * config.num_key_value_heads * width)
    rest = [(hidden, hidden), (hidden, 2 * inner), (inner, hidden)]
    layers = [[torch.randn(shape).to(dtype) for shape in (into_attention, *rest)] for _ in range(config.num_hidden_layers)]
    head = torch.randn(hidden, config.vocab_size).to(dtype)

    def products(tokens: int, answers: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        def of(count: int, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return inputs[weight.shape[0]][:count], weight, torch.empty(count, weight.shape[1], dtype=dtype)

        inputs = {size: torch.randn(tokens, size).to(dtype) for size in (hidden, inner)}
        body = [of(tokens, weight) for layer in layers[:-1] for weight in layer]
        last = [of(tokens, layers[-1][0]), *(of(answers, weight) for weight in layers[-1][1:])]
        return [*body, *last, of(answers, head)]

    prefill, step = products(prompts * prompt_tokens, prompts), products(rows, rows)

    def run() -> None:
        for left, right, out in prefill:
            torch.mm(left, right, out=out)
        for _ in range(new_tokens - 1):
            for left, right, out in step:
                torch.mm(left, right, out=out)

    return run


def attention_products(config: LlamaConfig, prompt_tokens: int, rows: int, new_tokens: int) -> Callable[[], None]:
    """A step's products of queries with keys and of weights with values, float32, over caches of the mean length.

    The attention of the prompts among themselves is left out.
    """
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    width, group = config.hidden_size // heads, heads // kv_heads
    length = prompt_tokens + new_tokens // 2
    batch = rows * kv_heads
    caches = [(torch.randn(batch, length, width), torch.randn(batch, length, width)) for _ in range(config.num_hidden_layers)]
    query, weights = torch.randn(batch, group, width), torch.rand(batch, group, length)
    scores, mixed = torch.empty(batch, group, length), torch.empty(batch, group, width)

    def run() -> None:
        for _ in range(new_tokens - 1):
            for keys, values in caches:
                torch.bmm(query, keys.transpose(1, 2), out=scores)
                torch.bmm(weights, values, out=mixed)

    return run
