"""Decoding for a plain Llama with few, large operations.

On a small model the price of a decode step is the number of operations and the memory they touch, not their arithmetic.
Against the generic forward pass this one multiplies query, key and value weights at once, gate and up at once, folds the norms'
gains into the weights, turns keys right into the cache, attends by two batched matrix products, and writes to buffers that are
made once. All rows of a step stand at the same place. Scores know only distances, so a place is a column: padding on the left
shifts all of a row alike. The result is the same to rounding.

With matrices in bfloat16 the products with weights are all that is rounded: residual stream, norms, attention, cache and logits
stay float32 (a processor without bfloat16 matrix products gains nothing by them).
"""

from __future__ import annotations

from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedModel

LEAST_GROWTH = 64
PREFILL_TOKENS = (
    4096  # prompts are read this many tokens at a time: what stands between two products stays in the processor's cache
)


class _Block(NamedTuple):
    """Weights of one layer as matrices to multiply with from the right."""

    query_key_value: Tensor
    output: Tensor
    gate_up: Tensor
    down: Tensor


class LlamaWeights:
    """The weights of a plain ``LlamaForCausalLM`` in the form in which :class:`LlamaDecoder` reads them.

    They are read when this is made: make one per sampling call, after the last weight update. In the model's own type it
    holds a second copy of about two thirds of each layer and of the head; in another type, of all weights but the embedding.

    Args:
        model: A model for which :meth:`supports` is true.
        dtype: Type of the matrices, float32 or bfloat16; None is the model's.
    """

    @staticmethod
    def supports(model: PreTrainedModel) -> TypeGuard[LlamaForCausalLM]:
        """Whether ``model`` is a Llama of plain linear layers without biases, with the default rotary embedding.

        All its weights are float32, or all bfloat16.
        """
        if type(model) is not LlamaForCausalLM:
            return False
        config = model.config
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        attention = model.model.layers[0].self_attn
        return (
            # An adapter adds layers, a quantized layer is of another type.
            len(linear) == 7 * config.num_hidden_layers + 1
            and all(type(module) is nn.Linear and module.bias is None for module in linear)
            and {parameter.dtype for parameter in model.parameters()} in ({torch.float32}, {torch.bfloat16})
            and config.hidden_act == "silu"
            and (config.rope_parameters or {}).get("rope_type") == "default"
            and 2 * model.model.rotary_emb.inv_freq.numel() == attention.head_dim
        )

    @torch.inference_mode()
    def __init__(self, model: LlamaForCausalLM, dtype: torch.dtype | None = None) -> None:
        config, trunk = model.config, model.model
        attention = trunk.layers[0].self_attn
        self.dtype = dtype or model.dtype
        self.width = attention.head_dim
        self.scale = attention.scaling
        self.heads, self.kv_heads = attention.q_proj.out_features // self.width, attention.k_proj.out_features // self.width
        self.embedding = trunk.embed_tokens.weight
        self.frequencies = trunk.rotary_emb.inv_freq.float()
        # x / sqrt(mean(x^2) + eps) is sqrt(n) * x / sqrt(|x|^2 + n eps): the factor goes into the weights.
        factor = config.hidden_size**0.5
        self.least_norm = torch.tensor(factor * config.rms_norm_eps**0.5, device=model.device)

        def matrix(weight: Tensor, gain: Tensor | None = None) -> Tensor:
            return (weight if gain is None else weight.float() * (gain.float() * factor)).to(self.dtype).t()

        self.head = matrix(model.lm_head.weight, trunk.norm.weight)
        self.blocks = []
        for layer in trunk.layers:
            attention, mlp = layer.self_attn, layer.mlp
            query, key = (self._paired(projection.weight) for projection in (attention.q_proj, attention.k_proj))
            self.blocks.append(
                _Block(
                    matrix(torch.cat([query, key, attention.v_proj.weight]), layer.input_layernorm.weight),
                    matrix(attention.o_proj.weight),
                    matrix(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]), layer.post_attention_layernorm.weight),
                    matrix(mlp.down_proj.weight),
                )
            )

    def embedded(self, ids: Tensor) -> Tensor:
        """The residual stream before the first layer, float32, shape (*ids, hidden)."""
        return F.embedding(ids, self.embedding).float()

    def normed(self, x: Tensor) -> Tensor:
        """``x`` by its norm, in the matrices' type; gain and size stand in the weights that follow."""
        return (x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.least_norm)).to(self.dtype)

    def add_product(self, x: Tensor, rows: Tensor, matrix: Tensor) -> None:
        """Add ``rows @ matrix`` to the float32 residual stream ``x`` in place."""
        if self.dtype == x.dtype:
            x.addmm_(rows, matrix)
        else:
            x.add_(torch.mm(rows.to(self.dtype), matrix))

    def logits(self, x: Tensor) -> Tensor:
        """Logits, float32, shape (rows, vocabulary)."""
        return torch.mm(self.normed(x), self.head).float()

    def _paired(self, weight: Tensor) -> Tensor:
        """Rows of each head reordered from (i, i + width/2), which Llama rotates, to neighbours, as complex numbers want them.

        Queries and keys are reordered alike, which leaves their products as they are.
        """
        return weight.view(-1, 2, self.width // 2, weight.shape[1]).transpose(1, 2).flatten(0, 2)


class LlamaDecoder:
    """A plain Llama behind :class:`lit_symbolic.rollouts.decoders.Decoder`; several may read the same weights at a time.

    Args:
        weights: The model's weights.
    """

    def __init__(self, weights: LlamaWeights) -> None:
        self.weights = weights

    @torch.inference_mode()
    def prefill(self, ids: Tensor, mask: Tensor | None, repeats: int, max_new_tokens: int) -> Tensor:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.prefill`."""
        weights = self.weights
        prompts, length = ids.shape
        self.length, self.longest = length, length + max_new_tokens
        capacity = min(self.longest, length + LEAST_GROWTH)
        rows = prompts * repeats
        # Values that are not written yet have the weight 0, but 0 times NaN is NaN: no empty memory.
        shape = len(weights.blocks), 2, rows, weights.kv_heads, capacity, weights.width
        self.cache = torch.zeros(shape, dtype=torch.float32, device=ids.device)
        angles = torch.arange(self.longest, device=ids.device)[:, None].float() * weights.frequencies
        self.key_rotations = torch.polar(torch.ones_like(angles), angles)
        self.query_rotations = self.key_rotations * weights.scale
        self.padding = None if mask is None else ~mask.repeat_interleave(repeats, dim=0)[:, None]
        at_once = max(1, PREFILL_TOKENS // length)
        logits = []
        for first in range(0, prompts, at_once):
            part = slice(first, first + at_once)
            cache = self.cache[:, :, first * repeats : (first + at_once) * repeats, :, :length]
            logits.append(self._read(ids[part], None if mask is None else mask[part], cache, repeats))
        self._lay_out()
        return torch.cat(logits)

    def _read(self, ids: Tensor, mask: Tensor | None, cache: Tensor, repeats: int) -> Tensor:
        """Run whole prompts, fill their rows of the cache, and return the logits behind each prompt."""
        weights = self.weights
        prompts, length = ids.shape
        heads, kv_heads, width = weights.heads, weights.kv_heads, weights.width
        attend = None
        if mask is not None:
            causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
            # A padded query sees itself: a row of -inf would be NaN.
            attend = (causal & mask[:, None, :] | torch.eye(length, dtype=torch.bool, device=ids.device))[:, None]
        x = weights.embedded(ids).flatten(0, 1)
        for block, layer_cache in zip(weights.blocks, cache, strict=True):
            new = torch.mm(weights.normed(x), block.query_key_value).float().view(prompts, length, -1, width)
            query, key, value = new.split([heads, kv_heads, kv_heads], dim=2)
            key = torch.view_as_real(_complex(key) * self.key_rotations[:length, None]).flatten(-2).transpose(1, 2)
            value = value.transpose(1, 2)
            for cached, states in zip(layer_cache, (key, value), strict=True):
                cached.unflatten(0, (prompts, repeats)).copy_(states[:, None])
            first = 0
            if block is weights.blocks[-1]:  # only what stands behind the prompt is still needed
                first = length - 1
                x = x.view(prompts, length, -1)[:, -1].contiguous()
            query = torch.view_as_real(_complex(query[:, first:]) * self.query_rotations[first:length, None]).flatten(-2)
            mixed = F.scaled_dot_product_attention(
                query.transpose(1, 2),
                key,
                value,
                attn_mask=None if attend is None else attend[:, :, first:],
                is_causal=attend is None and first == 0,
                scale=1.0,
                enable_gqa=kv_heads != heads,
            )
            weights.add_product(x, mixed.transpose(1, 2).reshape(len(x), -1), block.output)
            gate, up = torch.mm(weights.normed(x), block.gate_up).chunk(2, dim=-1)
            weights.add_product(x, F.silu(gate).mul_(up), block.down)
        return weights.logits(x)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.step`."""
        weights, at = self.weights, self.length
        if at == self.cache.shape[4]:
            self._grow()
        self.length += 1
        query_rotation, key_rotation = self.query_rotations[at], self.key_rotations[at]
        key_columns, value_columns = self.key_columns[..., at, :].unbind(), self.value_columns[..., at, :].unbind()
        # Attention runs over the whole width of the cache: reading around gaps costs more than it saves.
        unwritten = self.scores[..., self.length :]
        x = weights.embedded(tokens)
        for block, keys, values, key_column, value_column in zip(
            weights.blocks, self.layer_keys, self.layer_values, key_columns, value_columns, strict=True
        ):
            torch.mm(weights.normed(x), block.query_key_value, out=self.product)
            if self.product is not self.new:
                self.new.copy_(self.product)
            torch.mul(self.new_query, query_rotation, out=self.turned_query)
            torch.mul(self.new_key, key_rotation, out=key_column)
            value_column.copy_(self.new_value)
            torch.bmm(self.query, keys, out=self.scores)
            unwritten.fill_(-torch.inf)
            if self.padding is not None:
                self.prompt_scores.masked_fill_(self.padding, -torch.inf)
            torch.softmax(self.scores, dim=-1, out=self.attention)
            torch.bmm(self.attention, values, out=self.mixed)
            weights.add_product(x, self.mixed_heads, block.output)
            torch.mm(weights.normed(x), block.gate_up, out=self.gate_up)
            weights.add_product(x, F.silu(self.gate, inplace=True).mul_(self.up), block.down)
        return weights.logits(x)

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.keep`."""
        self.cache = self.cache.index_select(2, rows)
        if self.padding is not None:
            self.padding = self.padding[rows]
        self._lay_out()

    def _grow(self) -> None:
        """Widen the caches by half: few copies for a long answer, little to read in vain for a short one."""
        capacity = self.cache.shape[4]
        growth = min(max(LEAST_GROWTH, capacity // 2), self.longest - capacity)
        self.cache = F.pad(self.cache, (0, 0, 0, growth))
        self._lay_out()

    def _lay_out(self) -> None:
        """Make a step's buffers and all views of them and of the cache: they serve until rows leave or the cache grows."""
        _, _, rows, kv_heads, capacity, width = self.cache.shape
        heads = self.weights.heads
        batch, group = rows * kv_heads, heads // kv_heads
        new = self.cache.new_empty
        keys, values = self.cache.unbind(1)
        self.layer_keys, self.layer_values = keys.flatten(1, 2).transpose(2, 3).unbind(), values.flatten(1, 2).unbind()
        self.key_columns, self.value_columns = _complex(keys), values
        self.new = new(rows, (heads + 2 * kv_heads) * width)
        self.product = self.new if self.weights.dtype == self.new.dtype else torch.empty_like(self.new, dtype=self.weights.dtype)
        query, key, self.new_value = self.new.view(rows, -1, width).split([heads, kv_heads, kv_heads], dim=1)
        self.new_query, self.new_key = _complex(query), _complex(key)
        self.query = new(batch, group, width)
        self.turned_query = _complex(self.query.view(rows, heads, width))
        self.scores, self.attention = new(batch, group, capacity), new(batch, group, capacity)
        if self.padding is not None:
            self.prompt_scores = self.scores.view(rows, heads, capacity)[..., : self.padding.shape[-1]]
        self.mixed = new(batch, group, width)
        self.mixed_heads = self.mixed.view(rows, -1)
        self.gate_up = torch.empty(
            rows, self.weights.blocks[0].gate_up.shape[1], dtype=self.weights.dtype, device=self.cache.device
        )
        self.gate, self.up = self.gate_up.chunk(2, dim=-1)


def _complex(states: Tensor) -> Tensor:
    """Neighbours as real and imaginary part: shape (..., width) to (..., width / 2), the same memory."""
    return torch.view_as_complex(states.unflatten(-1, (-1, 2)))
