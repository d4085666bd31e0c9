"""Every engine that runs here gives the answers and the log-probs that the model's own forward pass gives."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine_checks import (
    ARCHITECTURES,
    EOS,
    PAD,
    PROMPTS,
    assert_distributed,
    assert_exact,
    assert_well_formed,
    sample,
    small,
)
from lit_symbolic.rollouts.continuous_batching import ContinuousBatchingEngine
from lit_symbolic.rollouts.engine import RolloutEngine
from lit_symbolic.rollouts.hf import HuggingFaceEngine
from lit_symbolic.rollouts.native import NativeEngine

# Small limits, so that batches are cut, pages are left and taken, and rows wait for others.
ENGINES: dict[str, Callable[[], RolloutEngine]] = {
    "native": lambda: NativeEngine(max_rows=8),
    "hf": lambda: HuggingFaceEngine(max_rows=5),
    "continuous batching": lambda: ContinuousBatchingEngine(max_rows=4, page_size=4),
}


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> RolloutEngine:
    return ENGINES[request.param]()


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_logprobs_are_those_of_a_forward_pass(engine: RolloutEngine, name: str) -> None:
    model = small(name)
    out = sample(engine, model, samples=6, temperature=0.7)
    assert out.ended.any()
    assert not out.ended.all()
    assert_well_formed(out)
    assert_exact(model, out, temperature=0.7)


def test_logprobs_of_a_policy_with_an_adapter_are_those_of_the_policy(engine: RolloutEngine) -> None:
    from peft import LoraConfig

    model, bare = small(), small()
    model.add_adapter(LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM"))
    out = sample(engine, model)
    assert_exact(model, out)
    with pytest.raises(AssertionError):
        assert_exact(bare, out)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_greedy_answers_are_those_of_plain_generate(engine: RolloutEngine, name: str) -> None:
    model = small(name)
    out = sample(engine, model, temperature=0, samples=1, eos_ids=[EOS])
    for row, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt])
        plain = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        assert out.ids[row, : out.lengths[row]].tolist() == plain[0, len(prompt) :].tolist()
    assert_exact(model, out)  # at temperature 1


def test_tokens_come_as_often_as_the_softmax_says(engine: RolloutEngine) -> None:
    model, prompt, draws, temperature = small(), [1, 5, 9], 1500, 1.5
    wide = type(engine)(max_rows=256)  # type: ignore[call-arg]
    out = sample(wide, model, [prompt], draws, max_new_tokens=2, temperature=temperature, eos_ids=[])
    with torch.no_grad():
        first = (model(torch.tensor([prompt])).logits[0, -1] / temperature).softmax(-1)
        likeliest = first.argmax()
        second = (model(torch.tensor([[*prompt, int(likeliest)]])).logits[0, -1] / temperature).softmax(-1)
    assert_distributed(out.ids[:, 0], first)
    assert_distributed(out.ids[out.ids[:, 0] == likeliest, 1], second)


def test_the_samples_of_a_prompt_and_the_draws_of_two_seeds_differ(engine: RolloutEngine) -> None:
    model = small()
    one, two = sample(engine, model, samples=8), sample(engine, model, samples=8, seed=1)
    assert len({tuple(ids) for ids in one.ids[:8].tolist()}) > 4
    assert one.ids.shape != two.ids.shape or not torch.equal(one.ids, two.ids)


def test_the_same_call_gives_the_same_answers(engine: RolloutEngine) -> None:
    model = small()
    one = sample(engine, model)
    torch.rand(3)  # elsewhere in the process
    two = sample(engine, model)
    assert torch.equal(one.ids, two.ids)
    assert torch.equal(one.logprobs, two.logprobs)


@pytest.mark.parametrize(
    ("eos_ids", "pad_id"), [([EOS, 7], PAD), ([EOS], EOS), ([], PAD)], ids=["two ends", "pad is an end", "none"]
)
def test_any_ids_may_end_an_answer_and_fill_the_room_behind_it(engine: RolloutEngine, eos_ids: list[int], pad_id: int) -> None:
    model = small()
    out = sample(engine, model, samples=8, eos_ids=eos_ids, pad_id=pad_id)
    assert out.ended.any() == bool(eos_ids)
    assert_well_formed(out, eos_ids=eos_ids, pad=pad_id)
    assert_exact(model, out)


def test_an_end_as_the_last_allowed_token_is_an_end(engine: RolloutEngine) -> None:
    model = small()
    token = int(sample(engine, model, temperature=0, samples=1, max_new_tokens=1, eos_ids=[]).ids[0, 0])
    out = sample(engine, model, temperature=0, samples=1, max_new_tokens=1, eos_ids=[token])
    assert out.ended[0]
    assert out.lengths.tolist() == [1, 1, 1]


def test_a_prompt_may_be_a_single_token(engine: RolloutEngine) -> None:
    model, prompts = small(), [[1], [6, 7]]
    assert_exact(model, sample(engine, model, prompts), prompts)


def test_every_row_is_reported_once_with_its_answer(engine: RolloutEngine) -> None:
    reports: list[tuple[list[int], list[list[int]]]] = []
    out = sample(engine, small(), on_finished=lambda rows, ids: reports.append((rows, ids)))
    answers = {row: ids for rows, found in reports for row, ids in zip(rows, found, strict=True)}
    assert sorted(row for rows, _ in reports for row in rows) == list(range(12))
    assert len(reports) > 1
    assert answers == {row: out.ids[row, :length].tolist() for row, length in enumerate(out.lengths.tolist())}


class Stop(Exception):
    pass


@pytest.mark.parametrize("fails", [False, True], ids=["", "after an exception"])
def test_model_and_random_numbers_are_left_as_they_were(engine: RolloutEngine, fails: bool) -> None:
    model = small().train()
    model.generation_config.repetition_penalty = 1.7
    before: dict[str, Any] = {
        "modes": [module.training for module in model.modules()],
        "attributes": sorted(vars(model)),
        "hooks": [len(model._forward_hooks), len(model._forward_pre_hooks)],
        "attention": model.config._attn_implementation,
        "generation": model.generation_config.to_dict(),
        "random": torch.get_rng_state().tolist(),
        "trainable": [parameter.requires_grad for parameter in model.parameters()],
    }

    def report(rows: list[int], ids: list[list[int]]) -> None:
        assert not any(module.training for module in model.modules())
        if fails:
            raise Stop

    if fails:
        with pytest.raises(Stop):
            sample(engine, model, on_finished=report)
    else:
        sample(engine, model, on_finished=report)
    assert before == {
        "modes": [module.training for module in model.modules()],
        "attributes": sorted(vars(model)),
        "hooks": [len(model._forward_hooks), len(model._forward_pre_hooks)],
        "attention": model.config._attn_implementation,
        "generation": model.generation_config.to_dict(),
        "random": torch.get_rng_state().tolist(),
        "trainable": [parameter.requires_grad for parameter in model.parameters()],
    }
    assert torch.is_grad_enabled()


def test_the_models_own_ways_of_sampling_are_not_asked(engine: RolloutEngine) -> None:
    plain, model = small(), small()
    own = model.generation_config
    own.repetition_penalty, own.top_k, own.top_p, own.temperature, own.min_new_tokens = 1.5, 3, 0.5, 0.3, 6
    own.suppress_tokens, own.eos_token_id = [5, 6, 7], [9]
    out = sample(engine, model)
    assert torch.equal(out.ids, sample(engine, plain).ids)
    assert_exact(plain, out)


def test_answers_sampled_in_inference_mode_can_stand_in_a_loss(engine: RolloutEngine) -> None:
    model = small()
    with torch.inference_mode():
        out = sample(engine, model)
    assert not out.ids.is_inference()
    assert not out.logprobs.is_inference()


def test_nothing_to_sample_is_refused(engine: RolloutEngine) -> None:
    with pytest.raises(ValueError, match="nothing to sample: 0 prompts, 4 samples"):
        sample(engine, small(), [])
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        sample(engine, small(), [[1], []])
