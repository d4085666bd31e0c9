"""Sampling answers inside the trainer's process.

Each prompt is read once for its n samples, the cache is allocated once, and rows that have ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_symbolic.rollouts.decoders import Decoder, TransformersDecoder
from lit_symbolic.rollouts.engine import (
    Generation,
    OnFinished,
    RolloutEngine,
    SamplingSettings,
    left_padded,
    require_prompts,
)
from lit_symbolic.rollouts.llama import LlamaDecoder


class NativeEngine(RolloutEngine):
    """The in-process engine.

    Args:
        max_rows: Rows sampled at a time; more are sampled in turns. Bounds the memory of the key-value cache.
        compact_share: Ended rows leave the batch once they are at least this share of it; leaving copies the cache.
        fused: Use :class:`LlamaDecoder` where it applies; off, the model's own forward pass is always used.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(self, max_rows: int = 256, compact_share: float = 0.125, fused: bool = True) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, got {max_rows}")
        if not 0 < compact_share <= 1:
            raise ValueError(f"compact_share lies in (0, 1], got {compact_share}")
        self.max_rows = max_rows
        self.compact_share = compact_share
        self.fused = fused

    def generate(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        samples: int,
        settings: SamplingSettings,
        eos_ids: Sequence[int],
        pad_id: int,
        generator: torch.Generator,
        on_finished: OnFinished | None = None,
    ) -> Generation:
        """See :meth:`RolloutEngine.generate`."""
        require_prompts(prompts, samples)
        # Random numbers are drawn for all rows and steps at once: an answer depends neither on when other rows end
        # nor on max_rows.
        randoms = torch.rand(len(prompts) * samples, settings.max_new_tokens, generator=generator)
        per_turn = max(1, self.max_rows // samples)
        was_training = model.training
        model.eval()
        try:
            # Inference tensors could not be used in a loss later, hence no_grad.
            with torch.inference_mode(False), torch.no_grad():
                decoder: Decoder
                decoder = LlamaDecoder(model) if self.fused and LlamaDecoder.supports(model) else TransformersDecoder(model)
                turns = []
                for first in range(0, len(prompts), per_turn):
                    rows = slice(first * samples, (first + per_turn) * samples)
                    turn = _Turn(
                        decoder, model.device, settings, eos_ids, pad_id, on_finished, first * samples, self.compact_share
                    )
                    turns.append(turn.run(prompts[first : first + per_turn], samples, randoms[rows]))
                return _joined(turns, pad_id)
        finally:
            model.train(was_training)


@dataclass(slots=True)
class _Turn:
    """One batch from prefill to the last token."""

    decoder: Decoder
    device: torch.device
    settings: SamplingSettings
    eos_ids: Sequence[int]
    pad_id: int
    on_finished: OnFinished | None
    first_row: int
    compact_share: float

    def run(self, prompts: Sequence[Sequence[int]], samples: int, randoms: Tensor) -> Generation:
        ids, mask = left_padded(prompts, self.pad_id, self.device)
        steps, rows = self.settings.max_new_tokens, len(prompts) * samples
        randoms = randoms.to(self.device)
        eos = torch.tensor(list(self.eos_ids), device=self.device)
        out_ids = ids.new_full((rows, steps), self.pad_id)
        out_logprobs = randoms.new_zeros((rows, steps))
        lengths = ids.new_full((rows,), steps)
        ended = torch.zeros(rows, dtype=torch.bool, device=self.device)
        live = torch.arange(rows, device=self.device)
        over = torch.zeros(rows, dtype=torch.bool, device=self.device)  # of the live rows, in their order
        logits = self.decoder.prefill(ids, mask, samples, steps - 1).repeat_interleave(samples, dim=0)
        for step in range(steps):
            tokens, logprobs = draw(logits, randoms[live, step], self.settings.temperature)
            if over.any():
                tokens, logprobs = tokens.masked_fill(over, self.pad_id), logprobs.masked_fill(over, 0.0)
            out_ids[live, step] = tokens
            out_logprobs[live, step] = logprobs
            ending = torch.isin(tokens, eos) & ~over
            if ending.any():
                over = over | ending
                rows_ending = live[ending]
                lengths[rows_ending] = step + 1
                ended[rows_ending] = True
                self._report(rows_ending, out_ids[rows_ending, : step + 1])
                count = int(over.sum())
                if count == len(live):
                    steps = step + 1
                    break
                if count >= self.compact_share * len(live):
                    kept = (~over).nonzero().squeeze(1)
                    self.decoder.keep(kept)
                    live, tokens, over = live[kept], tokens[kept], over[kept]
            if step + 1 < steps:
                logits = self.decoder.step(tokens)
        cut = live[~over]
        if len(cut):
            self._report(cut, out_ids[cut])
        return Generation(ids=out_ids[:, :steps], lengths=lengths, logprobs=out_logprobs[:, :steps], ended=ended)

    def _report(self, rows: Tensor, ids: Tensor) -> None:
        if self.on_finished is not None:
            self.on_finished([self.first_row + row for row in rows.tolist()], ids.tolist())


def draw(logits: Tensor, randoms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverting the cumulative distribution.

    One random number a row, instead of one per row and word, keeps rows independent of each other.

    Args:
        logits: Float, shape (rows, vocabulary).
        randoms: Uniform in [0, 1), shape (rows,).
        temperature: Divides the logits; 0 takes the likeliest token, with log-probs at temperature 1.

    Returns:
        Tokens, long, shape (rows,), and their log-probs, float32, shape (rows,).

    Example:
        >>> tokens, logprobs = draw(torch.tensor([[0.0, 0.0]]).log_softmax(-1), torch.tensor([0.75]), 1.0)
        >>> tokens.tolist(), round(logprobs.exp().item(), 2)
        ([1], 0.5)
    """
    probabilities = (logits / temperature if temperature not in (0.0, 1.0) else logits).softmax(dim=-1, dtype=torch.float32)
    if temperature == 0.0:
        tokens = logits.argmax(dim=-1, keepdim=True)
    else:
        cumulative = probabilities.cumsum(dim=-1)
        total = cumulative[:, -1:]
        # Strictly below the total, so that a word without probability at the end is never reached by rounding.
        target = torch.minimum(randoms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
        tokens = torch.searchsorted(cumulative, target, right=True)
    return tokens.squeeze(1), probabilities.gather(1, tokens).log_().squeeze(1)


def _joined(turns: Sequence[Generation], pad_id: int) -> Generation:
    longest = max(turn.ids.shape[1] for turn in turns)
    return Generation(
        ids=torch.cat([_padded(turn.ids, longest, pad_id) for turn in turns]),
        lengths=torch.cat([turn.lengths for turn in turns]),
        logprobs=torch.cat([_padded(turn.logprobs, longest, 0.0) for turn in turns]),
        ended=torch.cat([turn.ended for turn in turns]),
    )


def _padded(values: Tensor, length: int, value: float) -> Tensor:
    return torch.nn.functional.pad(values, (0, length - values.shape[1]), value=value)
