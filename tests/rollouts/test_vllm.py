"""The engine on vLLM, against a stub of the API of vLLM 0.26 (tests/support/vllm_stub.py): it has never run with vLLM itself."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

import vllm_stub
from engine_checks import EOS, PAD, PROMPTS, assert_distributed, assert_exact, assert_well_formed, sample, small
from lit_symbolic.policies.adapters import clone_adapter
from lit_symbolic.rollouts.vllm import VLLMEngine


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[vllm_stub.LLM]]:
    """The stub in vLLM's place; what was made of it."""
    for name, module in vllm_stub.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    vllm_stub.LLM.made.clear()
    yield vllm_stub.LLM.made
    vllm_stub.LLM.made.clear()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base model."""
    folder = tmp_path_factory.mktemp("base")
    small().save_pretrained(folder)
    return folder


def policy(base: Path, **options: Any) -> Any:
    """The base with an adapter that changes much."""
    model = type(small()).from_pretrained(base, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        lora = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False, "task_type": "CAUSAL_LM", **options}
        model.add_adapter(LoraConfig(**lora), adapter_name="default")
    return model.eval()


def in_policy_type(**options: Any) -> VLLMEngine:
    """In the policy's own precision, so that log-probs can be compared closely."""
    return VLLMEngine(dtype="policy", **options)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_logprobs_are_those_of_the_policy_with_its_adapter(base: Path, temperature: float) -> None:
    model = policy(base)
    out = sample(in_policy_type(), model, temperature=temperature)
    assert_well_formed(out)
    assert_exact(model, out, temperature=temperature or 1.0)


def test_greedy_answers_are_those_of_plain_generate(base: Path) -> None:
    model = policy(base)
    out = sample(in_policy_type(), model, temperature=0, samples=2, eos_ids=[EOS])
    for row, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt])
        plain = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        for sampled in (2 * row, 2 * row + 1):
            assert out.ids[sampled, : out.lengths[sampled]].tolist() == plain[0, len(prompt) :].tolist()


def test_tokens_come_as_often_as_the_softmax_says(base: Path) -> None:
    model, draws = policy(base), 400
    out = sample(in_policy_type(), model, [[1, 5, 9]], draws, max_new_tokens=1, temperature=2.0, eos_ids=[])
    with torch.no_grad():
        probabilities = (model(torch.tensor([[1, 5, 9]])).logits[0, -1] / 2.0).softmax(-1)
    assert_distributed(out.ids[:, 0], probabilities)


def test_the_base_is_loaded_in_bfloat16_by_default_and_kept(base: Path, vllm: list[vllm_stub.LLM]) -> None:
    engine, model = VLLMEngine(gpu_memory_utilization=0.3, max_model_len=64, options={"enforce_eager": True}), policy(base)
    one = sample(engine, model)
    sample(engine, model)
    assert len(vllm) == 1
    told = vllm[0].arguments
    assert (told["model"], told["dtype"], told["gpu_memory_utilization"]) == (str(base), "bfloat16", 0.3)
    assert (told["max_model_len"], told["max_lora_rank"], told["enforce_eager"]) == (64, 8, True)
    assert told["quantization"] is None  # no 4-bit weights there, and nothing is merged into any
    assert_exact(model, one, tolerance=0.5)
    with pytest.raises(AssertionError):
        assert_exact(model, one)
    assert not engine.exact


def test_an_adapter_is_exchanged_when_its_weights_have_changed_and_only_then(base: Path, vllm: list[vllm_stub.LLM]) -> None:
    engine, model = in_policy_type(), policy(base)
    for change in (1.0, 1.0, 1.5, 0.5):
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.mul_(change)
        assert_exact(model, sample(engine, model))
    served = vllm[0].llm_engine
    assert len(served.loads) == 3
    assert served.removed == [1, 2]
    assert served.list_loras() == {3}
    folder = Path(served.adapters[3].lora_path)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert folder.parent.stat().st_mode & 0o077 == 0  # private
    engine.release()
    assert not folder.parent.exists()


