"""What the engines have in common that let another library sample: a model lent to it, a seed, and its answers as one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel

from lit_symbolic.rollouts.engine import Generation, SamplingSettings


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer.

    Attributes:
        ids: Its tokens, end-of-sequence token included.
        logprobs: Log-prob of each under the sampling distribution.
    """

    ids: list[int]
    logprobs: list[float]


def gathered(answers: Sequence[Answer], eos_ids: Sequence[int], pad_id: int, device: torch.device) -> Generation:
    """Answers of different length as one right-padded batch, of tensors that can stand in a loss also in inference mode.

    Args:
        answers: One a row, each with at least one token.
        eos_ids: Ids that end an answer.
        pad_id: Id put after the end.
        device: Where the batch goes.

    Example:
        >>> batch = gathered([Answer([5, 2], [-0.5, -1.0]), Answer([7], [-2.0])], [2], 0, torch.device("cpu"))
        >>> batch.ids.tolist(), batch.lengths.tolist(), batch.ended.tolist()
        ([[5, 2], [7, 0]], [2, 1], [True, False])
    """
    longest = max(len(answer.ids) for answer in answers)
    ids = [answer.ids + [pad_id] * (longest - len(answer.ids)) for answer in answers]
    logprobs = [answer.logprobs + [0.0] * (longest - len(answer.ids)) for answer in answers]
    with torch.inference_mode(False):
        return Generation(
            ids=torch.tensor(ids, device=device),
            lengths=torch.tensor([len(answer.ids) for answer in answers], device=device),
            logprobs=torch.tensor(logprobs, dtype=torch.float32, device=device),
            ended=torch.tensor([answer.ids[-1] in eos_ids for answer in answers], device=device),
        )


def drawn_seed(generator: torch.Generator) -> int:
    """A seed for a library that has random numbers of its own, below 2^62, from the generator that an engine is given."""
    return int(torch.randint(2**62, (), generator=generator))


@contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Give torch's global generators their state back afterwards, those of all devices of this kind and of the CPU."""
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            yield
        return
    devices = range(torch.get_device_module(device).device_count())
    with torch.random.fork_rng(devices=list(devices), device_type=device.type):
        yield


@contextmanager
def lent(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Sample from ``model`` with a library that draws from torch's global generators.

    Inside, the model is in evaluation mode, gradients are off and the generators are seeded; afterwards all is as it was.

    Args:
        model: A causal LM.
        seed: Seed of the global generators.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with kept_generators(model.device), torch.inference_mode(False), torch.no_grad():
            torch.manual_seed(seed)
            yield
    finally:
        for module, training in modes:
            module.training = training


def plain_sampling(settings: SamplingSettings, eos_ids: Sequence[int], pad_id: int) -> GenerationConfig:
    """Sampling from the softmax of the logits over the temperature, and nothing else, for transformers.

    Example:
        >>> config = plain_sampling(SamplingSettings(8, temperature=0.5), [2], 0)
        >>> config.do_sample, config.temperature, config.top_k, config.top_p
        (True, 0.5, 0, 1.0)
    """
    ends = {"max_new_tokens": settings.max_new_tokens, "eos_token_id": list(eos_ids) or None, "pad_token_id": pad_id}
    if settings.temperature == 0:
        return GenerationConfig(do_sample=False, **ends)
    return GenerationConfig(do_sample=True, temperature=settings.temperature, top_k=0, top_p=1.0, **ends)
