from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from lit_symbolic.rollouts.graphs import WARM_UP_RUNS, GraphDecoder
from lit_symbolic.rollouts.native import NativeEngine
from plain_llama import EQUAL, SIZES, UNEQUAL, assert_equals_plain_forward, build, llama, sample


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A stand-in for the capture: what would be replayed is run again, and must find all it needs where it was."""
    captures: list[int] = []

    def capture(run: Callable[[], None]) -> Callable[[], None]:
        decoder: Any = run.__self__  # type: ignore[attr-defined]

        def held() -> list[tuple[int, torch.Size]]:
            kept = [decoder.tokens, decoder.positions, decoder.column, decoder.seen]
            kept += [states for layer in decoder.layers for states in (layer.keys, layer.values)]
            return [(tensor.data_ptr(), tensor.shape) for tensor in kept]

        for _ in range(WARM_UP_RUNS + 1):
            run()
        captures.append(len(decoder.tokens))
        before = held()

        def replay() -> None:
            assert held() == before
            run()

        return replay

    monkeypatch.setattr("lit_symbolic.rollouts.graphs.capture", capture)
    monkeypatch.setattr(NativeEngine, "_as_graph", lambda self, model, steps: GraphDecoder.supports(model))
    return captures


CONFIGS: dict[str, Any] = {
    "Llama": lambda: llama(kv_heads=2),
    "GPT-NeoX": lambda: build(transformers.GPTNeoXConfig(**SIZES, intermediate_size=48)),
    "Qwen2": lambda: build(transformers.Qwen2Config(**SIZES, intermediate_size=48, num_key_value_heads=2)),
    "Gemma": lambda: build(transformers.GemmaConfig(**SIZES, intermediate_size=48, num_key_value_heads=1, head_dim=16)),
    "OPT": lambda: build(transformers.OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64)),
}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("prompts", [EQUAL, UNEQUAL], ids=["equal prompts", "padded prompts"])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_replayed_steps_give_the_logprobs_of_a_plain_forward_pass(
    graphs: list[int], name: str, prompts: list[list[int]], attention: str
) -> None:
    model = CONFIGS[name]()
    model.set_attn_implementation(attention)
    out = sample(model, prompts, samples=8, eos_ids=[2, 3, 4])
    assert out.lengths.min() < out.lengths.max()
    assert graphs
    assert_equals_plain_forward(model, out, prompts)


def test_rows_that_leave_are_made_up_to_a_power_of_two_and_captured_once_for_each(graphs: list[int]) -> None:
    model = llama()
    out = sample(model, samples=16, eos_ids=[2, 3, 4], compact_share=1e-6)
    assert graphs[0] == 48
    assert len(graphs) > 2
    assert graphs == sorted(set(graphs), reverse=True)
    assert all(size in (8, 16, 32) for size in graphs[1:])
    assert_equals_plain_forward(model, out, UNEQUAL)


def test_delayed_looks_go_with_graphs(graphs: list[int]) -> None:
    model = llama()
    one = sample(model, samples=8, check_every=3)
    assert graphs
    assert_equals_plain_forward(model, one, UNEQUAL)


def test_a_window_or_an_attention_without_such_masks_is_left_to_the_plain_decoder() -> None:
    assert GraphDecoder.supports(llama())
    mistral = transformers.MistralConfig(**SIZES, intermediate_size=48, num_key_value_heads=2, sliding_window=5)
    assert not GraphDecoder.supports(build(mistral))
    other = llama()
    other.config._attn_implementation = "flash_attention_2"
    assert not GraphDecoder.supports(other)


def test_on_a_cpu_and_for_short_answers_nothing_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run: Callable[[], None]) -> Callable[[], Tensor]:
        raise AssertionError

    monkeypatch.setattr("lit_symbolic.rollouts.graphs.capture", fail)
    sample(llama(), fused=False, max_new_tokens=40)
    on_gpu: Any = type("OnGpu", (), {"device": torch.device("cuda"), "config": llama().config})()
    assert NativeEngine()._as_graph(on_gpu, 40)
    assert not NativeEngine()._as_graph(on_gpu, 31)
    assert not NativeEngine(cuda_graphs="off")._as_graph(on_gpu, 40)
