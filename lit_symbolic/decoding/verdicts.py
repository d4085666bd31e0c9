"""The model's verdict on a beginning of an answer: sure, likely or impossible, as in Tree of Thoughts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_symbolic.certificate import Problem
from lit_symbolic.objectives.logprobs import token_logprobs
from lit_symbolic.policies.forward import response_hidden
from lit_symbolic.rollouts.engine import left_padded

VERDICTS: Mapping[str, float] = {"sure": 20.0, "likely": 1.0, "impossible": 0.001}
"""Words and what they are worth, the numbers of the paper's own code."""

PROMPTS_AT_ONCE = 64


def verdict_problem(problem: Problem, beginning: str) -> Problem:
    """The problem with the question about a beginning of its answer as the prompt.

    Example:
        >>> print(verdict_problem(Problem("sums", "0", "1 + 1 + 1\\n"), "1 + 1 = 2\\n").prompt)
        1 + 1 + 1
        <BLANKLINE>
        An answer begins with:
        1 + 1 = 2
        <BLANKLINE>
        Can it still become a right answer? Say one word: sure, likely or impossible.
        Verdict:
    """
    question = "Can it still become a right answer? Say one word: " + ", ".join([*VERDICTS][:-1]) + f" or {[*VERDICTS][-1]}."
    begun = beginning if beginning.endswith("\n") else f"{beginning}\n"
    return replace(problem, prompt=f"{problem.prompt}\nAn answer begins with:\n{begun}\n{question}\nVerdict:\n")


@torch.no_grad()
def expected_verdicts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], pad_id: int
) -> list[float]:
    """Mean worth of the model's verdict: each word's worth, weighed with its probability beside that of the other two.

    Nothing is sampled, so the same beginning is always worth the same.

    Args:
        model: A causal LM; its training mode is restored afterwards.
        tokenizer: Writes the words.
        prompts: Ids of the question, without padding.
        pad_id: Any id.

    Returns:
        A value for each prompt.
    """
    words = [list(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in VERDICTS]
    longest = max(map(len, words))
    ids = torch.tensor([word + [pad_id] * (longest - len(word)) for word in words], device=model.device)
    mask = torch.arange(longest, device=model.device) < torch.tensor([[len(word)] for word in words], device=model.device)
    worth = torch.tensor(list(VERDICTS.values()), device=model.device)
    values: list[float] = []
    was_training = model.training
    model.eval()
    try:
        for first in range(0, len(prompts), PROMPTS_AT_ONCE):
            part = prompts[first : first + PROMPTS_AT_ONCE]
            prompt_ids, prompt_mask = left_padded(part, pad_id, model.device)
            values += (_word_logprobs(model, prompt_ids, prompt_mask, ids, mask).softmax(dim=1) @ worth).tolist()
    finally:
        model.train(was_training)
    return values


def _word_logprobs(model: PreTrainedModel, prompt_ids: Tensor, prompt_mask: Tensor | None, ids: Tensor, mask: Tensor) -> Tensor:
    """Log-prob of each word behind each prompt, shape (prompts, words)."""
    prompts, words = len(prompt_ids), len(ids)
    repeated = prompt_ids.repeat_interleave(words, dim=0)
    repeated_mask = None if prompt_mask is None else prompt_mask.repeat_interleave(words, dim=0)
    answers, answer_mask = ids.repeat(prompts, 1), mask.repeat(prompts, 1)
    hidden = response_hidden(model, repeated, repeated_mask, answers, answer_mask)
    logprobs, _ = token_logprobs(hidden, model.get_output_embeddings(), answers, answer_mask, entropy="none")
    return logprobs.sum(dim=1).view(prompts, words)
