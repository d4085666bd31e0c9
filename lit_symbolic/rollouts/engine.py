"""What an engine is: it samples answers from a model. The engines beside this file are chosen in the config."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

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

    @property
    def exact(self) -> bool:
        """Whether log-probs are those of the policy's own weights, up to the rounding of other kernels.

        False where answers are sampled from other weights (a copy in a smaller type): a ratio to the policy is then not 1
        before the first step, so whoever learns from the answers has to compute the policy's log-probs anew.
        """
        return True

    @property
    def reproducible(self) -> bool:
        """Whether the same call with the same seed gives the same answers."""
        return True

    def release(self) -> None:  # noqa: B027 - most keep nothing
        """Give back what is kept between calls (copies of weights, caches); the next call makes it anew."""

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


def require_prompts(prompts: Sequence[Sequence[int]], samples: int) -> None:
    """Refuse what no engine can sample from.

    Args:
        prompts: Prompt ids without padding.
        samples: Answers per prompt.

    Raises:
        ValueError: If there is nothing to sample, or a prompt has no token.
    """
    if not prompts or samples < 1:
        raise ValueError(f"nothing to sample: {len(prompts)} prompts, {samples} samples each")
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(
                f"prompt {index} is empty: a prompt needs at least one token, the begin-of-sequence token for instance"
            )


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
