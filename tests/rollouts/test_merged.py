from __future__ import annotations

import copy
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GPT2Config, LlamaConfig, PreTrainedModel, Qwen2Config

from lit_symbolic.policies.loaders import keep_cpu_weights_packed
from lit_symbolic.rollouts.engine import Generation, SamplingSettings
from lit_symbolic.rollouts.llama import LlamaWeights
from lit_symbolic.rollouts.merged import MergedCopy
from lit_symbolic.rollouts.native import NativeEngine

IDS = torch.tensor([[5, 6, 7, 8, 9]])
SIZES: dict[str, Any] = {"vocab_size": 24, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = LlamaConfig(**SIZES, intermediate_size=64, num_key_value_heads=2)
CONFIGS = {
    "Llama": LLAMA,
    "Qwen2, tied, with biases": Qwen2Config(**SIZES, intermediate_size=64, num_key_value_heads=2, tie_word_embeddings=True),
    "GPT-2, weights transposed": GPT2Config(vocab_size=24, n_embd=32, n_layer=2, n_head=4, n_positions=32),
}


def build(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).float().eval()


def adapted(model: PreTrainedModel, **options: Any) -> PreTrainedModel:
    lora = LoraConfig(**{"r": 2, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **options})
    model.add_adapter(lora, adapter_name="default")
    disturb(model)
    return model


def disturb(model: nn.Module, size: float = 0.1) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn_like(parameter))


@pytest.fixture(scope="module")
def quantized_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("llama")
    build(LLAMA).save_pretrained(folder)
    return str(folder)


def quantized(folder: str) -> PreTrainedModel:
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32
    )
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=torch.float32).eval()
    keep_cpu_weights_packed(model)
    return model


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model(input_ids=IDS, use_cache=False).logits.float()


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"modules_to_save": ["lm_head"]}], ids=str)
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_copy_in_float32_computes_what_the_adapted_model_does_before_and_after_a_step(
    name: str, options: dict[str, Any]
) -> None:
    model = adapted(build(CONFIGS[name]), **options)
    merged = MergedCopy(model, torch.float32)
    close(logits(merged.model), logits(model))
    before = logits(merged.model)
    disturb(model)
    assert torch.equal(logits(merged.model), before)
    merged.refresh()
    assert not torch.allclose(logits(merged.model), before, atol=1e-3)
    close(logits(merged.model), logits(model))


def test_nothing_is_left_of_adapters_and_the_model_is_as_it_was() -> None:
    model = get_peft_model(build(LLAMA), LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    merged = MergedCopy(model, torch.bfloat16)
    assert LlamaWeights.supports(merged.model)
    assert merged.bytes == 2 * sum(p.numel() for p in build(LLAMA).parameters())
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in merged.model.parameters()}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [name for name, p in model.named_parameters() if p.requires_grad]


def test_with_adapters_off_the_copy_is_the_base() -> None:
    model = adapted(build(LLAMA))
    model.disable_adapters()
    close(logits(MergedCopy(model, torch.float32).model), logits(build(LLAMA)))


def test_four_bit_weights_are_dequantized_into_the_copy_and_stay_packed_themselves(quantized_folder: str) -> None:
    model = adapted(quantized(quantized_folder))
    packed = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    bits = [module.weight.data.clone() for module in packed]
    merged = MergedCopy(model, torch.float32)
    assert LlamaWeights.supports(merged.model)
    close(logits(merged.model), logits(model))
    disturb(model)
    merged.refresh()
    close(logits(merged.model), logits(model))
    for module, before in zip(packed, bits, strict=True):
        assert module.weight.dtype == torch.uint8
        assert torch.equal(module.weight.data, before)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True, "target_modules": ["q_proj"]}], ids=str)
def test_an_adapter_that_is_more_than_a_sum_is_refused(options: dict[str, Any]) -> None:
    config = Qwen2Config(**SIZES, intermediate_size=64, num_key_value_heads=2)
    with pytest.raises(ValueError, match=r"no plain LoRA .* dtype: policy"):
        MergedCopy(adapted(build(config), **options), torch.float32)


def sampled(engine: NativeEngine, model: PreTrainedModel) -> Generation:
    return engine.generate(model, [[1, 5, 9], [1, 7]], 4, SamplingSettings(6), [2], 0, torch.Generator().manual_seed(0))


@torch.no_grad()
def gap(model: PreTrainedModel, out: Generation) -> float:
    """Largest difference between an engine's log-probs and those of a plain forward pass."""
    largest = 0.0
    for row, length in enumerate(out.lengths.tolist()):
        prompt, answer = ([1, 5, 9], [1, 7])[row // 4], out.ids[row, :length]
        scores = model(input_ids=torch.tensor([[*prompt, *answer.tolist()]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
        expected = scores.float().log_softmax(-1).gather(1, answer[:, None]).squeeze(1)
        largest = max(largest, float((expected - out.logprobs[row, :length]).abs().max()))
    return largest


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "generic"])
@pytest.mark.parametrize("lora", [False, True], ids=["all weights", "adapter"])
def test_sampling_in_bfloat16_gives_the_logprobs_of_a_bfloat16_forward_pass(lora: bool, fused: bool) -> None:
    model = adapted(build(LLAMA)) if lora else build(LLAMA)
    engine = NativeEngine(dtype="bfloat16", fused=fused)
    for _ in range(2):
        out = sampled(engine, model)
        rounded = copy.deepcopy(MergedCopy(model, torch.bfloat16).model)
        assert 1e-6 < gap(model, out) < 0.05  # it is another distribution, and a near one
        assert gap(rounded, out) < 0.05
        disturb(model, 0.03)
    assert not engine.exact
    assert NativeEngine().exact
    assert model.dtype == torch.float32
    engine.release()
    sampled(engine, model)


def test_a_policy_in_bfloat16_is_sampled_by_the_fused_decoder_with_the_logprobs_of_its_forward_pass() -> None:
    model = build(LLAMA).bfloat16()
    assert LlamaWeights.supports(model)
    assert gap(model, sampled(NativeEngine(), model)) < 0.05


def test_autocast_does_not_round_what_a_bfloat16_copy_keeps() -> None:
    model, engine = build(LLAMA), NativeEngine(dtype="bfloat16")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = sampled(engine, model)
    assert torch.equal(under.logprobs, sampled(engine, model).logprobs)


def test_the_copy_of_one_model_is_not_sampled_from_for_another() -> None:
    engine = NativeEngine(dtype="bfloat16", fused=False)
    first, second = build(LLAMA), adapted(build(LLAMA))
    sampled(engine, first)
    assert gap(second, sampled(engine, second)) < 0.05