def test_the_policy_adapter_is_sampled_from_not_the_critics(base: Path) -> None:
    model = policy(base)
    clone_adapter(model, "default", "critic", trainable=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "critic" in name:
                parameter.add_(1.0)
    assert_exact(model, sample(in_policy_type(), model))


def test_it_sleeps_while_the_policy_learns(base: Path, vllm: list[vllm_stub.LLM]) -> None:
    engine, model = in_policy_type(sleep=True), policy(base)
    awake: list[bool] = []
    for _ in range(2):
        sample(engine, model, on_finished=lambda rows, ids: awake.append(not vllm[0].asleep))
        assert vllm[0].asleep
    assert all(awake)
    assert vllm[0].arguments["enable_sleep_mode"]


def test_after_an_exception_nothing_is_left_to_do_and_it_sleeps(base: Path, vllm: list[vllm_stub.LLM]) -> None:
    engine, model = in_policy_type(sleep=True), policy(base)

    def fail(rows: list[int], ids: list[list[int]]) -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        sample(engine, model, on_finished=fail)
    assert not vllm[0].llm_engine.has_unfinished_requests()
    assert len(vllm[0].llm_engine.aborted) == 2
    assert vllm[0].asleep
    assert_exact(model, sample(engine, model))


def test_rows_are_reported_by_prompt_in_the_order_in_which_prompts_end(base: Path) -> None:
    reports: list[tuple[list[int], list[list[int]]]] = []
    out = sample(in_policy_type(), policy(base), samples=2, on_finished=lambda rows, ids: reports.append((rows, ids)))
    assert sorted(rows for rows, _ in reports) == [[0, 1], [2, 3], [4, 5]]
    longest = [max(map(len, ids)) for _, ids in reports]
    assert longest == sorted(longest)
    for rows, ids in reports:
        assert ids == [out.ids[row, : out.lengths[row]].tolist() for row in rows]


def test_seeds_come_from_the_generator_one_for_each_prompt(base: Path) -> None:
    model = policy(base)
    prompts = [PROMPTS[0], PROMPTS[0]]
    one, again, other = (sample(in_policy_type(), model, prompts, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.ids, again.ids)
    assert one.ids.shape != other.ids.shape or not torch.equal(one.ids, other.ids)
    assert one.ids[:4].tolist() != one.ids[4:].tolist()
    state = torch.get_rng_state()
    sample(in_policy_type(), model)
    assert torch.equal(torch.get_rng_state(), state)


def test_only_the_given_ids_end_an_answer(base: Path) -> None:
    out = sample(in_policy_type(), policy(base), samples=8, eos_ids=[7], pad_id=PAD)
    assert_well_formed(out, eos_ids=[7])
    assert (out.ids == EOS).any()  # the model's own end, somewhere inside


def test_an_answer_without_the_token_that_ended_it_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = vllm_stub.LLMEngine.step

    def stripped(self: vllm_stub.LLMEngine) -> list[vllm_stub.RequestOutput]:
        outputs = step(self)
        for completion in [completion for output in outputs for completion in output.outputs]:
            completion.token_ids = [token for token in completion.token_ids if token != EOS]
        return outputs

    monkeypatch.setattr(vllm_stub.LLMEngine, "step", stripped)
    with pytest.raises(RuntimeError, match="without the token that ends it"):
        sample(in_policy_type(), policy(base), samples=8)


def test_a_policy_without_adapters_is_refused() -> None:
    with pytest.raises(ValueError, match=r"this policy has none: give policy\.lora, or take NativeEngine"):
        sample(in_policy_type(), small())


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2}},
        {"alpha_pattern": {"q_proj": 2}},
        {"bias": "all"},
        {"init_lora_weights": "pissa"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_an_adapter_that_means_more_than_its_matrices_is_refused(base: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"vLLM does not apply {next(iter(options))}"):
        sample(in_policy_type(), policy(base, **options))


def test_switched_off_adapters_are_refused(base: Path) -> None:
    model = policy(base)
    model.disable_adapters()
    with pytest.raises(ValueError, match="one adapter has to be at work"):
        sample(in_policy_type(), model)


def test_a_base_from_nowhere_has_to_be_named(base: Path, vllm: list[vllm_stub.LLM]) -> None:
    model = policy(base)
    model.config._name_or_path = ""
    with pytest.raises(ValueError, match=r"give engine\.base"):
        sample(in_policy_type(), model)
    assert_exact(model, sample(in_policy_type(base=str(base)), model))


@pytest.mark.parametrize(("rank", "least"), [(1, 1), (9, 16), (33, 64)])
def test_the_rank_is_rounded_up_to_one_that_vllm_takes(base: Path, vllm: list[vllm_stub.LLM], rank: int, least: int) -> None:
    sample(in_policy_type(), policy(base, r=rank), max_new_tokens=1)
    assert vllm[0].arguments["max_lora_rank"] == least


def test_a_rank_that_vllm_does_not_take_is_refused(base: Path) -> None:
    with pytest.raises(ValueError, match="rank 512 at most, got 513"):
        sample(in_policy_type(), policy(base, r=513))


def test_without_vllm_the_extra_is_named(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match=r"pip install 'lit-symbolic\[vllm\]'"):
        sample(in_policy_type(), policy(base))


def test_several_processes_are_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(RuntimeError, match=r"trainer\.devices 1"):
        sample(in_policy_type(), policy(base))


def test_temperatures_that_vllm_would_raise_are_refused(base: Path) -> None:
    with pytest.raises(ValueError, match=r"at temperature 0\.01 and above, or at 0, got 0\.001"):
        sample(in_policy_type(), policy(base), temperature=0.001)


def test_mistakes_in_its_arguments_are_named() -> None:
    for share in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match="gpu_memory_utilization lies in"):
            VLLMEngine(gpu_memory_utilization=share)
    with pytest.raises(ValueError, match=r"engine\.options must not hold \['logprobs_mode'\]"):
        VLLMEngine(options={"logprobs_mode": "raw_logprobs"})
