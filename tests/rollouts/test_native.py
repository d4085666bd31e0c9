from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PretrainedConfig

from lit_symbolic.policies.forward import response_hidden
from lit_symbolic.rollouts.engine import SamplingSettings, left_padded
from lit_symbolic.rollouts.llama import LEAST_GROWTH, LlamaDecoder, LlamaWeights
from lit_symbolic.rollouts.native import NativeEngine
from lit_symbolic.rollouts.sampler import draw
from plain_llama import (
    EOS,
    EQUAL,
    IDS,
    PAD,
    SIZES,
    UNEQUAL,
    assert_equals_plain_forward,
    build,
    llama,
    sample,
)


@pytest.mark.parametrize("prompts", [EQUAL, UNEQUAL], ids=["equal prompts", "padded prompts"])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "generic"])
@pytest.mark.parametrize(("tied", "kv_heads"), [(True, 4), (False, 2), (True, 1)])
def test_logprobs_equal_a_plain_forward_pass(tied: bool, kv_heads: int, fused: bool, prompts: list[list[int]]) -> None:
    model = llama(tied, kv_heads)
    out = sample(model, prompts, temperature=0.7, eos_ids=[EOS, 3, 4, 5], fused=fused, max_rows=8)
    assert out.lengths.min() < out.lengths.max()  # rows ended at different steps, and so left
    assert_equals_plain_forward(model, out, prompts, temperature=0.7)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "generic"])
def test_an_answer_longer_than_the_first_cache_keeps_its_logprobs(fused: bool) -> None:
    model = llama(kv_heads=2)
    out = sample(model, samples=2, max_new_tokens=3 * LEAST_GROWTH, eos_ids=[], fused=fused)
    assert out.lengths.tolist() == [3 * LEAST_GROWTH] * 6
    assert_equals_plain_forward(model, out, UNEQUAL)


SMALL = {**SIZES, **IDS}
ARCHITECTURES: dict[str, PretrainedConfig] = {
    "Llama": transformers.LlamaConfig(**SMALL, intermediate_size=48, num_key_value_heads=2, attention_bias=True),
    "GPT-NeoX": transformers.GPTNeoXConfig(**SMALL, intermediate_size=48),
    "Qwen2": transformers.Qwen2Config(**SMALL, intermediate_size=48, num_key_value_heads=2),
    "Gemma": transformers.GemmaConfig(**SMALL, intermediate_size=48, num_key_value_heads=1, head_dim=16),
    "Mistral": transformers.MistralConfig(**SMALL, intermediate_size=48, num_key_value_heads=2, sliding_window=5),
    "OPT": transformers.OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64),
}


@pytest.mark.parametrize("prompts", [EQUAL, UNEQUAL], ids=["equal prompts", "padded prompts"])
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_any_causal_model_gives_the_logprobs_of_its_own_forward_pass(name: str, prompts: list[list[int]]) -> None:
    model = build(ARCHITECTURES[name])
    out = sample(model, prompts)
    assert out.lengths.max() > 5  # beyond the sliding window
    assert_equals_plain_forward(model, out, prompts)


def test_the_fused_decoder_takes_plain_llamas_only() -> None:
    model = llama()
    assert LlamaWeights.supports(model)
    assert not LlamaWeights.supports(llama(attention_bias=True))
    assert not LlamaWeights.supports(llama(hidden_act="gelu"))
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    assert not LlamaWeights.supports(llama(rope_parameters=scaled))
    assert not LlamaWeights.supports(build(ARCHITECTURES["Mistral"]))
    assert LlamaWeights.supports(llama().bfloat16())
    assert not LlamaWeights.supports(llama().half())
    mixed = llama()
    mixed.lm_head.bfloat16()
    assert not LlamaWeights.supports(mixed)


def test_a_model_with_an_adapter_is_sampled_with_its_adapter() -> None:
    from peft import LoraConfig, get_peft_model

    model = llama()
    plain = sample(model, temperature=0)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    out = sample(adapted, temperature=0)
    assert not LlamaWeights.supports(adapted)
    assert not LlamaWeights.supports(model)  # its layers are the adapter's now
    assert_equals_plain_forward(adapted, out, UNEQUAL)
    assert out.ids.shape != plain.ids.shape or not torch.equal(out.ids, plain.ids)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "generic"])
