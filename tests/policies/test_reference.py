from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_symbolic.modules.saving import load_start
from lit_symbolic.objectives.logprobs import token_logprobs
from lit_symbolic.policies import Critic, HuggingFacePolicy, Lora, Reference, ReferenceKind
from lit_symbolic.policies.forward import response_hidden
from lit_symbolic.policies.tiny import tiny_llama, tiny_tokenizer

PROMPTS, MASK = torch.tensor([[0, 5, 6], [7, 8, 9]]), torch.tensor([[False, True, True], [True] * 3])
IDS, ANSWERS = torch.tensor([[10, 11, 12, 13], [14, 15, 2, 0]]), torch.tensor([[True] * 4, [True, True, True, False]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer([str(i) for i in range(30)])
    tiny_llama(tokenizer, hidden_size=16, layers=2, heads=2, intermediate_size=32).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def opened(folder: Path, adapted: bool = True) -> PreTrainedModel:
    return HuggingFacePolicy(str(folder), lora=Lora(r=2) if adapted else None, dtype="float32").load(())[0]


def logprobs(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        hidden = response_hidden(model, PROMPTS, MASK, IDS, ANSWERS)
        return token_logprobs(hidden, model.get_output_embeddings(), IDS, ANSWERS)[0]


def reference_logprobs(reference: Reference, policy: PreTrainedModel) -> Tensor:
    with reference.of(policy) as model:
        return logprobs(model)


def train(policy: PreTrainedModel) -> None:
    """One large step on everything that is trainable."""
    hidden = response_hidden(policy, PROMPTS, MASK, IDS, ANSWERS)
    token_logprobs(hidden, policy.get_output_embeddings(), IDS, ANSWERS)[0].sum().backward()
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.grad is not None:
                parameter.add_(parameter.grad.sign() + 0.1 * torch.randn_like(parameter), alpha=0.1)


@pytest.mark.parametrize(
    ("kind", "adapted"),
    [("adapters_off", True), ("adapter", True), ("copy", True), ("copy", False), ("auto", True), ("auto", False)],
)
def test_the_reference_keeps_the_logprobs_of_the_start_while_the_policy_is_trained(
    kind: ReferenceKind, adapted: bool, folder: Path
) -> None:
    policy = opened(folder, adapted)
    start = logprobs(policy)
    reference = Reference(policy, kind)
    assert torch.equal(reference_logprobs(reference, policy), start)
    for _ in range(3):
        train(policy)
    assert (logprobs(policy) - start).abs().max() > 0.01
    assert torch.equal(reference_logprobs(reference, policy), start)


def test_the_reference_of_a_fine_tuned_policy_is_the_fine_tuned_policy_and_not_its_base(folder: Path, tmp_path: Path) -> None:
    tuned = opened(folder)
    for _ in range(3):
        train(tuned)
    tuned.save_pretrained(tmp_path)
    start = logprobs(tuned)
    base = logprobs(opened(folder))
    assert (start - base).abs().max() > 0.01
    loader = HuggingFacePolicy(str(folder), lora=Lora(r=2), dtype="float32")
    for kind, wanted in (("auto", start), ("copy", start), ("adapters_off", base)):
        policy, _ = load_start(loader, str(tmp_path), ())
        reference = Reference(policy, kind)  # type: ignore[arg-type]
        train(policy)
        torch.testing.assert_close(reference_logprobs(reference, policy), wanted)


@pytest.mark.parametrize("kind", ["adapters_off", "adapter", "copy"])
def test_nothing_of_a_reference_is_trainable_and_what_was_trainable_stays_so(kind: ReferenceKind, folder: Path) -> None:
    policy = opened(folder)
    before = {name for name, p in policy.named_parameters() if p.requires_grad}
    reference = Reference(policy, kind)
    assert {name for name, p in policy.named_parameters() if p.requires_grad} == before
    assert not any(p.requires_grad for p in reference.parameters())
    reference_logprobs(reference, policy)
    train(policy)
    assert {name for name, p in policy.named_parameters() if p.grad is not None} == before
    assert all(p.grad is None for p in reference.parameters())


def test_reference_and_critic_adapters_stand_beside_each_other(folder: Path) -> None:
    policy = opened(folder)
    train(policy)
    start = logprobs(policy)
    reference, critic = Reference(policy, "adapter"), Critic(policy, "adapter")
    hidden = response_hidden(policy, PROMPTS, MASK, IDS, ANSWERS)
    critic.head.weight.data.fill_(1.0)
    critic(policy, hidden, PROMPTS, MASK, IDS, ANSWERS).sum().backward()
    assert {name.split(".")[-2] for name, p in policy.named_parameters() if p.grad is not None} >= {"critic"}
    assert all(p.grad is None for name, p in policy.named_parameters() if ".reference." in name)
    train(policy)
    assert torch.equal(reference_logprobs(reference, policy), start)


def test_a_frozen_copy_stays_in_eval_mode(folder: Path) -> None:
    policy = opened(folder).train()
    reference = Reference(policy, "copy")
    reference.train()
    assert reference.frozen is not None
    assert not reference.frozen.training
    assert policy.training


@pytest.mark.parametrize("kind", ["adapters_off", "adapter"])
def test_adapters_as_reference_are_refused_of_a_policy_without(kind: ReferenceKind, folder: Path) -> None:
    with pytest.raises(ValueError, match="adapter"):
        Reference(opened(folder, adapted=False), kind)
