import copy

import pytest
import torch
from peft import LoraConfig
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from lit_symbolic.policies.adapters import active_adapter, clone_adapter, has_adapters

IDS = torch.tensor([[5, 6, 7, 8]])


def base(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    return LlamaForCausalLM(config).to(dtype).requires_grad_(False).eval()


def adapted(**options: bool) -> LlamaForCausalLM:
    model = base()
    model.add_adapter(LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", **options), adapter_name="default")
    disturb(model, "default")
    return model


def disturb(model: LlamaForCausalLM, name: str) -> None:
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if f".{name}." in key:
                parameter.add_(0.3 * torch.randn_like(parameter))


def logits(model: LlamaForCausalLM) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


def state(model: LlamaForCausalLM) -> tuple[dict[str, bool], list[str], bool]:
    layer = model.model.layers[0].self_attn.q_proj
    return {name: p.requires_grad for name, p in model.named_parameters()}, list(layer.active_adapters), layer.disable_adapters


def test_with_no_adapter_named_the_model_is_its_base() -> None:
    model = adapted()
    assert has_adapters(model)
    assert not has_adapters(base())
    with active_adapter(model, None):
        assert torch.equal(logits(model), logits(base()))
    assert not torch.allclose(logits(model), logits(base()), atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}, {"lora_bias": True}], ids=str)
def test_a_cloned_adapter_computes_what_its_source_does_and_then_goes_its_own_way(options: dict[str, bool]) -> None:
    model = adapted(**options)
    before = logits(model)
    clone_adapter(model, "default", "other", trainable=True)
    with active_adapter(model, "other"):
        assert torch.equal(logits(model), before)
    disturb(model, "default")
    assert not torch.allclose(logits(model), before, atol=1e-3)
    with active_adapter(model, "other"):
        assert torch.equal(logits(model), before)


def test_a_clone_keeps_the_type_of_its_source_beside_a_base_of_another() -> None:
    model = base(torch.bfloat16)
    model.add_adapter(LoraConfig(r=2, target_modules="all-linear"), adapter_name="default")
    for name, parameter in model.named_parameters():
        if ".default." in name:
            parameter.data = parameter.data.float()
    disturb(model, "default")
    before = logits(model)
    clone_adapter(model, "default", "other", trainable=False)
    with active_adapter(model, "other"):
        assert torch.equal(logits(model), before)


@pytest.mark.parametrize("trainable", [True, False])
def test_cloning_leaves_the_rest_as_trainable_as_it_was(trainable: bool) -> None:
    model = adapted()
    flags, active, disabled = state(model)
    clone_adapter(model, "default", "other", trainable)
    after, *switches = state(model)
    assert switches == [active, disabled]
    assert {name: flag for name, flag in after.items() if ".other." not in name} == flags
    assert {flag for name, flag in after.items() if ".other." in name} == {trainable}


@pytest.mark.parametrize("name", ["other", "frozen", "default", None])
def test_switching_leaves_no_trace_and_changes_nothing_that_is_trainable(name: str | None) -> None:
    model = adapted()
    clone_adapter(model, "default", "other", trainable=True)
    clone_adapter(model, "default", "frozen", trainable=False)
    before = state(model)
    with active_adapter(model, name):
        assert state(model)[0] == before[0]
    assert state(model) == before
    with pytest.raises(RuntimeError, match="in the middle"), active_adapter(model, name):
        raise RuntimeError("in the middle")
    assert state(model) == before


def test_switches_may_stand_inside_each_other() -> None:
    model = adapted()
    clone_adapter(model, "default", "other", trainable=True)
    disturb(model, "other")
    with active_adapter(model, "other"):
        other = logits(model)
        with active_adapter(model, None):
            assert torch.equal(logits(model), logits(base()))
        assert torch.equal(logits(model), other)
    assert not torch.equal(logits(model), other)


@pytest.mark.parametrize("inference", [True, False])
def test_switching_works_where_no_gradients_are_wanted(inference: bool) -> None:
    model = adapted()
    before = state(model)
    with torch.inference_mode(inference), torch.no_grad(), active_adapter(model, None):
        model(IDS)
    assert state(model) == before
    model(IDS).logits.sum().backward()
    assert model.model.layers[0].self_attn.q_proj.lora_A["default"].weight.grad is not None


def test_an_unknown_adapter_and_a_model_without_adapters_are_refused_and_nothing_is_switched() -> None:
    with pytest.raises(ValueError, match="carries no adapters"), active_adapter(base(), None):
        pass
    with pytest.raises(ValueError, match="give policy"):
        clone_adapter(base(), "default", "other", trainable=True)
    model = adapted()
    before = state(model)
    with pytest.raises(ValueError, match="no adapter 'nobody'"), active_adapter(model, "nobody"):
        pass
    assert state(model) == before


def test_a_copied_model_has_adapters_of_its_own() -> None:
    model = adapted()
    twin = copy.deepcopy(model)
    before = logits(twin)
    disturb(model, "default")
    assert torch.equal(logits(twin), before)
