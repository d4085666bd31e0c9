"""Activations that are computed again in the backward pass go through the adapter of the forward pass."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from architectures import save_architecture
from lit_symbolic.objectives.logprobs import token_logprobs
from lit_symbolic.policies import Critic, HuggingFacePolicy, Lora, Reference
from lit_symbolic.policies.adapters import active_adapter
from lit_symbolic.policies.checkpointing import checkpoint_activations
from lit_symbolic.policies.forward import response_hidden

PROMPTS, MASK = torch.tensor([[0, 25, 26], [27, 28, 29]]), torch.tensor([[False, True, True], [True] * 3])
IDS, ANSWERS = torch.tensor([[30, 31, 32, 33], [34, 35, 2, 0]]), torch.tensor([[True] * 4, [True, True, True, False]])
NAMES = ("llama", "gpt_neox", "opt")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: save_architecture(name, folder) for name in NAMES}


def opened(folder: Path, checkpointing: bool, quantization: str = "none") -> tuple[PreTrainedModel, Critic]:
    loader = HuggingFacePolicy(
        str(folder),
        quantization=quantization,  # type: ignore[arg-type]
        lora=Lora(r=2, lora_alpha=2),
        dtype="float32",
        gradient_checkpointing=checkpointing,
    )
    torch.manual_seed(0)
    model = loader.load(())[0].train()
    critic = Critic(model, "adapter")
    with torch.no_grad():
        for parameter in [*model.parameters(), *critic.parameters()]:
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model, critic


def loss_of(model: PreTrainedModel, critic: Critic) -> Tensor:
    """A policy's, a value's and, before them and without gradients, a reference's forward pass, as in PPO."""
    hidden = response_hidden(model, PROMPTS, MASK, IDS, ANSWERS)
    logprobs, _ = token_logprobs(hidden, model.get_output_embeddings(), IDS, ANSWERS)
    values = critic(model, hidden, PROMPTS, MASK, IDS, ANSWERS)
    return logprobs.square().sum() + values[ANSWERS].square().sum()


def gradients(model: PreTrainedModel, critic: Critic) -> dict[str, Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    found |= {f"critic.{name}": p.grad for name, p in critic.named_parameters()}
    return {name: gradient for name, gradient in found.items() if gradient is not None}


@pytest.mark.parametrize(("name", "quantization"), [*((name, "none") for name in NAMES), ("llama", "nf4")])
def test_a_loss_through_two_adapters_has_the_gradients_of_activations_that_were_kept(
    name: str, quantization: str, folders: dict[str, Path]
) -> None:
    found = []
    for checkpointing in (False, True):
        model, critic = opened(folders[name], checkpointing, quantization)
        loss_of(model, critic).backward()
        found.append(gradients(model, critic))
    assert found[0].keys() == found[1].keys()
    for part in ("default", "critic"):
        assert all(found[0][key].abs().sum() > 0 for key in found[0] if f".{part}." in key)
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-5, atol=1e-6, msg=key)


def test_activations_are_in_fact_not_kept(folders: dict[str, Path]) -> None:
    kept = []
    for checkpointing in (False, True):
        model, critic = opened(folders["llama"], checkpointing)
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss_of(model, critic)
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


def test_the_active_adapter_and_what_is_trainable_are_the_same_after_the_backward_pass(folders: dict[str, Path]) -> None:
    model, critic = opened(folders["llama"], True)
    layer = model.model.layers[0].self_attn.q_proj

    def state() -> tuple[list[str], bool, dict[str, bool]]:
        return list(layer.active_adapters), layer.disable_adapters, {n: p.requires_grad for n, p in model.named_parameters()}

    before = state()
    loss = loss_of(model, critic)
    assert state() == before
    loss.backward(retain_graph=True)
    assert state() == before
    once = {name: gradient.clone() for name, gradient in gradients(model, critic).items()}
    loss.backward()
    twice = gradients(model, critic)
    assert state() == before
    for name, gradient in once.items():
        torch.testing.assert_close(twice[name], 2 * gradient, msg=name)


def test_whichever_adapter_is_active_in_the_backward_pass_gradients_go_to_that_of_the_forward_pass(
    folders: dict[str, Path],
) -> None:
    model, critic = opened(folders["llama"], True)
    reference = Reference(model, "adapter")
    loss_of(model, critic).backward()
    wanted = {name: gradient.clone() for name, gradient in gradients(model, critic).items()}
    for name in ("critic", None, "reference"):
        model.zero_grad()
        critic.zero_grad()
        with torch.no_grad(), reference.of(model):
            response_hidden(model, PROMPTS, MASK, IDS, ANSWERS)
        loss = loss_of(model, critic)
        with active_adapter(model, name):
            loss.backward()
        for key, gradient in gradients(model, critic).items():
            torch.testing.assert_close(gradient, wanted[key], msg=f"{key} with {name} active")


def test_a_model_without_blocks_to_recompute_is_refused(folders: dict[str, Path]) -> None:
    model, _ = HuggingFacePolicy(str(folders["llama"]), dtype="float32").load(())
    for module in model.modules():
        if "gradient_checkpointing" in vars(module):
            del module.gradient_checkpointing
    model.model.layers = torch.nn.ModuleList()
    with pytest.raises(ValueError, match="gradient_checkpointing to false"):
        checkpoint_activations(model)
