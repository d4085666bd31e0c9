"""A causal language model with its key-value cache, one token at a time: what the engine drives.

:class:`TransformersDecoder` runs any Hugging Face causal LM. :class:`lit_symbolic.rollouts.llama.LlamaDecoder` does the
same work for a plain Llama with fewer and larger operations.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer


class Decoder(Protocol):
    """A model that reads prompts once and is then fed one token a row."""

    def prefill(self, ids: Tensor, mask: Tensor | None, repeats: int, max_new_tokens: int) -> Tensor:
        """Read the prompts and make room for ``max_new_tokens`` more.

        Args:
            ids: Left-padded prompt ids, long, shape (prompts, prompt length).
            mask: True at real tokens, bool, the same shape; None if nothing is padded.
            repeats: Rows per prompt; the prompt is read once for all of them.
            max_new_tokens: Calls of :meth:`step` that will follow, at most.

        Returns:
            Logits of the first new token, shape (prompts, vocabulary): one row per prompt, not yet repeated.
        """
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Feed one token per live row, shape (rows,), and return the next logits, shape (rows, vocabulary)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Let only these live rows stay; ``rows`` are indices, long, shape (kept,)."""
        ...


class StaticSlotLayer(DynamicLayer):
    """One layer's cache, allocated once at its full length and written in place.

    Unlike a growing cache it is never copied to add a token; unlike transformers' static cache it hands out only the
    columns written so far, so that attention does no work on empty ones.
    """

    is_croppable = False
    keys: Tensor
    values: Tensor

    def __init__(self, max_length: int, repeats: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.repeats = repeats
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate keys and values, shape (rows, heads, max_length, head width)."""
        self.dtype, self.device = key_states.dtype, key_states.device
        prompts, heads, _, width = key_states.shape
        self.keys = key_states.new_empty(prompts * self.repeats, heads, self.max_length, width)
        self.values = value_states.new_empty(prompts * self.repeats, heads, self.max_length, value_states.shape[-1])
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new columns and return all columns so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            first, self.length = 0, key_states.shape[-2]
            self.keys[:, :, : self.length] = key_states.repeat_interleave(self.repeats, dim=0)
            self.values[:, :, : self.length] = value_states.repeat_interleave(self.repeats, dim=0)
            return key_states, value_states
        first, self.length = self.length, self.length + key_states.shape[-2]
        self.keys[:, :, first : self.length] = key_states
        self.values[:, :, first : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        """Columns written so far."""
        return self.length

    def keep(self, rows: Tensor) -> None:
        """Let only these rows stay."""
        self.keys = self.keys.index_select(0, rows)
        self.values = self.values.index_select(0, rows)


class TransformersDecoder:
    """Any Hugging Face causal LM behind :class:`Decoder`, on its own forward pass and attention masks."""

    layer_type: type[StaticSlotLayer] = StaticSlotLayer

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    def prefill(self, ids: Tensor, mask: Tensor | None, repeats: int, max_new_tokens: int) -> Tensor:
        """See :meth:`Decoder.prefill`."""
        config = self.model.config.get_text_config(decoder=True)
        length = ids.shape[1] + max_new_tokens
        self.layers = [self.layer_type(length, repeats) for _ in range(config.num_hidden_layers)]
        self.cache = Cache(layers=list(self.layers))
        self.mask = None if mask is None else torch.nn.functional.pad(mask, (0, max_new_tokens), value=True)
        self.positions = ids.new_full((ids.shape[0],), ids.shape[1])
        arguments: dict[str, Any] = {}
        if mask is not None:
            positions = mask.long().cumsum(1) - 1
            self.positions = positions[:, -1] + 1
            arguments = {"attention_mask": mask, "position_ids": positions.clamp(min=0)}
        logits = self._forward(ids, arguments)
        self.positions = self.positions.repeat_interleave(repeats)
        if self.mask is not None:
            self.mask = self.mask.repeat_interleave(repeats, dim=0)
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """See :meth:`Decoder.step`."""
        arguments: dict[str, Any] = {"position_ids": self.positions[:, None]}
        if self.mask is not None:
            arguments["attention_mask"] = self.mask[:, : self.layers[0].length + 1]
        self.positions = self.positions + 1
        return self._forward(tokens[:, None], arguments)

    def keep(self, rows: Tensor) -> None:
        """See :meth:`Decoder.keep`."""
        for layer in self.layers:
            layer.keep(rows)
        self.positions = self.positions[rows]
        if self.mask is not None:
            self.mask = self.mask[rows]

    def _forward(self, ids: Tensor, arguments: dict[str, Any]) -> Tensor:
        out = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1, **arguments)
        return out.logits[:, -1].float()
