"""Decoding for a plain Llama with few, large operations.

On a small model the price of a decode step is the number of operations, not their arithmetic. Against the generic
forward pass this one multiplies query, key and value weights at once, gate and up at once, folds the norms' gains into
the weights that follow, and rotates by one complex product. The result is the same to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM, PreTrainedModel


class LlamaDecoder:
    """A plain ``LlamaForCausalLM`` behind :class:`lit_symbolic.rollouts.decoders.Decoder`.

    The weights are read, not copied back: make one per sampling call, after the last weight update.

    Args:
        model: A model for which :meth:`supports` is true.
    """

    @staticmethod
    def supports(model: PreTrainedModel) -> bool:
        """Whether ``model`` is a float Llama with plain linear layers, default rotary embedding and no biases."""
        if type(model) is not LlamaForCausalLM or torch.is_autocast_enabled(model.device.type):
            return False
        config = model.config
        plain = all(type(m) is nn.Linear and m.bias is None for m in model.modules() if isinstance(m, nn.Linear))
        adapted = any("lora" in name for name, _ in model.named_modules())
        return (
            plain
            and not adapted
            and model.dtype == torch.float32
            and config.hidden_act == "silu"
            and config.rope_parameters["rope_type"] == "default"
            and sum(isinstance(m, nn.Linear) for m in model.modules()) == 7 * config.num_hidden_layers + 1
        )

    def __init__(self, model: LlamaForCausalLM) -> None:
        config = model.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = model.model.layers[0].self_attn.head_dim
        self.eps = config.rms_norm_eps
        self.embedding = model.model.embed_tokens.weight
        self.head = model.lm_head.weight * model.model.norm.weight
        self.frequencies = model.model.rotary_emb.inv_freq.float()
        self.blocks = []
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            query_key = torch.cat([attention.q_proj.weight, attention.k_proj.weight])
            # Llama rotates (i, i + width/2); complex numbers want the two beside each other. Queries and keys are
            # permuted alike, which leaves their products as they are.
            query_key = query_key.view(-1, 2, self.width // 2, query_key.shape[1]).transpose(1, 2).flatten(0, 2)
            self.blocks.append(
                (
                    torch.cat([query_key, attention.v_proj.weight]) * layer.input_layernorm.weight,
                    attention.o_proj.weight.t(),
                    torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * layer.post_attention_layernorm.weight,
                    mlp.down_proj.weight.t(),
                )
            )

    def prefill(self, ids: Tensor, mask: Tensor | None, repeats: int, max_new_tokens: int) -> Tensor:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.prefill`."""
        prompts, length = ids.shape
        rows, capacity = prompts * repeats, length + max_new_tokens
        self.length = length
        shape = (len(self.blocks), rows, self.kv_heads, capacity, self.width)
        self.keys, self.values = self.head.new_empty(shape), self.head.new_empty(shape)
        positions = torch.arange(capacity, device=ids.device)
        angles = positions[:, None].float() * self.frequencies
        self.rotations = torch.polar(torch.ones_like(angles), angles)
        self.mask: Tensor | None = None
        attend = None
        if mask is None:
            rotation = self.rotations[:length].view(1, length, 1, -1)
            self.positions = None
        else:
            row_positions = (mask.long().cumsum(1) - 1).clamp(min=0)
            rotation = self.rotations[row_positions][:, :, None]
            self.positions = (row_positions[:, -1] + 1).repeat_interleave(repeats)
            self.mask = F.pad(mask, (0, max_new_tokens), value=True).repeat_interleave(repeats, dim=0)[:, None, None]
            causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
            # A padded query sees itself: a row of -inf would be NaN.
            attend = (causal & mask[:, None, :] | torch.eye(length, dtype=torch.bool, device=ids.device))[:, None]
        x = F.embedding(ids, self.embedding).flatten(0, 1)
        for index, block in enumerate(self.blocks):
            query, key, value = self._project(x, block[0], rotation, (prompts, length))
            self.keys[index, :, :, :length] = key.transpose(1, 2).repeat_interleave(repeats, dim=0)
            self.values[index, :, :, :length] = value.transpose(1, 2).repeat_interleave(repeats, dim=0)
            mixed = F.scaled_dot_product_attention(
                query.transpose(1, 2),
                key.transpose(1, 2),
                value.transpose(1, 2),
                attn_mask=attend,
                is_causal=attend is None,
                enable_gqa=self.kv_heads != self.heads,
            )
            x = self._mix(x, mixed.transpose(1, 2).reshape(prompts * length, -1), block)
        return self._logits(x.view(prompts, length, -1)[:, -1])

    def step(self, tokens: Tensor) -> Tensor:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.step`."""
        rows, at = tokens.shape[0], self.length
        self.length += 1
        if self.positions is None:
            rotation = self.rotations[at].view(1, 1, 1, -1)
        else:
            rotation = self.rotations[self.positions].view(rows, 1, 1, -1)
            self.positions = self.positions + 1
        attend = None if self.mask is None else self.mask[..., : self.length]
        x = F.embedding(tokens, self.embedding)
        for index, block in enumerate(self.blocks):
            query, key, value = self._project(x, block[0], rotation, (rows, 1))
            keys, values = self.keys[index, :, :, : self.length], self.values[index, :, :, : self.length]
            keys[:, :, at] = key[:, 0]
            values[:, :, at] = value[:, 0]
            mixed = F.scaled_dot_product_attention(
                query.transpose(1, 2), keys, values, attn_mask=attend, enable_gqa=self.kv_heads != self.heads
            )
            x = self._mix(x, mixed.reshape(rows, -1), block)
        return self._logits(x)

    def keep(self, rows: Tensor) -> None:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.keep`."""
        self.keys, self.values = self.keys.index_select(1, rows), self.values.index_select(1, rows)
        if self.positions is not None:
            self.positions = self.positions[rows]
        if self.mask is not None:
            self.mask = self.mask[rows]

    def _project(self, x: Tensor, weight: Tensor, rotation: Tensor, shape: tuple[int, int]) -> tuple[Tensor, ...]:
        """Queries, keys and values, each of shape (*shape, heads, head width), the first two rotated."""
        turned = (self.heads + self.kv_heads) * self.width
        projected = F.linear(self._normed(x), weight)
        query_key = torch.view_as_complex(projected[:, :turned].view(*shape, self.heads + self.kv_heads, -1, 2))
        query_key = torch.view_as_real(query_key * rotation).flatten(-2)
        value = projected[:, turned:].view(*shape, self.kv_heads, self.width)
        return query_key[..., : self.heads, :], query_key[..., self.heads :, :], value

    def _mix(self, x: Tensor, mixed: Tensor, block: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """The residual stream after attention's output ``mixed`` and the feed-forward layer, shape as ``x``."""
        x = torch.addmm(x, mixed, block[1])
        gate, up = F.linear(self._normed(x), block[2]).chunk(2, dim=-1)
        return torch.addmm(x, F.silu(gate).mul_(up), block[3])

    def _normed(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), eps=self.eps)

    def _logits(self, x: Tensor) -> Tensor:
        return F.linear(self._normed(x), self.head)
