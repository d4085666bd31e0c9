"""The model's verdict beside probabilities that are computed word by word."""

import math

import pytest

from engine_checks import exact_logprobs
from lit_symbolic.certificate import Problem
from lit_symbolic.decoding.verdicts import VERDICTS, expected_verdicts, verdict_problem
from lit_symbolic.policies.tiny import tiny_llama, tiny_tokenizer

TOKENIZER = tiny_tokenizer(["sure", "likely", "im", "##possible", "a", "b"])  # one word of two tokens
MODEL = tiny_llama(TOKENIZER, hidden_size=16, layers=2, heads=2, intermediate_size=32, seed=3)


def test_a_verdict_is_the_mean_worth_of_the_words() -> None:
    assert len(TOKENIZER("impossible", add_special_tokens=False)["input_ids"]) == 2
    prompts = [TOKENIZER(text)["input_ids"] for text in ("a", "a b a a b", "b b", *["a b"] * 70)]
    MODEL.train()
    found = expected_verdicts(MODEL, TOKENIZER, prompts, int(TOKENIZER.pad_token_id))
    assert MODEL.training
    for value, prompt in zip(found[:4], prompts[:4], strict=True):
        likelihoods = [
            math.exp(exact_logprobs(MODEL, prompt, TOKENIZER(word, add_special_tokens=False)["input_ids"]).sum().item())
            for word in VERDICTS
        ]
        expected = sum(p * worth for p, worth in zip(likelihoods, VERDICTS.values(), strict=True)) / sum(likelihoods)
        assert value == pytest.approx(expected, rel=1e-4)
    assert found[3:] == pytest.approx([found[3]] * 70, rel=1e-4)


def test_the_question_holds_problem_and_beginning() -> None:
    problem = verdict_problem(Problem("sums", "0", "1 + 1 =", {"k": 1}, reference="2"), "2")
    assert problem.prompt.startswith("1 + 1 =\nAn answer begins with:\n2\n")
    assert problem.prompt.endswith("sure, likely or impossible.\nVerdict:\n")
    assert (problem.facts, problem.reference) == ({"k": 1}, "2")
