"""Decoding for a plain Llama with few, large operations.

On a small model the price of a decode step is the number of operations and the memory they touch, not their arithmetic.
Against the generic forward pass this one multiplies key and value weights at once, gate and up at once, folds the norms' gains
and attention's scale into the weights, attends by two batched matrix products, and writes to buffers that are made once. All
rows of a step stand at the same place, so the rotary embedding turns the weights of query and key, once a step, and not their
results. Scores know only distances, so a place is a column: padding on the left shifts all of a row alike. The result is the
same to rounding.
"""

from __future__ import annotations

from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedModel

LEAST_GROWTH = 64


class _Block(NamedTuple):
    """Weights of one layer as matrices to multiply with from the right, ``query`` and ``key_value`` turned to the step's place."""

    query: Tensor
    key_value: Tensor
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
    def supports(model: PreTrainedModel) -> TypeGuard[LlamaForCausalLM]:
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
            and (config.rope_parameters or {}).get("rope_type") == "default"
            and 2 * model.model.rotary_emb.inv_freq.numel() == attention.head_dim
        )

    @torch.inference_mode()
    def __init__(self, model: LlamaForCausalLM) -> None:
        config, trunk = model.config, model.model
        attention = trunk.layers[0].self_attn
        self.width = attention.head_dim
        self.heads, self.kv_heads = attention.q_proj.out_features // self.width, attention.k_proj.out_features // self.width
        self.embedding = trunk.embed_tokens.weight
        self.frequencies = trunk.rotary_emb.inv_freq.float()
        # x / sqrt(mean(x^2) + eps) is sqrt(n) * x / sqrt(|x|^2 + n eps): the factor goes into the weights.
        factor = config.hidden_size**0.5
        self.least_norm = self.embedding.new_tensor(factor * config.rms_norm_eps**0.5)
        self.head = (model.lm_head.weight * trunk.norm.weight * factor).t()
        hidden, layers = config.hidden_size, len(trunk.layers)
        self.query_weights = self.embedding.new_empty(layers, hidden, self.heads * self.width)
        self.key_value_weights = self.embedding.new_empty(layers, hidden, 2 * self.kv_heads * self.width)
        # Turned to the place of a step; the values' half stays as it is.
        turned_query, turned_key_value = torch.empty_like(self.query_weights), torch.empty_like(self.key_value_weights)
        self.blocks = []
        for index, layer in enumerate(trunk.layers):
            attention, mlp, gain = layer.self_attn, layer.mlp, layer.input_layernorm.weight * factor
            query, key = (self._paired(projection.weight) for projection in (attention.q_proj, attention.k_proj))
            self.query_weights[index] = (query * attention.scaling * gain).t()
            self.key_value_weights[index] = turned_key_value[index] = (torch.cat([key, attention.v_proj.weight]) * gain).t()
            gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * layer.post_attention_layernorm.weight * factor
            matrices = attention.o_proj.weight.t(), gate_up.t(), mlp.down_proj.weight.t()
            self.blocks.append(_Block(turned_query[index], turned_key_value[index], *matrices))
        keys = slice(0, self.kv_heads * self.width)
        self.unturned = self._heads(self.query_weights), self._heads(self.key_value_weights[..., keys])
        self.turned = self._heads(turned_query), self._heads(turned_key_value[..., keys])

    @torch.inference_mode()
    def prefill(self, ids: Tensor, mask: Tensor | None, repeats: int, max_new_tokens: int) -> Tensor:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.prefill`."""
        prompts, length = ids.shape
        self.length, self.longest = length, length + max_new_tokens
        capacity = min(self.longest, length + LEAST_GROWTH)
        # Values that are not written yet have the weight 0, but 0 times NaN is NaN: no empty memory.
        self.cache = self.head.new_zeros(len(self.blocks), 2, prompts * repeats, self.kv_heads, capacity, self.width)
        angles = torch.arange(self.longest, device=ids.device)[:, None].float() * self.frequencies
        self.rotations = torch.polar(torch.ones_like(angles), angles)
        self.padding: Tensor | None = None
        attend = None
        if mask is not None:
            self.padding = ~mask.repeat_interleave(repeats, dim=0)[:, None]
            causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
            # A padded query sees itself: a row of -inf would be NaN.
            attend = (causal & mask[:, None, :] | torch.eye(length, dtype=torch.bool, device=ids.device))[:, None]
        x = F.embedding(ids, self.embedding).flatten(0, 1)
        for index, block in enumerate(self.blocks):
            normed = self._normed(x)
            query = torch.mm(normed, self.query_weights[index]).view(prompts, length, self.heads, self.width)
            key_value = torch.mm(normed, self.key_value_weights[index]).view(prompts, length, 2, self.kv_heads, self.width)
            key, value = key_value.unbind(2)
            query, key = (torch.view_as_real(_complex(part) * self.rotations[:length, None]).flatten(-2) for part in (query, key))
            query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
            for cached, new in zip(self.cache[index], (key, value), strict=True):
                cached[:, :, :length].unflatten(0, (prompts, repeats)).copy_(new[:, None])
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=attend, is_causal=attend is None, scale=1.0, enable_gqa=self.kv_heads != self.heads
            )
            x.addmm_(mixed.transpose(1, 2).reshape(len(x), -1), block.output)
            gate, up = torch.mm(self._normed(x), block.gate_up).chunk(2, dim=-1)
            x.addmm_(F.silu(gate).mul_(up), block.down)
        self._lay_out()
        return torch.mm(self._normed(x.view(prompts, length, -1)[:, -1]), self.head)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.step`."""
        at = self.length
        if at == self.cache.shape[4]:
            self._grow()
        self.length += 1
        for unturned, turned in zip(self.unturned, self.turned, strict=True):
            torch.mul(unturned, self.rotations[at], out=turned)
        news = self.cache[..., at, :].transpose(1, 2).unbind()
        # Attention runs over the whole width of the cache: reading around gaps costs more than it saves.
        unwritten = self.scores[..., self.length :]
        x = F.embedding(tokens, self.embedding)
        for block, keys, values, new in zip(self.blocks, self.layer_keys, self.layer_values, news, strict=True):
            normed = self._normed(x)
            torch.mm(normed, block.query, out=self.query_rows)
            torch.mm(normed, block.key_value, out=self.key_value_rows)
            new.copy_(self.key_value)
            torch.bmm(self.query, keys, out=self.scores)
            unwritten.fill_(-torch.inf)
            if self.padding is not None:
                self.prompt_scores.masked_fill_(self.padding, -torch.inf)
            torch.softmax(self.scores, dim=-1, out=self.weights)
            torch.bmm(self.weights, values, out=self.mixed)
            x.addmm_(self.mixed_heads, block.output)
            torch.mm(self._normed(x), block.gate_up, out=self.gate_up)
            x.addmm_(F.silu(self.gate, inplace=True).mul_(self.up), block.down)
        return torch.mm(self._normed(x), self.head)

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
        _, _, rows, _, capacity, _ = self.cache.shape
        batch, group = rows * self.kv_heads, self.heads // self.kv_heads
        new = self.cache.new_empty
        keys, values = self.cache.flatten(2, 3).unbind(1)
        self.layer_keys, self.layer_values = keys.transpose(2, 3).unbind(), values.unbind()
        self.query = new(batch, group, self.width)
        self.query_rows = self.query.view(rows, -1)
        self.key_value = new(rows, 2, self.kv_heads, self.width)
        self.key_value_rows = self.key_value.view(rows, -1)
        self.scores, self.weights = new(batch, group, capacity), new(batch, group, capacity)
        if self.padding is not None:
            self.prompt_scores = self.scores.view(rows, self.heads, capacity)[..., : self.padding.shape[-1]]
        self.mixed = new(batch, group, self.width)
        self.mixed_heads = self.mixed.view(rows, -1)
        self.gate_up = new(rows, self.blocks[0].gate_up.shape[1])
        self.gate, self.up = self.gate_up.chunk(2, dim=-1)

    def _paired(self, weight: Tensor) -> Tensor:
        """Rows of each head reordered from (i, i + width/2), which Llama rotates, to neighbours, as complex numbers want them.

        Queries and keys are reordered alike, which leaves their products as they are.
        """
        return weight.view(-1, 2, self.width // 2, weight.shape[1]).transpose(1, 2).flatten(0, 2)

    def _heads(self, weights: Tensor) -> Tensor:
        """The complex numbers of each head: shape (layers, hidden, heads * width) to (layers, hidden, heads, width / 2)."""
        return _complex(weights.unflatten(-1, (-1, self.width)))

    def _normed(self, x: Tensor) -> Tensor:
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.least_norm)


def _complex(states: Tensor) -> Tensor:
    """Neighbours as real and imaginary part: shape (..., width) to (..., width / 2), the same memory."""
    return torch.view_as_complex(states.unflatten(-1, (-1, 2)))