def test_greedy_answers_are_those_of_generate(fused: bool) -> None:
    model = llama(kv_heads=2)
    out = sample(model, samples=1, temperature=0, fused=fused)
    for row, prompt in enumerate(UNEQUAL):
        ids = torch.tensor([prompt])
        reference = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        assert out.ids[row, : out.lengths[row]].tolist() == reference[0, len(prompt) :].tolist()
    assert_equals_plain_forward(model, out, UNEQUAL)  # log-probs of greedy answers are at temperature 1


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_tokens_come_as_often_as_the_softmax_says(temperature: float) -> None:
    model, draws = llama(), 4000
    out = sample(model, [[1, 5, 9]], draws, max_new_tokens=2, temperature=temperature, eos_ids=[], max_rows=draws)
    with torch.no_grad():
        first = (model(torch.tensor([[1, 5, 9]])).logits[0, -1] / temperature).softmax(-1)
        likeliest = first.argmax()
        second = (model(torch.tensor([[1, 5, 9, int(likeliest)]])).logits[0, -1] / temperature).softmax(-1)
    assert_distributed(out.ids[:, 0], first)
    assert_distributed(out.ids[out.ids[:, 0] == likeliest, 1], second)


def assert_distributed(tokens: Tensor, probabilities: Tensor) -> None:
    """Chi-square test; words expected less than 5 times, and the rarest of the others, are taken together."""
    order = probabilities.argsort()
    expected = (probabilities * len(tokens))[order]
    seen = torch.bincount(tokens, minlength=len(probabilities)).float()[order]
    together = int((expected < 5).sum()) + 1
    expected = torch.cat([expected[:together].sum()[None], expected[together:]])
    seen = torch.cat([seen[:together].sum()[None], seen[together:]])
    degrees = len(expected) - 1
    assert degrees >= 8
    statistic = ((seen - expected) ** 2 / expected).sum()
    assert torch.special.gammaincc(torch.tensor(degrees / 2), statistic / 2) > 1e-3


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "generic"])
@pytest.mark.parametrize(
    "other",
    [
        {"max_rows": 1},
        {"max_rows": 8},
        {"max_cache_tokens": 100},
        {"max_padding": 0},
        {"compact_share": 1.0},
        {"compact_share": 1e-6},
        {"check_every": 3},
        {"check_every": 2, "compact_share": 1e-6, "max_padding": 0},
    ],
    ids=str,
)
def test_answers_depend_neither_on_the_turns_nor_on_when_rows_are_seen_to_end_and_leave(
    other: dict[str, Any], fused: bool
) -> None:
    model = llama()
    one, two = sample(model, fused=fused), sample(model, fused=fused, **other)
    assert torch.equal(one.ids, two.ids)
    assert torch.equal(one.lengths, two.lengths)
    assert torch.equal(one.ended, two.ended)
    torch.testing.assert_close(one.logprobs, two.logprobs, atol=1e-5, rtol=0)


def test_an_answer_does_not_depend_on_when_others_end() -> None:
    model = llama()
    free, ending = sample(model, eos_ids=[]), sample(model)
    for row, length in enumerate(ending.lengths.tolist()):
        assert free.ids[row, :length].tolist() == ending.ids[row, :length].tolist()


def test_the_same_seed_gives_the_same_answers_and_another_seed_others() -> None:
    model = llama()
    one, two, three = sample(model), sample(model), sample(model, seed=1)
    assert torch.equal(one.ids, two.ids)
    assert torch.equal(one.logprobs, two.logprobs)
    assert one.ids.shape != three.ids.shape or not torch.equal(one.ids, three.ids)


