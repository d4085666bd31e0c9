"""Muon and AdamW as one optimizer, and AdamW with moments in 8 bits: the numbers, and nothing lost in a checkpoint."""

import copy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn

from lit_symbolic.modules import SFTModule
from lit_symbolic.modules.settings import Optimization
from lit_symbolic.optimizers import MuonAdamW, adamw, split_for_muon
from lit_symbolic.policies import Critic, TinyLlama
from tiny import same, weights
from toys import Say


class Net(nn.Module):
    """An embedding, two matrices, vectors and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 4)
        self.up, self.norm, self.down = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 4, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.down(self.norm(self.up(self.embedding(ids)))).square().sum()


def groups_of(net: nn.Module) -> list[dict[str, Any]]:
    return split_for_muon(net, net.parameters())


def train(net: nn.Module, optimizers: list[torch.optim.Optimizer], first: int, last: int) -> None:
    for step in range(first, last):
        ids = torch.randint(7, (5,), generator=torch.Generator().manual_seed(step))
        net(ids).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def test_matrices_inside_go_to_muon_and_the_rest_to_adamw() -> None:
    net = Net()
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    split = {group["muon"]: {names[id(p)] for p in group["params"]} for group in groups_of(net)}
    assert split == {True: {"up.weight", "down.weight"}, False: {"embedding.weight", "up.bias", "norm.weight", "norm.bias"}}


@pytest.mark.parametrize("kind", ["head", "own"])
def test_embeddings_output_heads_and_the_value_head_stay_out_of_muon(kind: Any, tiny_policy: TinyLlama) -> None:
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, _ = tiny_policy.load(["a"])
            self.critic = Critic(self.model, kind)

    module = Module()
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = split_for_muon(module, module.parameters())
    split = {group["muon"]: {names[id(p)] for p in group["params"]} for group in groups}
    assert all(name.endswith("proj.weight") for name in split[True])
    assert {"model.model.embed_tokens.weight", "critic.head.weight", "critic.head.bias"} <= split[False]
    assert len(split[True]) + len(split[False]) == len(names)


def test_each_part_steps_as_torchs_optimizer_alone() -> None:
    """Torch's Muon multiplies in bfloat16: its steps are ours to that precision; AdamW's are the same."""
    ours, theirs, start = Net(), Net(), Net()
    settings = {"lr": 0.02, "weight_decay": 0.1}
    together = MuonAdamW(groups_of(ours), betas=(0.8, 0.9), momentum=0.9, **settings)
    parts = {group["muon"]: group["params"] for group in groups_of(theirs)}
    alone: list[torch.optim.Optimizer] = [
        torch.optim.Muon(parts[True], momentum=0.9, adjust_lr_fn="match_rms_adamw", **settings),
        torch.optim.AdamW(parts[False], betas=(0.8, 0.9), **settings),
    ]
    generator = torch.Generator().manual_seed(0)
    for net, optimizers in ((ours, [together]), (theirs, alone)):
        generator.manual_seed(0)
        for _ in range(5):
            for parameter in net.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            for optimizer in optimizers:
                optimizer.step()
    for (name, parameter), expected, before in zip(ours.named_parameters(), theirs.parameters(), start.parameters(), strict=True):
        if name in ("up.weight", "down.weight"):
            assert (parameter - expected).norm() < 0.02 * (expected - before).norm(), name
        else:
            assert torch.equal(parameter, expected), name


def reference_step(weight: Tensor, gradients: list[Tensor], lr: float, momentum: float, weight_decay: float) -> Tensor:
    """Muon as its author wrote it down, through the singular values, in float64."""
    buffer = torch.zeros_like(weight)
    for gradient in gradients:
        buffer = momentum * buffer + (1 - momentum) * gradient
        update = (1 - momentum) * gradient + momentum * buffer
        left, values, right = torch.linalg.svd(update, full_matrices=False)
        values = values / update.square().sum().sqrt()
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        weight = (1 - lr * weight_decay) * weight - lr * 0.2 * max(weight.shape) ** 0.5 * (left * values) @ right
    return weight


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 6)])
def test_muon_is_its_formula_in_float64(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    start, *gradients = torch.randn(5, *shape, generator=generator, dtype=torch.float64)
    weight = nn.Parameter(start.clone())
    optimizer = MuonAdamW([{"params": [weight], "muon": True}], lr=0.02, momentum=0.9, weight_decay=0.1)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    assert torch.allclose(weight, reference_step(start, gradients, 0.02, 0.9, 0.1), atol=1e-10)


def test_a_restored_optimizer_goes_on_as_the_first_would_have() -> None:
    whole, first, second = Net(), Net(), Net()
    train(whole, [MuonAdamW(groups_of(whole), lr=0.02)], 0, 6)
    before = MuonAdamW(groups_of(first), lr=0.02)
    train(first, [before], 0, 3)
    second.load_state_dict(first.state_dict())
    after = MuonAdamW(groups_of(second), lr=0.5)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    train(second, [after], 3, 6)
    assert same(dict(second.state_dict()), dict(whole.state_dict()))
    assert after.state_dict()["state"].keys() == before.state_dict()["state"].keys()


def test_a_rate_set_on_the_groups_is_the_one_that_counts() -> None:
    for restored in (False, True):
        net = Net()
        optimizer = MuonAdamW(groups_of(net), lr=0.02)
        train(net, [optimizer], 0, 1)
        if restored:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        before = copy.deepcopy(net.state_dict())
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        train(net, [optimizer], 1, 2)
        assert same(dict(net.state_dict()), dict(before))
        optimizer.param_groups[0]["lr"] = 0.1
        train(net, [optimizer], 2, 3)
        assert not torch.equal(net.up.weight, before["up.weight"])
        assert torch.equal(net.embedding.weight, before["embedding.weight"])


def test_a_vector_cannot_be_given_to_muon() -> None:
    with pytest.raises(ValueError, match=r"2D|matri"):
        MuonAdamW([{"params": [nn.Parameter(torch.zeros(3))], "muon": True}], lr=0.1)


def test_one_kind_of_parameter_is_enough() -> None:
    for muon in (True, False):
        weight = nn.Parameter(torch.eye(3))
        optimizer = MuonAdamW([{"params": [weight], "muon": muon}], lr=0.1)
        weight.sum().backward()
        optimizer.step()
        assert not torch.equal(weight, torch.eye(3))
    head = nn.Linear(2, 2)
    assert [group["muon"] for group in split_for_muon(head, [head.bias])] == [False]


def test_a_step_returns_the_closures_loss() -> None:
    net = Net()
    optimizer = MuonAdamW(groups_of(net), lr=0.1)

    def closure() -> torch.Tensor:
        loss = net(torch.tensor([1]))
        loss.backward()
        return loss

    assert optimizer.step(closure).requires_grad


@pytest.mark.parametrize("name", ["adamw8bit", "paged_adamw8bit"])
def test_moments_of_large_tensors_are_held_in_eight_bits_and_steps_are_close_to_those_of_adamw(name: Any) -> None:
    moved = []
    for kind in ("adamw", name):
        torch.manual_seed(0)
        layer = nn.Linear(128, 64)
        optimizer = adamw(kind)(layer.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
        start = layer.weight.detach().clone()
        for step in range(5):
            layer(torch.randn(4, 128, generator=torch.Generator().manual_seed(step))).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        moved.append(layer.weight.detach() - start)
    assert optimizer.state[layer.weight]["state1"].dtype == optimizer.state[layer.weight]["state2"].dtype == torch.uint8
    assert optimizer.state[layer.bias]["state1"].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(moved[0].flatten(), moved[1].flatten(), dim=0) > 0.99
    assert (moved[0] - moved[1]).abs().mean() < 0.05 * moved[0].abs().mean()


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "paged_adamw8bit"])
def test_a_run_resumed_from_its_checkpoint_ends_with_the_weights_of_one_that_was_not(
    name: Any, fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    def module() -> SFTModule:
        policy = TinyLlama(hidden_size=64, layers=1, heads=2, intermediate_size=64, seed=0)
        optimization = Optimization(optimizer=name, learning_rate=0.01, weight_decay=0.1)
        return SFTModule(policy, demonstrations=8, max_new_tokens=6, minibatch_rows=4, optimization=optimization)

    whole, first, second = module(), module(), module()
    fit(whole, Say(), 2)
    trainer = fit(first, Say(), 1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    assert type(trainer.optimizers[0]) is adamw(name)
    resumed = fit(second, Say(), 2, ckpt_path=tmp_path / "one.ckpt")
    assert not same(weights(first.model), weights(whole.model))
    assert same(weights(second.model), weights(whole.model))
    eight = {state["state1"].dtype for state in resumed.optimizers[0].state.values() if "state1" in state}
    assert (torch.uint8 in eight) is (name != "adamw")


def test_the_schedule_reaches_its_ends() -> None:
    for schedule in ("linear", "cosine", "constant"):
        settings = Optimization(warmup_iterations=3, schedule=schedule)  # type: ignore[arg-type]
        factors = [settings.factor(i, 10) for i in range(10)]
        assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
        assert factors[3] == 1.0
        assert all(later <= sooner for sooner, later in pairwise(factors[3:]))
        assert settings.factor(10, 10) == pytest.approx(1.0 if schedule == "constant" else 0.0, abs=1e-7)
