"""Decoding for a plain Llama with few, large operations.

On a small model the price of a decode step is the number of operations and the memory they touch, not their arithmetic.
Against the generic forward pass this one multiplies query, key and value weights at once, gate and up at once, folds the
norms' gains and attention's scale into the weights, rotates by one complex product, and attends by two batched matrix
products. The result is the same to rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedModel

LEAST_GROWTH = 64


class _Block(NamedTuple):
    """Weights of one layer as matrices to multiply with from the right."""

    query_key_value: Tensor
    output: Tensor
    gate_up: Tensor
    down: Tensor


class LlamaDecoder:
    """A plain ``LlamaForCausalLM`` behind :class:`lit_symbolic.rollouts.decoders.Decoder`.

    The weights are read when it is made: make one per sampling call, after the last weight update. It holds a second copy
    of the head and of most weights of each layer (about three quarters of them), in float32.

    Args:
        model: A model for which :meth:`supports` is true.
    """

    @staticmethod
    def supports(model: PreTrainedModel) -> bool:
        """Whether ``model`` is a float32 Llama of plain linear layers without biases, with the default rotary embedding."""
        if type(model) is not LlamaForCausalLM or torch.is_autocast_enabled(model.device.type):
            return False
        config = model.config
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        attention = model.model.layers[0].self_attn
        return (
            # An adapter adds layers, a quantized layer is of another type.
            len(linear) == 7 * config.num_hidden_layers + 1
            and all(type(module) is nn.Linear and module.bias is None for module in linear)
            and model.dtype == torch.float32
            and config.hidden_act == "silu"
            and config.rope_parameters["rope_type"] == "default"
            and 2 * model.model.rotary_emb.inv_freq.numel() == attention.head_dim
        )

    def __init__(self, model: LlamaForCausalLM) -> None:
        config, trunk = model.config, model.model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = trunk.layers[0].self_attn.head_dim
        self.eps = config.rms_norm_eps
        self.embedding = trunk.embed_tokens.weight
        self.head = (model.lm_head.weight * trunk.norm.weight).t()
        self.frequencies = trunk.rotary_emb.inv_freq.float()
        self.blocks = []
        for layer in trunk.layers:
            attention, mlp = layer.self_attn, layer.mlp
            # Llama rotates (i, i + width/2); complex numbers want the two beside each other. Queries and keys are
            # permuted alike, which leaves their products as they are.
            query_key = torch.cat([attention.q_proj.weight * attention.scaling, attention.k_proj.weight])
            query_key = query_key.view(-1, 2, self.width // 2, query_key.shape[1]).transpose(1, 2).flatten(0, 2)
            query_key_value = torch.cat([query_key, attention.v_proj.weight]) * layer.input_layernorm.weight
            gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * layer.post_attention_layernorm.weight
            self.blocks.append(_Block(query_key_value.t(), attention.o_proj.weight.t(), gate_up.t(), mlp.down_proj.weight.t()))

    def prefill(self, ids: Tensor, mask: Tensor | None, repeats: int, max_new_tokens: int) -> Tensor:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.prefill`."""
        prompts, length = ids.shape
        self.length, self.longest = length, length + max_new_tokens
        self.capacity = min(self.longest, length + LEAST_GROWTH)
        angles = torch.arange(self.longest, device=ids.device)[:, None].float() * self.frequencies
        self.rotations = torch.polar(torch.ones_like(angles), angles)
        self.positions: Tensor | None = None
        self.padding: Tensor | None = None
        attend = None
        rotation = self.rotations[:length, None]
        if mask is not None:
            positions = (mask.long().cumsum(1) - 1).clamp(min=0)
            rotation = self.rotations[positions][:, :, None]
            self.positions = (positions[:, -1] + 1).repeat_interleave(repeats)
            self.padding = ~mask.repeat_interleave(repeats, dim=0)[:, None]
            causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
            # A padded query sees itself: a row of -inf would be NaN.
            attend = (causal & mask[:, None, :] | torch.eye(length, dtype=torch.bool, device=ids.device))[:, None]
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        x = F.embedding(ids, self.embedding).flatten(0, 1)
        for block in self.blocks:
            query, key, value = self._project(x, block, (prompts, length))
            query, key, value = (states.transpose(1, 2) for states in (_rotated(query, rotation), _rotated(key, rotation), value))
            self.keys.append(self._cache(key, repeats))
            self.values.append(self._cache(value, repeats))
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=attend, is_causal=attend is None, scale=1.0, enable_gqa=self.kv_heads != self.heads
            )
            x = self._rest(x, mixed.transpose(1, 2).reshape(len(x), -1), block)
        return self._logits(x.view(prompts, length, -1)[:, -1])

    def step(self, tokens: Tensor) -> Tensor:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.step`."""
        rows, at = tokens.shape[0], self.length
        if at == self.capacity:
            self._grow()
        self.length += 1
        rotation = self.rotations[at]
        if self.positions is not None:
            rotation = self.rotations[self.positions][:, None]
            self.positions = self.positions + 1
        x = F.embedding(tokens, self.embedding)
        for block, keys, values in zip(self.blocks, self.keys, self.values, strict=True):
            query, key, value = self._project(x, block, (rows,))
            keys[:, :, at] = _rotated(key, rotation)
            values[:, :, at] = value
            # The cache is read at its full width, empty columns too: reading around gaps costs more than it saves.
            query = _rotated(query, rotation).view(rows * self.kv_heads, -1, self.width)
            scores = torch.bmm(query, keys.flatten(0, 1).transpose(1, 2))
            scores[..., self.length :] = -torch.inf
            if self.padding is not None:
                scores.view(rows, self.heads, -1)[..., : self.padding.shape[-1]].masked_fill_(self.padding, -torch.inf)
            mixed = torch.bmm(scores.softmax(dim=-1), values.flatten(0, 1))
            x = self._rest(x, mixed.view(rows, -1), block)
        return self._logits(x)

    def keep(self, rows: Tensor) -> None:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.keep`."""
        for caches in (self.keys, self.values):
            for index, cache in enumerate(caches):
                caches[index] = cache.index_select(0, rows)
        if self.positions is not None:
            self.positions = self.positions[rows]
        if self.padding is not None:
            self.padding = self.padding[rows]

    def _cache(self, states: Tensor, repeats: int) -> Tensor:
        """Room for a layer's keys or values, the prompts' ``states`` (prompts, heads, length, width) written to each sample.

        Zeros, not empty memory: what is never written has the weight 0, but 0 times NaN is NaN.
        """
        prompts, heads, length, width = states.shape
        cache = states.new_zeros(prompts, repeats, heads, self.capacity, width)
        cache[..., :length, :] = states[:, None]
        return cache.flatten(0, 1)

    def _grow(self) -> None:
        """Widen the caches by half: few copies for a long answer, little to read in vain for a short one."""
        capacity = min(self.longest, self.capacity + max(LEAST_GROWTH, self.capacity // 2))
        for caches in (self.keys, self.values):
            for index, cache in enumerate(caches):
                caches[index] = F.pad(cache, (0, 0, 0, capacity - self.capacity))
        self.capacity = capacity

    def _project(self, x: Tensor, block: _Block, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Queries, keys and values, not yet rotated, each of shape (*shape, its heads, head width)."""
        projected = torch.mm(self._normed(x), block.query_key_value).view(*shape, -1, self.width)
        return projected.split([self.heads, self.kv_heads, self.kv_heads], dim=-2)

    def _rest(self, x: Tensor, mixed: Tensor, block: _Block) -> Tensor:
        """The residual stream after attention's output ``mixed`` and the feed-forward layer, shape as ``x``."""
        x = torch.addmm(x, mixed, block.output)
        gate, up = torch.mm(self._normed(x), block.gate_up).chunk(2, dim=-1)
        return torch.addmm(x, F.silu(gate).mul_(up), block.down)

    def _normed(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps)  # F.rms_norm takes twice as long

    def _logits(self, x: Tensor) -> Tensor:
        return torch.mm(self._normed(x), self.head)


def _rotated(states: Tensor, rotation: Tensor) -> Tensor:
    return torch.view_as_real(torch.view_as_complex(states.unflatten(-1, (-1, 2))) * rotation).flatten(-2)