@pytest.mark.parametrize("fused", [True, False])
def test_a_half_precision_default_type_changes_no_answer(fused: bool) -> None:
    model = llama()
    plain = sample(model, fused=fused)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # as the Trainer does with precision bf16-true
    try:
        half = sample(model, fused=fused)
    finally:
        torch.set_default_dtype(before)
    assert half.logprobs.dtype == torch.float32
    assert torch.equal(half.ids, plain.ids)
    torch.testing.assert_close(half.logprobs, plain.logprobs)


@pytest.mark.parametrize("pad_id", [PAD, EOS], ids=["own pad id", "pad id is the eos id"])
def test_an_answer_ends_behind_its_first_eos_and_only_there(pad_id: int) -> None:
    out = sample(llama(), samples=8, eos_ids=[EOS, 7], pad_id=pad_id)
    steps = out.ids.shape[1]
    assert out.ended.any()
    assert not out.ended.all()
    assert steps == out.lengths.max()
    for ids, length, ended in zip(out.ids.tolist(), out.lengths.tolist(), out.ended.tolist(), strict=True):
        places = [k for k, token in enumerate(ids[:length]) if token in (EOS, 7)]
        assert places == ([length - 1] if ended else [])
        assert ended or length == 12
        assert ids[length:] == [pad_id] * (steps - length)


def test_an_eos_as_the_last_allowed_token_is_an_end() -> None:
    model = llama()
    first = sample(model, temperature=0, max_new_tokens=1, samples=1, eos_ids=[])
    out = sample(model, temperature=0, max_new_tokens=1, samples=1, eos_ids=[int(first.ids[0, 0])])
    assert out.ended[0]
    assert out.lengths.tolist() == [1, 1, 1]


def test_rows_shared_out_among_threads_are_sampled_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_symbolic.rollouts.native.LEAST_ROWS", 4)
    seen: set[str] = set()
    step = LlamaDecoder.step

    def watched(self: LlamaDecoder, tokens: Tensor) -> Tensor:
        seen.add(threading.current_thread().name)
        return step(self, tokens)

    monkeypatch.setattr(LlamaDecoder, "step", watched)
    model, before = llama(), torch.get_num_threads()
    one, three = sample(model, threads=1), sample(model, threads=3)
    assert len(seen) == 4  # this one, and three more
    assert torch.equal(one.ids, three.ids)
    assert torch.equal(one.lengths, three.lengths)
    torch.testing.assert_close(one.logprobs, three.logprobs, atol=1e-5, rtol=0)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("engine", [{}, {"max_rows": 4}, {"threads": 3}, {"check_every": 3}, {"check_every": 100}], ids=str)
def test_every_row_is_reported_once_with_its_answer(engine: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_symbolic.rollouts.native.LEAST_ROWS", 4)
    reports: list[tuple[list[int], list[list[int]]]] = []

    def on_finished(rows: list[int], ids: list[list[int]]) -> None:
        assert threading.current_thread() is threading.main_thread()
        reports.append((rows, ids))

    out = sample(llama(), **engine, on_finished=on_finished)
    answers = {row: ids for rows, answers in reports for row, ids in zip(rows, answers, strict=True)}
    assert sorted(row for rows, _ in reports for row in rows) == list(range(12))
    assert len(reports) > 1 or engine.get("check_every") == 100  # while others are still being sampled
    for row, length in enumerate(out.lengths.tolist()):
        assert answers[row] == out.ids[row, :length].tolist()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_the_training_mode_is_restored_also_after_an_error(training: bool, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_symbolic.rollouts.native.LEAST_ROWS", 4)
    model = llama().train(training)

    def fail(rows: list[int], ids: list[list[int]]) -> None:
        assert not model.training
        raise KeyError("stop")

    sample(model)
    assert model.training is training
    with pytest.raises(KeyError):
        sample(model, threads=threads, on_finished=fail)
    assert model.training is training
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sampling")]


def test_an_error_in_one_thread_is_raised_in_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_symbolic.rollouts.native.LEAST_ROWS", 4)
    keep = LlamaDecoder.keep

    def fail(self: LlamaDecoder, rows: Tensor) -> None:
        keep(self, rows)
        raise KeyError("lost")

    monkeypatch.setattr(LlamaDecoder, "keep", fail)
    with pytest.raises(KeyError, match="lost"):
        sample(llama(), threads=3)


def test_dropout_is_off_while_sampling() -> None:
    model = llama(attention_dropout=0.5).train()
    assert_equals_plain_forward(llama(), sample(model, fused=False), UNEQUAL)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "generic"])
