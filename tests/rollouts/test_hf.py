"""The engine on plain ``generate``: its log-probs against the scores that ``generate`` itself returns, and its batches."""

import pytest
import torch
from transformers import GenerationConfig

from engine_checks import EOS, PAD, PROMPTS, sample, small
from lit_symbolic.rollouts.engine import left_padded
from lit_symbolic.rollouts.hf import HuggingFaceEngine


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_answers_and_logprobs_are_those_of_generate_and_its_scores(temperature: float) -> None:
    model = small()
    out = sample(HuggingFaceEngine(), model, samples=1, temperature=temperature, eos_ids=[EOS])
    ids, mask = left_padded(PROMPTS, PAD, torch.device("cpu"))
    assert mask is not None
    drawing = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
    config = GenerationConfig(max_new_tokens=12, pad_token_id=PAD, eos_token_id=EOS, **drawing)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(0))))
        plain = model.generate(
            ids, attention_mask=mask.long(), generation_config=config, output_scores=True, return_dict_in_generate=True
        )
    answers = plain.sequences[:, ids.shape[1] :]
    assert torch.equal(out.ids, answers)
    scores = torch.stack(plain.scores, dim=1).log_softmax(-1).gather(2, answers[..., None]).squeeze(2)
    counts = torch.arange(answers.shape[1]) < out.lengths[:, None]
    torch.testing.assert_close(out.logprobs, scores * counts, atol=1e-6, rtol=0)


def test_rows_go_through_in_batches_of_max_rows_and_are_reported_after_each() -> None:
    reports: list[list[int]] = []
    out = sample(HuggingFaceEngine(max_rows=5), small(), on_finished=lambda rows, ids: reports.append(rows))
    assert reports == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
    assert len(out.ids) == 12


def test_each_layer_keeps_its_own_mode() -> None:
    model = small().train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    sample(HuggingFaceEngine(), model)
    assert modes == [module.training for module in model.modules()]


def test_dropout_is_off_while_sampling() -> None:
    model, plain = small(), small()
    for layer in model.train().model.layers:
        layer.self_attn.attention_dropout = 0.5
    assert torch.equal(sample(HuggingFaceEngine(), model).ids, sample(HuggingFaceEngine(), plain).ids)


def test_max_rows_is_positive() -> None:
    with pytest.raises(ValueError, match="max_rows must be at least 1, got 0"):
        HuggingFaceEngine(max_rows=0)
