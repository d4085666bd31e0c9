"""One batch of rows from prefill to the last token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_symbolic.rollouts.decoders import Decoder
from lit_symbolic.rollouts.engine import Generation, SamplingSettings, left_padded

Report = Callable[[Sequence[int], list[list[int]]], None]


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws the answers of one batch.

    Which rows have ended is looked at every ``check_every`` steps. With 1 it is looked at as it happens. With more, what
    is looked at was copied to the host at the look before: it is there by now, and nobody waits for the device. Answers
    are the same, since what is written behind an end is taken back.

    Attributes:
        decoder: The model.
        device: Where it computes.
        settings: How tokens are drawn.
        eos_ids: Ids that end an answer.
        pad_id: Id put behind the end.
        compact_share: Ended rows leave once they are this share of the batch.
        check_every: Steps between two looks at which rows have ended.
    """

    decoder: Decoder
    device: torch.device
    settings: SamplingSettings
    eos_ids: Sequence[int]
    pad_id: int
    compact_share: float
    check_every: int

    def run(self, prompts: Sequence[Sequence[int]], samples: int, randoms: Tensor, report: Report) -> Generation:
        """Sample.

        Args:
            prompts: Prompt ids.
            samples: Answers per prompt.
            randoms: Uniform in [0, 1), shape (rows, max_new_tokens).
            report: Called with rows of this batch that have ended, and their ids; every row comes once.

        Returns:
            The answers.
        """
        prompt_ids, mask = left_padded(prompts, self.pad_id, self.device)
        steps, rows = self.settings.max_new_tokens, len(prompts) * samples
        columns = randoms.t().contiguous().to(self.device)
        eos = torch.tensor(list(self.eos_ids), dtype=torch.long, device=self.device)
        ids = prompt_ids.new_full((rows, steps), self.pad_id)
        logprobs = columns.new_zeros((rows, steps))
        live = torch.arange(rows, device=self.device)
        over = torch.zeros(rows, dtype=torch.bool, device=self.device)  # of the live rows, in their order
        places = list(range(rows))  # the live rows once more, for the host
        unreported = set(places)
        look: _Look | None = None
        logits = self.decoder.prefill(prompt_ids, mask, samples, steps - 1).repeat_interleave(samples, dim=0)
        for step in range(steps):
            column = columns[step] if len(places) == rows else columns[step].index_select(0, live)
            tokens, chosen = draw(logits, column, self.settings.temperature)
            ids[live, step], logprobs[live, step] = tokens, chosen
            over = over | torch.isin(tokens, eos)
            if step + 1 == steps:
                break
            if (step + 1) % self.check_every == 0:
                previous, look = look, _Look(over, ids[:, : step + 1], to_host=self.check_every > 1)
                if self.check_every == 1:
                    previous = look
                flags = previous.flags() if previous is not None else []
                ending = [row for row, flag in zip(places, flags, strict=False) if flag and row in unreported]
                if ending and previous is not None:
                    unreported.difference_update(ending)
                    report(ending, self._until_end(previous.ids[ending].tolist()))
                kept = [k for k, flag in enumerate(flags) if not flag]
                if flags and not kept:
                    break
                if flags and len(flags) - len(kept) >= self.compact_share * len(flags):
                    staying = torch.tensor(kept).to(self.device, non_blocking=True)
                    self.decoder.keep(staying)
                    live, tokens, over, places = live[staying], tokens[staying], over[staying], [places[k] for k in kept]
                    look = None if self.check_every == 1 else _Look(over, ids[:, : step + 1], to_host=True)
            logits = self.decoder.step(tokens)
        return self._finished(ids, logprobs, eos, sorted(unreported), report)

    def _finished(self, ids: Tensor, logprobs: Tensor, eos: Tensor, unreported: list[int], report: Report) -> Generation:
        """Take back what stands behind an end, and report the rows that nobody has looked at since they ended."""
        ends = torch.isin(ids, eos)
        ended = ends.any(dim=1)
        lengths = torch.where(ended, ends.int().argmax(dim=1) + 1, ids.shape[1])
        behind = torch.arange(ids.shape[1], device=self.device) >= lengths[:, None]
        ids, logprobs = ids.masked_fill_(behind, self.pad_id), logprobs.masked_fill_(behind, 0.0)
        if unreported:
            report(unreported, self._until_end(ids[unreported].tolist()))
        longest = int(lengths.max())
        return Generation(ids=ids[:, :longest], lengths=lengths, logprobs=logprobs[:, :longest], ended=ended)

    def _until_end(self, answers: list[list[int]]) -> list[list[int]]:
        ends = set(self.eos_ids)
        return [answer[: next((k for k, token in enumerate(answer) if token in ends), len(answer)) + 1] for answer in answers]


class _Look:
    """Which rows are over, and all ids so far, at one moment; on the way to the host, or read in place."""

    def __init__(self, over: Tensor, ids: Tensor, to_host: bool) -> None:
        self.over, self.ids, self.arrived = over, ids, None
        if to_host:
            self.over, self.ids = _on_the_way(over), _on_the_way(ids)
            if over.is_cuda:
                self.arrived = torch.cuda.Event()
                self.arrived.record()

    def flags(self) -> list[bool]:
        if self.arrived is not None:
            self.arrived.synchronize()
        # Mostly nothing has ended: one reduction is cheaper than a list.
        return [bool(flag) for flag in self.over.tolist()] if self.over.any() else []


def _on_the_way(values: Tensor) -> Tensor:
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=values.is_cuda)
    return host.copy_(values, non_blocking=True)


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
