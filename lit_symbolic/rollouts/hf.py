"""Sampling with ``generate`` of transformers: the slow and plain way, which the other engines are tested against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from lit_symbolic.rollouts.engine import (
    Generation,
    OnFinished,
    RolloutEngine,
    SamplingSettings,
    left_padded,
    require_prompts,
)
from lit_symbolic.rollouts.libraries import Answer, drawn_seed, gathered, lent, plain_sampling


class HuggingFaceEngine(RolloutEngine):
    """``model.generate`` on left-padded batches.

    A prompt is read once for each of its samples, ended rows are computed until the last one ends, and nothing is reported
    before a batch is through: for comparison, and for models that the other engines do not take. An answer depends on the
    rows beside it, since all draw from one stream of random numbers; the same call gives the same answers.

    Args:
        max_rows: Rows in one batch.

    Raises:
        ValueError: If ``max_rows`` is not positive.
    """

    def __init__(self, max_rows: int = 64) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, got {max_rows}")
        self.max_rows = max_rows

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
        rows = [prompt for prompt in prompts for _ in range(samples)]
        config = plain_sampling(settings, eos_ids, pad_id)
        answers: list[Answer] = []
        with lent(model, drawn_seed(generator)), defaults(model, config):
            for first in range(0, len(rows), self.max_rows):
                batch = _batch(model, rows[first : first + self.max_rows], config, settings.temperature or 1.0)
                answers += batch
                if on_finished is not None:
                    on_finished(list(range(first, len(answers))), [answer.ids for answer in batch])
        return gathered(answers, eos_ids, pad_id, model.device)


def _batch(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], config: GenerationConfig, temperature: float
) -> list[Answer]:
    ids, mask = left_padded(prompts, config.pad_token_id, model.device)
    recorder = LogprobRecorder(temperature)
    sequences = model.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids) if mask is None else mask.long(),
        generation_config=config,
        logits_processor=LogitsProcessorList([recorder]),
    )
    new = sequences[:, ids.shape[1] :]
    ends = torch.isin(new, torch.tensor(config.eos_token_id or [], dtype=new.dtype, device=new.device))
    lengths = torch.where(ends.any(dim=1), ends.long().argmax(dim=1) + 1, new.shape[1]).tolist()
    logprobs = recorder.of(new)
    return [
        Answer(row[:length], row_logprobs[:length])
        for row, row_logprobs, length in zip(new.tolist(), logprobs.tolist(), lengths, strict=True)
    ]


class LogprobRecorder(LogitsProcessor):
    """Notes the log-prob of each sampled token, one step late, when the token is seen.

    ``output_scores`` would keep the logits of all steps, shape (rows, vocabulary) each; this keeps those of one.

    Args:
        temperature: By which ``generate`` divides the logits after this processor has seen them.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self.steps: list[Tensor] = []
        self.latest: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Take up a step's logits, shape (rows, vocabulary), and leave them as they are."""
        self._record(input_ids[:, -1])
        self.latest = (scores.float() / self.temperature).log_softmax(dim=-1)
        return scores

    def of(self, ids: Tensor) -> Tensor:
        """Log-probs of the answers' ids, float32, both of shape (rows, length)."""
        if len(self.steps) < ids.shape[1]:
            self._record(ids[:, -1])
        return torch.stack(self.steps[: ids.shape[1]], dim=1)

    def _record(self, tokens: Tensor) -> None:
        if self.latest is not None:
            self.steps.append(self.latest.gather(1, tokens[:, None]).squeeze(1))
            self.latest = None


@contextmanager
def defaults(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Let ``config`` also be the model's own defaults, with which ``generate`` fills what a config leaves open.

    Many published models bring a repetition penalty or suppressed tokens, under which answers would not come from the
    policy's distribution.
    """
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own