def test_answers_sampled_in_inference_mode_can_stand_in_a_loss(fused: bool) -> None:
    model = llama()
    with torch.inference_mode():
        out = sample(model, EQUAL, fused=fused)
    prompts, mask = left_padded(EQUAL, PAD, torch.device("cpu"))
    counts = torch.arange(out.ids.shape[1]) < out.lengths[:, None]
    hidden = response_hidden(model, prompts.repeat_interleave(4, dim=0), mask, out.ids, counts)
    logprobs = model.lm_head(hidden).log_softmax(-1).gather(2, out.ids[..., None]).squeeze(2)
    ratio = (logprobs - out.logprobs).exp()[counts]
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-4, rtol=0)
    (ratio * out.logprobs[counts]).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not out.ids.is_inference()


def test_the_weights_of_the_moment_are_sampled_from() -> None:
    model, engine = llama(), NativeEngine()
    for _ in range(2):
        out = engine.generate(model, EQUAL, 2, SamplingSettings(5), [], PAD, torch.Generator().manual_seed(0))
        assert_equals_plain_forward(model, out, EQUAL)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1, got 0"):
        SamplingSettings(0)
    with pytest.raises(ValueError, match=r"temperature must not be negative .*, got -1"):
        SamplingSettings(5, -1.0)
    with pytest.raises(ValueError, match="max_rows must be at least 1, got 0"):
        NativeEngine(max_rows=0)
    with pytest.raises(ValueError, match="check_every must be at least 1, got 0"):
        NativeEngine(check_every=0)
    with pytest.raises(ValueError, match="dtype is policy or bfloat16, got 'float8'"):
        NativeEngine(dtype="float8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"compact_share lies in \(0, 1\], got 0"):
        NativeEngine(compact_share=0.0)
    model = llama()
    with pytest.raises(ValueError, match="nothing to sample: 0 prompts, 4 samples"):
        sample(model, [])
    with pytest.raises(ValueError, match="nothing to sample: 3 prompts, 0 samples"):
        sample(model, samples=0)
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        sample(model, [[1], []])


WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1.0)), min_size=1, max_size=40).filter(any)
RANDOM = st.one_of(st.sampled_from([0.0, 0.5, 1 - 2**-24]), st.floats(0.0, 1 - 2**-24, width=32))


@given(weights=WEIGHTS, random=RANDOM, temperature=st.sampled_from([0.0, 0.3, 1.0, 3.0]))
@settings(max_examples=300, deadline=None)
def test_a_word_without_probability_is_never_drawn(weights: list[float], random: float, temperature: float) -> None:
    logits = torch.tensor([weights]).log()
    tokens, logprobs = draw(logits, torch.tensor([random]), temperature)
    probabilities = (logits.double() / (temperature or 1.0)).softmax(-1)[0]
    token = int(tokens[0])
    assert weights[token] > 0
    assert logprobs[0].item() == pytest.approx(probabilities[token].log().item(), abs=1e-4)
    if temperature:
        below = probabilities[:token].sum().item()
        assert below - 1e-5 <= random <= below + probabilities[token].item() + 1e-5
    else:
        assert logits[0, token] == logits.max()


@given(prompts=st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=6), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_left_padding_keeps_every_prompt_and_marks_its_tokens(prompts: list[list[int]]) -> None:
    ids, mask = left_padded(prompts, 0, torch.device("cpu"))
    assert (mask is None) == (len({len(prompt) for prompt in prompts}) == 1)
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    for row, prompt in enumerate(prompts):
        assert ids[row][real[row]].tolist() == prompt
        assert ids[row, ids.shape[1] - len(prompt) :].tolist() == prompt
        assert (ids[row][~real[row]] == 0).all()
