from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from lit_symbolic.objectives.logprobs import token_logprobs
from lit_symbolic.policies import Critic, HuggingFacePolicy, Lora, Reference
from lit_symbolic.policies.forward import response_hidden
from lit_symbolic.policies.tiny import tiny_tokenizer

PROMPTS, IDS = torch.tensor([[4, 5, 6], [7, 8, 9]]), torch.tensor([[10, 11, 12], [14, 15, 2]])
ANSWERS = torch.ones_like(IDS, dtype=torch.bool)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer([str(i) for i in range(30)])
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def policy(folder: Path) -> PreTrainedModel:
    torch.manual_seed(0)
    return HuggingFacePolicy(str(folder), quantization="nf4", lora=Lora(r=4)).load(())[0].train()


def hidden_of(model: PreTrainedModel) -> Tensor:
    return response_hidden(model, PROMPTS, None, IDS, ANSWERS)


def logprobs(model: PreTrainedModel) -> Tensor:
    return token_logprobs(hidden_of(model), model.get_output_embeddings(), IDS, ANSWERS)[0]


def test_the_base_is_held_in_four_bits_and_no_float32_copy_of_embeddings_or_head_exists(policy: PreTrainedModel) -> None:
    quantized = [m for m in policy.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(quantized) == 14
    assert {m.weight.dtype for m in quantized} == {torch.uint8}
    assert {m.weight.quant_state.quant_type for m in quantized} == {"nf4"}
    assert all(m.weight.quant_state.nested for m in quantized)
    assert policy.get_input_embeddings().weight.dtype == policy.get_output_embeddings().weight.dtype == torch.bfloat16
    by_type = (
        {p.dtype for name, p in policy.named_parameters() if ".default." in name},
        {p.dtype for name, p in policy.named_parameters() if ".default." not in name},
    )
    assert by_type == ({torch.float32}, {torch.uint8, torch.bfloat16})
    assert {name for name, p in policy.named_parameters() if p.requires_grad} == {
        name for name, _ in policy.named_parameters() if ".default." in name
    }


@pytest.mark.parametrize("no_gradients", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_gradients_reach_every_adapter_also_after_sampling_without_gradients(
    no_gradients: type[torch.no_grad], policy: PreTrainedModel
) -> None:
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    start = logprobs(policy)
    policy.eval()
    with no_gradients():
        policy(input_ids=torch.cat([PROMPTS, IDS], dim=1))
    policy.train()
    again = logprobs(policy)
    assert torch.equal(again, start)
    again.sum().backward()
    reached = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    # A starts at random and B at zero: at first only B has a gradient.
    assert reached == {name for name, _ in policy.named_parameters() if ".lora_B." in name}
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


def test_gradients_are_those_of_the_dequantized_weights(policy: PreTrainedModel, folder: Path) -> None:
    torch.manual_seed(0)
    plain, _ = HuggingFacePolicy(str(folder), lora=Lora(r=4), dtype="bfloat16").load(())
    for (name, target), (_, source) in zip(plain.named_modules(), policy.named_modules(), strict=True):
        if isinstance(source, bnb.nn.Linear4bit):
            assert isinstance(target, torch.nn.Linear), name
            target.weight.data = bnb.functional.dequantize_4bit(source.weight.data, source.weight.quant_state).view_as(
                target.weight
            )
    generator = torch.Generator().manual_seed(1)
    for (name, one), (_, other) in zip(plain.named_parameters(), policy.named_parameters(), strict=True):
        if ".default." in name:
            one.data = 0.1 * torch.randn(one.shape, generator=generator)
            other.data = one.data.clone()
    gradients = []
    for model in (plain, policy):
        logprobs(model).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0)
    assert cosine > 0.99


def test_adapters_serve_as_reference_and_critic_and_copies_of_the_base_are_refused(policy: PreTrainedModel) -> None:
    with torch.no_grad():
        start = logprobs(policy)
    reference, critic = Reference(policy, "auto"), Critic(policy, "adapter")
    assert reference.kind == "adapter"
    torch.nn.init.ones_(critic.head.weight)
    critic(policy, hidden_of(policy), PROMPTS, None, IDS, ANSWERS).sum().backward()
    assert {name.split(".")[-2] for name, p in policy.named_parameters() if p.grad is not None} == {"critic"}
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if ".default." in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        assert (logprobs(policy) - start).abs().max() > 0.01
        with reference.of(policy) as model:
            assert torch.equal(logprobs(model), start)
    with pytest.raises(ValueError, match="quantized"):
        Reference(policy, "copy")
    with pytest.raises(ValueError, match="quantized"):
        Critic(policy, "own")
