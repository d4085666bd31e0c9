"""The engine on transformers' continuous batching: what it leaves behind, and what happens when its thread fails."""

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
from transformers.generation.continuous_batching import ContinuousBatchingManager

from engine_checks import EOS, PROMPTS, assert_exact, assert_well_formed, sample, small
from lit_symbolic.rollouts.continuous_batching import ContinuousBatchingEngine


def test_answers_are_reported_while_others_are_still_being_sampled() -> None:
    seen: list[tuple[int, bool]] = []

    def report(rows: list[int], ids: list[list[int]]) -> None:
        # The thread that samples has a name of its own; it is gone when nothing is left to sample.
        seen.append((len(ids[0]), any("_run_generation_loop" in thread.name for thread in threading.enumerate())))

    sample(ContinuousBatchingEngine(), small(), samples=8, on_finished=report)
    lengths = [length for length, _ in seen]
    assert lengths == sorted(lengths)  # in the order in which they end
    assert lengths[0] < lengths[-1]
    assert all(alive for _, alive in seen)


@pytest.mark.parametrize("limits", [{"max_rows": 1}, {"max_rows": 3, "batch_tokens": 1}, {"page_size": 64}], ids=str)
def test_a_cache_too_small_for_all_rows_makes_them_wait_and_changes_no_logprob(limits: dict[str, int]) -> None:
    model = small()
    out = sample(ContinuousBatchingEngine(**{"page_size": 4, **limits}), model, samples=8, eos_ids=[EOS])
    assert_well_formed(out, eos_ids=[EOS])
    assert_exact(model, out)


def test_samples_of_a_prompt_share_its_reading() -> None:
    model, prompt = small(), [1, *range(5, 20)]
    fed: list[int] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: fed.append(kwargs["input_ids"].shape[1]),
        with_kwargs=True,
    )
    sample(ContinuousBatchingEngine(), model, [prompt], samples=8, max_new_tokens=3, eos_ids=[])
    assert sum(fed) == len(prompt) - 1 + 8 * 3  # the prompt's last token is read by each sample


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_attention_of_the_model_is_restored(attention: str) -> None:
    model = small(attn_implementation=attention)
    out = sample(ContinuousBatchingEngine(), model)
    assert model.config._attn_implementation == attention
    assert_exact(model, out)


def test_an_attention_that_cannot_read_pages_is_refused() -> None:
    model = small(attn_implementation="flex_attention")
    with pytest.raises(ValueError, match="flex_attention"):
        sample(ContinuousBatchingEngine(), model)
    assert model.config._attn_implementation == "flex_attention"


@pytest.mark.parametrize("fails", [False, True], ids=["", "after an exception"])
def test_no_thread_and_no_manager_stay(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    managers: list[weakref.ref[ContinuousBatchingManager]] = []
    start = ContinuousBatchingManager.start

    def noting(self: ContinuousBatchingManager) -> None:
        managers.append(weakref.ref(self))
        start(self)

    def report(rows: list[int], ids: list[list[int]]) -> None:
        if fails:
            raise KeyError("stop")

    monkeypatch.setattr(ContinuousBatchingManager, "start", noting)
    threads, frozen = threading.active_count(), gc.get_freeze_count()
    try:
        sample(ContinuousBatchingEngine(), small(), max_new_tokens=40, eos_ids=[EOS], on_finished=report)
    except KeyError:
        assert fails
    assert threading.active_count() == threads
    assert gc.get_freeze_count() == frozen
    gc.collect()
    assert [manager() for manager in managers] == [None]


def test_what_goes_wrong_in_its_thread_is_told(caplog: pytest.LogCaptureFixture) -> None:
    model = small()

    def broken(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the model is on fire")

    model.model.layers[1].register_forward_pre_hook(broken)
    threads = threading.active_count()
    with pytest.raises(RuntimeError, match=r"continuous batching failed on row .*: the model is on fire"):
        sample(ContinuousBatchingEngine(), model)
    assert threading.active_count() == threads


def test_it_samples_under_the_trainers_autocast_to_the_type_of_the_weights() -> None:
    model = small().bfloat16()
    types: set[torch.dtype] = set()
    model.model.layers[0].register_forward_hook(
        lambda module, args, output: types.add(
            torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        )
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = sample(ContinuousBatchingEngine(), model)
        assert_exact(model, out, tolerance=0.15)
    assert types == {torch.bfloat16}
    sample(ContinuousBatchingEngine(), model)
    assert types == {torch.bfloat16, torch.float32}


def test_autocast_to_another_type_than_the_weights_is_refused() -> None:
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(ValueError, match=r"torch.float32.*torch.bfloat16.*NativeEngine"),
    ):
        sample(ContinuousBatchingEngine(), small())


def test_it_says_that_an_answer_depends_on_others() -> None:
    assert not ContinuousBatchingEngine().reproducible
    model = small()
    some = sample(ContinuousBatchingEngine(), model, PROMPTS[:1], samples=4)
    more = sample(ContinuousBatchingEngine(), model, PROMPTS, samples=4)
    assert not torch.equal(some.ids[:4], more.ids[:4, : some.ids.shape[1]])


def test_sizes_out_of_range_are_named() -> None:
    for mistake in ({"max_rows": 0}, {"page_size": 3}, {"batch_tokens": 0}):
        (name, value), *_ = mistake.items()
        with pytest.raises(ValueError, match=rf"{name} must be at least \d, got {value}"):
            ContinuousBatchingEngine(**mistake)
