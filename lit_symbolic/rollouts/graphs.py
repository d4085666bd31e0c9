"""A decode step as a CUDA graph: one launch instead of some dozen for each layer, which is what a step waits for on a GPU.

Everything a step reads or writes keeps its address and its shape: the cache has its full length, the column to write to and
the mask are tensors, and rows that leave are made up to a power of two. Written without a GPU at hand: tests run all of this
on the CPU with :func:`capture` replaced; the capture itself was not run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_symbolic.rollouts.decoders import StaticSlotLayer, TransformersDecoder

LEAST_ROWS = 8
WARM_UP_RUNS = 2


class GraphLayer(StaticSlotLayer):
    """One layer's cache whose steps write at a column held in a tensor, and hand out all columns, written or not."""

    column: Tensor | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate keys and values; zeros, since the weight of an unwritten column is 0, and 0 times NaN is NaN."""
        super().lazy_initialization(key_states, value_states)
        self.keys.zero_()
        self.values.zero_()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The prompts first; then one column a step."""
        if self.column is None:
            return super().update(key_states, value_states, *args, **kwargs)
        self.keys.index_copy_(2, self.column, key_states)
        self.values.index_copy_(2, self.column, value_states)
        return self.keys, self.values


class GraphDecoder(TransformersDecoder):
    """A Hugging Face causal LM behind :class:`lit_symbolic.rollouts.decoders.Decoder`, its steps replayed from a graph."""

    layer_type = GraphLayer

    @staticmethod
    def supports(model: PreTrainedModel) -> bool:
        """Whether every layer sees all columns, through an attention that takes a mask for each row and column."""
        config = model.config.get_text_config(decoder=True)
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        windowed = getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
        return kinds == {"full_attention"} and not windowed and config._attn_implementation in ("sdpa", "eager")

    def prefill(self, ids: Tensor, mask: Tensor | None, repeats: int, max_new_tokens: int) -> Tensor:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.prefill`."""
        logits = super().prefill(ids, mask, repeats, max_new_tokens)
        rows, length = len(self.positions), ids.shape[1]
        self.replay: Callable[[], None] | None = None
        self.rows = rows
        self.tokens = ids.new_zeros(rows)
        self.column = ids.new_full((1,), length)
        self.seen = torch.zeros(rows, length + max_new_tokens, dtype=torch.bool, device=ids.device)
        self.seen[:, :length] = True if self.mask is None else self.mask[:, :length]
        for layer in self.layers:
            layer.column = self.column  # type: ignore[attr-defined]
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.step`."""
        self.tokens[: self.rows].copy_(tokens)
        if self.replay is None:
            self.replay = capture(self._run)
        self.replay()
        # Outside the graph: a capture runs a step several times, which must leave things as one run does.
        self.column.add_(1)
        self.positions.add_(1)
        return self.logits[: self.rows].clone()

    def keep(self, rows: Tensor) -> None:
        """See :meth:`lit_symbolic.rollouts.decoders.Decoder.keep`; the first row fills up what is missing."""
        self.rows = len(rows)
        size = min(len(self.tokens), max(LEAST_ROWS, 1 << (self.rows - 1).bit_length()))
        rows = torch.cat([rows, rows[:1].expand(size - self.rows)])
        same = size == len(self.tokens)
        if not same:
            self.replay = None

        def kept(values: Tensor) -> Tensor:
            chosen = values.index_select(0, rows)
            return values.copy_(chosen) if same else chosen

        self.tokens, self.positions, self.seen = kept(self.tokens), kept(self.positions), kept(self.seen)
        for layer in self.layers:
            layer.keys, layer.values = kept(layer.keys), kept(layer.values)

    def _run(self) -> None:
        """One step from the tensors that stay, into ``logits``."""
        self.seen.index_fill_(1, self.column, True)
        seen: Tensor = self.seen[:, None, None]
        config = self.model.config.get_text_config(decoder=True)
        if config._attn_implementation == "eager":  # adds its mask to the scores
            dtype = self.layers[0].keys.dtype
            seen = torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)
        device = self.tokens.device.type
        # Weights that autocast keeps converted outside a graph are gone when it is replayed.
        with torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False):
            self.logits = self._forward(self.tokens[:, None], {"position_ids": self.positions[:, None], "attention_mask": seen})


def capture(run: Callable[[], None]) -> Callable[[], None]:
    """Record ``run`` as a CUDA graph.

    Args:
        run: Works on tensors that keep their addresses; it is run three times more than it is replayed.

    Returns:
        What replays it.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_RUNS):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
