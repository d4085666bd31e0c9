from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from lit_symbolic.policies import Critic, CriticKind, HuggingFacePolicy, Lora
from lit_symbolic.policies.critic import CRITIC_ADAPTER
from lit_symbolic.policies.forward import response_hidden
from lit_symbolic.policies.tiny import tiny_llama, tiny_tokenizer

KINDS: tuple[CriticKind, ...] = ("head", "adapter", "own")
kinds = pytest.mark.parametrize("kind", KINDS)
PROMPTS, MASK = torch.tensor([[0, 5, 6], [7, 8, 9]]), torch.tensor([[False, True, True], [True] * 3])
IDS, ANSWERS = torch.tensor([[10, 11, 12, 13], [14, 15, 2, 0]]), torch.tensor([[True] * 4, [True, True, True, False]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer([str(i) for i in range(30)])
    tiny_llama(tokenizer, hidden_size=16, layers=2, heads=2, intermediate_size=32).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def policy(folder: Path) -> PreTrainedModel:
    model, _ = HuggingFacePolicy(str(folder), lora=Lora(r=2), dtype="float32").load(())
    return model


def values(critic: Critic, policy: PreTrainedModel, ids: Tensor = IDS) -> Tensor:
    hidden = response_hidden(policy, PROMPTS, MASK, ids, ANSWERS)
    return critic(policy, hidden, PROMPTS, MASK, ids, ANSWERS)


def with_opinions(critic: Critic) -> Critic:
    nn.init.normal_(critic.head.weight)
    return critic


@kinds
def test_all_values_are_zero_at_the_start_and_float32(kind: CriticKind, policy: PreTrainedModel) -> None:
    start = values(Critic(policy, kind), policy)
    assert start.shape == IDS.shape
    assert start.dtype == torch.float32
    assert not start.any()


@kinds
def test_a_value_belongs_to_the_state_before_its_token(kind: CriticKind, policy: PreTrainedModel) -> None:
    critic = with_opinions(Critic(policy, kind))
    with torch.no_grad():
        before = values(critic, policy)
        for t in range(IDS.shape[1]):
            changed = IDS.clone()
            changed[0, t] = 20
            differs = values(critic, policy, changed) != before
            assert differs[0].tolist() == [u > t for u in range(IDS.shape[1])]
            assert not differs[1].any()


@kinds
def test_the_critics_loss_reaches_what_it_should_and_nothing_else(kind: CriticKind, policy: PreTrainedModel) -> None:
    critic = with_opinions(Critic(policy, kind))
    values(critic, policy)[ANSWERS].square().sum().backward()
    reached = {name for name, p in policy.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    adapters = {name.split(".")[-2] for name in reached}
    assert adapters == {"head": {"default"}, "adapter": {CRITIC_ADAPTER}, "own": set()}[kind]
    own = [p.grad is not None for p in critic.own.parameters() if p.requires_grad] if critic.own is not None else []
    assert all(own)
    assert bool(own) is (kind == "own")
    assert critic.head.weight.grad is not None


def test_a_gradient_for_policy_and_critic_adapter_flows_through_one_backward_pass(policy: PreTrainedModel) -> None:
    critic = with_opinions(Critic(policy, "adapter"))
    hidden = response_hidden(policy, PROMPTS, MASK, IDS, ANSWERS)
    both = critic(policy, hidden, PROMPTS, MASK, IDS, ANSWERS).sum() + hidden.sum()
    both.backward()
    layer = policy.model.layers[0].self_attn.q_proj
    for name in ("default", CRITIC_ADAPTER):
        assert layer.lora_B[name].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["adapter", "own"])
def test_an_own_network_or_adapter_says_the_same_however_the_policy_changes(kind: CriticKind, policy: PreTrainedModel) -> None:
    critic = with_opinions(Critic(policy, kind))
    with torch.no_grad():
        before = values(critic, policy)
        for name, parameter in policy.named_parameters():
            if ".default." in name:
                parameter.add_(torch.randn_like(parameter))
        assert torch.equal(values(critic, policy), before)


def test_an_own_network_leaves_out_of_training_the_head_that_it_never_runs() -> None:
    config = LlamaConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    assert not config.tie_word_embeddings
    policy = LlamaForCausalLM(config)
    critic = with_opinions(Critic(policy, "own"))
    values(critic, policy)[ANSWERS].sum().backward()
    assert [name for name, p in critic.named_parameters() if p.requires_grad and p.grad is None] == []
    assert policy.lm_head.weight.requires_grad


@kinds
def test_values_stay_float32_under_autocast_and_in_a_half_precision_module(kind: CriticKind, policy: PreTrainedModel) -> None:
    critic = with_opinions(Critic(policy, kind))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        fine = values(critic, policy)
    assert fine.dtype == torch.float32
    assert (fine != fine.bfloat16().float()).any(), "the head itself ran in bfloat16"
    with torch.no_grad():
        assert values(critic.bfloat16(), policy.bfloat16()).dtype == torch.float32


def test_a_critic_adapter_refuses_a_policy_without_adapters(folder: Path) -> None:
    plain, _ = HuggingFacePolicy(str(folder), dtype="float32").load(())
    with pytest.raises(ValueError, match="no adapter"):
        Critic(plain, "adapter")
