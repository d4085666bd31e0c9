"""Sampling answers inside the trainer's process.

Each prompt is read once for its n samples, the cache is allocated once, and rows that have ended leave the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_symbolic.rollouts.decoders import Decoder, TransformersDecoder
from lit_symbolic.rollouts.llama import LlamaDecoder

OnFinished = Callable[[list[int], list[list[int]]], None]


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How answers are drawn.

    Args:
        max_new_tokens: Longest answer in tokens, its end-of-sequence token included.
        temperature: Divides the logits, and so the log-probs; 0 takes the likeliest token each time.

    Raises:
        ValueError: If a value is out of its range.
    """

    max_new_tokens: int
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative (0 is greedy), got {self.temperature}")


@dataclass(frozen=True, slots=True)
class Generation:
    """Sampled answers, one row per (prompt, sample), prompts outermost.

    Attributes:
        ids: Answer ids, right-padded, end-of-sequence token included, long, shape (rows, longest answer).
        lengths: Tokens of each answer, long, shape (rows,).
        logprobs: Log-prob of each id under the sampling distribution, 0 at padding, float32, shape of ``ids``.
        ended: Whether the answer ended by itself, bool, shape (rows,); False where ``max_new_tokens`` cut it off.
    """

    ids: Tensor
    lengths: Tensor
    logprobs: Tensor
    ended: Tensor


class RolloutEngine(ABC):
    """Anything that samples answers from a model."""

    @abstractmethod
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
        """Sample ``samples`` answers to each prompt.

        Args:
            model: A causal LM; its training mode is restored afterwards.
            prompts: Prompt ids without padding.
            samples: Answers per prompt.
            settings: How answers are drawn.
            eos_ids: Ids that end an answer.
            pad_id: Id put after the end; it may equal an end-of-sequence id, since lengths are kept apart.
            generator: Source of all randomness, on the CPU.
            on_finished: Called with rows that have ended and their ids, while others are still being sampled; every
                row comes once.

        Returns:
            The answers, in order.
        """


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
        if not prompts or samples < 1:
            raise ValueError(f"nothing to sample: {len(prompts)} prompts, {samples} samples each")
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise ValueError(
                    f"prompt {index} is empty: a prompt needs at least one token, the begin-of-sequence token for instance"
                )
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


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Stack prompts that end at the same column.

    Returns:
        Ids, long, shape (prompts, longest), and a mask, True at real tokens, or None where nothing is padded.

    Example:
        >>> ids, mask = left_padded([[5], [6, 7]], pad_id=0, device=torch.device("cpu"))
        >>> ids.tolist(), mask.tolist()
        ([[0, 5], [6, 7]], [[False, True], [True, True]])
    """
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad_id] * (longest - len(p)) + list(p) for p in prompts], device=device)
    if min(map(len, prompts)) == longest:
        return ids, None
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    return ids, torch.arange(longest, device=device)[None] >= longest - lengths[:, None]


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
