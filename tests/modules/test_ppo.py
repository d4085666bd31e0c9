"""PPO: its loss against plain loops, its bookkeeping, every critic and reference."""

import itertools
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from bandits import BANDIT, TEMPTING, Metrics, imitating
from callbacks import VerifierReward
from lit_symbolic.modules import PPOModule
from lit_symbolic.modules.minibatches import Minibatch
from lit_symbolic.modules.settings import KL, Advantage, Evaluation, Optimization
from lit_symbolic.policies import TinyLlama
from lit_symbolic.policies.adapters import belongs_to
from lit_symbolic.policies.loaders import HuggingFacePolicy, Lora, PolicyLoader
from lit_symbolic.rewards import SchemeName
from tiny import prompt_in, same, weights
from toys import Arbitrary, FindsWord, Say

Fit = Callable[..., Trainer]
NOISE = Say(judge=Arbitrary())
"""Whatever an untrained model writes gets some score or other."""


def ppo(policy: PolicyLoader, **options: Any) -> PPOModule:
    """16 rollouts of 6 tokens in one minibatch, used once."""
    settings: dict[str, Any] = {
        "problems": 4,
        "samples": 4,
        "epochs": 1,
        "max_new_tokens": 6,
        "minibatch_rows": 16,
        "critic_warmup_iterations": 0,
        "optimization": Optimization(learning_rate=1e-2),
        "evaluation": Evaluation(samples=2, pass_at=(1, 2)),
        **options,
    }
    return PPOModule(policy, **settings)


def paid() -> VerifierReward:
    """The scheme that gives an untrained model something to learn from: it seldom ends an answer."""
    return VerifierReward("token", workers=1)


@pytest.fixture(scope="module")
def adapted_policy(tiny_policy: TinyLlama, tmp_path_factory: pytest.TempPathFactory) -> HuggingFacePolicy:
    """A saved model, opened with LoRA."""
    folder = tmp_path_factory.mktemp("base")
    model, tokenizer = tiny_policy.load(Say().vocabulary())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return HuggingFacePolicy(str(folder), dtype="float32", lora=Lora(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"]))


class Weights(Callback):
    """Keeps the weights before training and after each iteration."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.kept.append(weights(pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.kept.append(weights(pl_module))

    def changed(self, iteration: int) -> set[str]:
        """Kinds of weights that iteration ``iteration`` (from 1) moved."""
        before, after = self.kept[iteration - 1 : iteration + 1]
        return {kind_of(name) for name in before if not torch.equal(before[name], after[name])}


def kind_of(name: str) -> str:
    if name.startswith("critic.") or belongs_to(name, "critic"):
        return "critic"
    if name.startswith("reference.") or belongs_to(name, "reference"):
        return "reference"
    return "policy" if belongs_to(name, "default") else name if name == "kl_coefficient" else "base"


# ---------------------------------------------------------------- critics and references

PLAIN = [(c, r, False, "adamw") for c, r in itertools.product(["head", "own"], ["auto", "copy"])]
ADAPTED = [
    (c, r, True, "adamw") for c, r in itertools.product(["head", "adapter", "own"], ["auto", "adapters_off", "adapter", "copy"])
]
MUON = [("head", "auto", False, "muon"), ("own", "auto", False, "muon"), ("adapter", "auto", True, "muon")]


@pytest.mark.parametrize(("critic", "reference", "lora", "optimizer"), [*PLAIN, *ADAPTED, *MUON])
def test_while_the_critic_warms_up_no_weight_of_the_policy_moves(
    critic: Any,
    reference: Any,
    lora: bool,
    optimizer: Any,
    tiny_policy: TinyLlama,
    adapted_policy: HuggingFacePolicy,
    fit: Fit,
) -> None:
    settings = Optimization(learning_rate=1e-2, weight_decay=0.1, optimizer=optimizer)
    module = ppo(
        adapted_policy if lora else tiny_policy,
        critic=critic,
        reference=reference,
        critic_warmup_iterations=1,
        epochs=2,
        optimization=settings,
    )
    notes = Weights()
    trainer = fit(module, NOISE, 3, [paid(), notes])
    learned = "policy" if lora else "base"
    assert notes.changed(1) == {"critic"}
    assert notes.changed(2) == {"critic", learned}
    assert notes.changed(3) == {"critic", learned}
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["train/kl"] != 0, "the policy has left the reference, and the reference has not come along"


@pytest.mark.parametrize("option", [{"critic": "adapter"}, {"reference": "adapter"}, {"reference": "adapters_off"}])
def test_adapters_are_refused_where_the_policy_has_none(option: dict[str, Any], tiny_policy: TinyLlama, fit: Fit) -> None:
    with pytest.raises((ValueError, MisconfigurationException), match=r"policy\.lora"):
        fit(ppo(tiny_policy, **option), NOISE)


def test_kl_in_the_reward_is_refused_where_an_answer_ends_at_its_first_fault(tiny_policy: TinyLlama, fit: Fit) -> None:
    for scheme in ("until_error", "boolean"):
        module = ppo(tiny_policy, kl=KL(place="reward"))
        callbacks = [VerifierReward(scheme, workers=1)]  # type: ignore[arg-type]
        if scheme == "until_error":
            with pytest.raises(MisconfigurationException, match="failing early would be the cheapest answer"):
                fit(module, NOISE, callbacks=callbacks)
        else:
            fit(module, NOISE, callbacks=callbacks)


@pytest.mark.parametrize(
    "bad",
    [
        {"problems": 0},
        {"samples": 0},
        {"epochs": 0},
        {"clip": 0.0},
        {"clip": 1.0},
        {"temperature": 0.0},
        {"max_new_tokens": 0},
    ],
)
def test_numbers_out_of_range_are_refused(bad: dict[str, Any], tiny_policy: TinyLlama) -> None:
    with pytest.raises(ValueError, match=str(next(iter(bad)))):
        ppo(tiny_policy, **bad)
    for settings in ({"coefficient": -0.1}, {"horizon": 0}, {"target": 0.0}):
        with pytest.raises(ValueError, match="kl"):
            KL(**settings)  # type: ignore[arg-type]


# ---------------------------------------------------------------- ratios and KL


@pytest.mark.parametrize("critic", ["head", "own"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("source", "precision"), [("engine", "32-true"), ("recompute", "32-true"), ("recompute", "bf16-mixed")])
def test_the_first_ratio_is_one(
    source: Any, precision: str, temperature: float, critic: Any, tiny_policy: TinyLlama, fit: Fit
) -> None:
    module = ppo(tiny_policy, old_logprobs=source, critic=critic, temperature=temperature)
    trainer = fit(module, NOISE, 2, [paid()], precision=precision)
    ratio = float(trainer.callback_metrics["train/ratio_max"])
    if source == "recompute":
        assert ratio == 1.0
        assert float(trainer.callback_metrics["train/approx_kl"]) == 0.0
    else:
        assert abs(ratio - 1.0) < 1e-4
    assert float(trainer.callback_metrics["train/clipfrac"]) == 0.0


def test_later_ratios_are_not_one(tiny_policy: TinyLlama, fit: Fit) -> None:
    trainer = fit(ppo(tiny_policy, epochs=3), NOISE, callbacks=[paid()])
    assert float(trainer.callback_metrics["train/ratio_max"]) > 1.001


def test_the_kl_begins_at_zero_and_is_apart_from_the_task_reward(tiny_policy: TinyLlama, fit: Fit) -> None:
    seen: dict[str, list[dict[str, float]]] = {}
    for place in ("loss", "reward"):
        notes = Metrics()
        fit(ppo(tiny_policy, kl=KL(place=place, coefficient=0.3)), NOISE, 3, [paid(), notes])  # type: ignore[arg-type]
        seen[place] = notes.kept
        assert notes.kept[0]["train/kl"] == 0.0
        assert abs(notes.kept[2]["train/kl"]) > 1e-3
        for metrics in notes.kept:
            cost = -0.3 * metrics["train/kl"] if place == "reward" else 0.0
            assert metrics["train/kl_reward"] == pytest.approx(cost)
            assert 0 < metrics["train/task_reward"] < 6
    assert seen["loss"][0]["train/task_reward"] == seen["reward"][0]["train/task_reward"]


def test_a_strong_kl_keeps_the_policy_near_its_reference(tiny_policy: TinyLlama, fit: Fit) -> None:
    distances = []
    for coefficient in (0.0, 30.0):
        trainer = fit(ppo(tiny_policy, epochs=3, kl=KL(coefficient=coefficient)), NOISE, 6, [paid()])
        distances.append(float(trainer.callback_metrics["train/kl"]))
    assert distances[1] < distances[0] / 3


# ---------------------------------------------------------------- the loss


class PlainPPO(PPOModule):
    """Plain gradient descent: what the weights moved is the gradient."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameter_groups(), lr=self.optimization.learning_rate)


@pytest.mark.parametrize("scheme", ["token", "until_error"])
@pytest.mark.parametrize(("critic", "value_clip"), [("head", 0.05), ("own", None)])
def test_the_loss_is_that_of_a_plain_loop(
    scheme: SchemeName, critic: Any, value_clip: float | None, tiny_policy: TinyLlama, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected: list[list[Minibatch]] = []
    settings = {"kl": KL(coefficient=0.3), "entropy_coefficient": 0.02, "value_coefficient": 0.7, "temperature": 0.8}
    module = ppo(tiny_policy, critic=critic, value_clip=value_clip, minibatch_rows=6, clip=0.1, **settings)
    collect = module.collect
    monkeypatch.setattr(module, "collect", lambda iteration: collected.append(collect(iteration)) or collected[-1])
    fit(module, NOISE, callbacks=[VerifierReward(scheme, workers=1)])
    with torch.no_grad():  # away from ratio 1
        generator = torch.Generator().manual_seed(0)
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    for name in ("log", "log_dict"):
        monkeypatch.setattr(module, name, lambda *_, **__: None)
    minibatches = collected[0]
    assert [len(batch["ids"]) for batch in minibatches] == [6, 6, 4]
    for batch in minibatches:
        step = plain_loop(module, batch, 0.1, value_clip)
        assert float(module.training_step(batch, 0)) == pytest.approx(step, rel=1e-4)


def plain_loop(module: PPOModule, batch: Minibatch, clip: float, value_clip: float | None) -> float:
    """Token by token, row by row, nothing padded."""
    policy = value = kl = entropy = 0.0
    counted = sampled = 0
    model = module.model.eval()
    for row in range(len(batch["ids"])):
        prompt = prompt_in(batch, row)
        answer = batch["ids"][row][batch["mask"][row]].tolist()
        with torch.no_grad():
            out = model(input_ids=torch.tensor([prompt + answer]), output_hidden_states=True)
            trunk = (
                out
                if module.critic.own is None
                else module.critic.own(torch.tensor([prompt + answer]), output_hidden_states=True)
            )
            states = trunk.hidden_states[-1][0]
            values = (states @ module.critic.head.weight[0] + module.critic.head.bias).tolist()
            logprobs = (out.logits[0] / 0.8).log_softmax(-1)
        for t, word in enumerate(answer):
            at = len(prompt) - 1 + t
            new, old = float(logprobs[at, word]), float(batch["old_logprobs"][row, t])
            sampled += 1
            kl += 0.5 * (new - float(batch["reference_logprobs"][row, t])) ** 2
            entropy -= sum(math.exp(p) * p for p in logprobs[at].tolist())
            if not batch["loss_mask"][row, t]:
                continue
            counted += 1
            ratio, advantage = math.exp(new - old), float(batch["advantages"][row, t])
            policy -= min(ratio * advantage, min(max(ratio, 1 - clip), 1 + clip) * advantage)
            target, before = float(batch["returns"][row, t]), float(batch["old_values"][row, t])
            error = (values[at] - target) ** 2
            if value_clip is not None:
                near = before + min(max(values[at] - before, -value_clip), value_clip)
                error = max(error, (near - target) ** 2)
            value += 0.5 * error
    return (policy + 0.7 * value) / counted + (0.3 * kl - 0.02 * entropy) / sampled


@pytest.mark.parametrize("critic_lam", [None, 1.0])
def test_the_critic_may_learn_returns_of_another_lambda(critic_lam: float | None, tiny_policy: TinyLlama) -> None:
    module = ppo(tiny_policy, advantage=Advantage(lam=0.3, critic_lam=critic_lam, gamma=0.9, whiten=False))
    rewards, values = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(5) < torch.tensor([[5], [3], [1]])
    found = module._advantages(rewards, values, mask)
    for row, length in enumerate((5, 3, 1)):
        for name, lam in (("advantages", 0.3), ("returns", critic_lam or 0.3)):
            for t in range(length):
                expected = float(values[row, t]) if name == "returns" else 0.0
                for s in range(t, length):
                    following = float(values[row, s + 1]) if s + 1 < length else 0.0
                    expected += (0.9 * lam) ** (s - t) * (float(rewards[row, s]) + 0.9 * following - float(values[row, s]))
                assert float(found[name][row, t]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("rows", "every"), [((16, 8), (1, 2)), ((12, 6), (1, 2)), ((6, 3), (1, 2))])
@pytest.mark.parametrize("scheme", ["token", "until_error"])
def test_accumulating_over_minibatches_equals_one_large_minibatch(
    scheme: SchemeName, rows: tuple[int, int], every: tuple[int, int], tiny_policy: TinyLlama, fit: Fit
) -> None:
    ends, steps = [], []
    for size, accumulate in zip(rows, every, strict=True):
        settings: dict[str, Any] = {"problems": 4, "samples": 4, "max_new_tokens": 6, "critic_warmup_iterations": 0}
        module = PlainPPO(tiny_policy, epochs=1, minibatch_rows=size, optimization=Optimization(learning_rate=0.5), **settings)
        trainer = fit(module, NOISE, callbacks=[VerifierReward(scheme, workers=1)], accumulate_grad_batches=accumulate)
        ends.append(weights(module))
        steps.append(trainer.global_step)
    assert steps[0] == steps[1] == math.ceil(16 / rows[0])
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_gradients_are_clipped(tiny_policy: TinyLlama, fit: Fit) -> None:
    module = PlainPPO(
        tiny_policy, problems=4, samples=4, epochs=1, max_new_tokens=6, optimization=Optimization(learning_rate=1.0)
    )
    notes = Weights()
    module.critic_warmup_iterations = 0
    fit(module, NOISE, 1, [paid(), notes], gradient_clip_val=1e-3)
    before, after = notes.kept
    moved = {name: after[name] - before[name] for name in before if not name.endswith("lm_head.weight")}
    norm = math.sqrt(sum(float(change.double().square().sum()) for change in moved.values()))
    assert norm == pytest.approx(1e-3, rel=1e-2)


def test_both_optimizers_repeat_themselves(tiny_policy: TinyLlama, fit: Fit) -> None:
    for optimizer in ("adamw", "muon"):
        ends = []
        for _ in range(2):
            settings = Optimization(learning_rate=1e-2, optimizer=optimizer)  # type: ignore[arg-type]
            module = ppo(tiny_policy, minibatch_rows=5, epochs=2, optimization=settings)
            fit(module, NOISE, 2, [paid()])
            ends.append(weights(module))
        assert same(*ends)


# ---------------------------------------------------------------- diagnostics


def test_the_diagnostics_describe_the_iteration(tiny_policy: TinyLlama, fit: Fit) -> None:
    module = ppo(tiny_policy, epochs=2, advantage=Advantage(whiten=False))
    trainer = fit(module, NOISE, 12, [paid()])
    metrics = {name.removeprefix("train/"): float(value) for name, value in trainer.callback_metrics.items()}
    words = len(module.tokenizer)
    assert 0 < metrics["entropy"] < math.log(words)
    assert metrics["approx_kl"] > 0
    assert 0 <= metrics["clipfrac"] <= 1
    assert metrics["explained_variance"] <= 1
    assert metrics["success_rate"] == 0.0
    assert metrics["prompts_all_failed"] == 1.0
    assert metrics["prompts_all_solved"] == 0.0
    assert 1 <= metrics["mean_length"] <= 6
    assert 0 < metrics["error_token_fraction"] < 1
    assert metrics["no_evidence_count"] == 0


def test_the_critic_learns_to_explain_the_returns(tiny_policy: TinyLlama, fit: Fit) -> None:
    # A policy that stands still, paid -1 for each word but the right one: what is still to come can be told from the place.
    notes = Metrics()
    settings: dict[str, Any] = {"critic": "own", "critic_learning_rate": 3e-2, "value_clip": None, "critic_warmup_iterations": 99}
    module = ppo(tiny_policy, problems=8, samples=8, epochs=8, minibatch_rows=32, **settings)
    fit(module, Say(judge=FindsWord(0)), 8, [VerifierReward("token_penalty", workers=1), notes])
    assert notes.kept[0]["train/explained_variance"] == 0.0, "values begin at zero"
    assert notes.kept[-1]["train/explained_variance"] > 0.3


# ---------------------------------------------------------------- learning


def tamed(policy: TinyLlama, start: Path, **options: Any) -> PPOModule:
    settings: dict[str, Any] = {"problems": 4, "samples": 16, "epochs": 2, "minibatch_rows": 32, "critic_warmup_iterations": 1}
    return ppo(policy, init_from=str(start), **{**settings, **options})


def best_stretch(success: list[float], length: int) -> slice:
    """So many iterations in a row: at these rates a policy that has found the answer may lose it for one again."""
    start = max(range(len(success) - length + 1), key=lambda i: sum(success[i : i + length]))
    return slice(start, start + length)


@pytest.fixture(scope="module")
def bandit_start(tiny_policy: TinyLlama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imitating(tiny_policy, BANDIT, tmp_path_factory.mktemp("bandit"))


@pytest.fixture(scope="module")
def tempting_start(tiny_policy: TinyLlama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imitating(tiny_policy, TEMPTING, tmp_path_factory.mktemp("tempting"))


@pytest.mark.parametrize(
    "scheme",
    ["token", "token_penalty", "until_error", "boolean", "graded", "token_sum_at_end", "token_shuffled", "until_error_shuffled"],
)
def test_every_scheme_finds_the_one_right_word_of_eight(
    scheme: SchemeName, bandit_start: Path, tiny_policy: TinyLlama, fit: Fit
) -> None:
    notes = Metrics()
    module = tamed(tiny_policy, bandit_start, max_new_tokens=2, kl=KL(coefficient=0.0))
    fit(module, BANDIT, 10, [VerifierReward(scheme, workers=1), notes])
    success = [float(metrics["train/success_rate"]) for metrics in notes.kept]
    assert 0.02 < success[0] < 0.25
    assert statistics.mean(success[best_stretch(success, 2)]) > 0.9


@pytest.mark.parametrize(
    "options",
    [
        {"scheme": "until_error"},
        {"scheme": "until_error", "prefix_weight": 0.5},
        {"scheme": "until_error", "failure_reward": -1.0},
        {"scheme": "boolean"},
        {"scheme": "graded"},
    ],
)
def test_failing_at_once_is_not_preferred_to_a_long_right_answer(
    options: dict[str, Any], tempting_start: Path, tiny_policy: TinyLlama, fit: Fit
) -> None:
    notes = Metrics()
    # With the discount of the recipe, a failure weighs less the later it comes: failing at once is the worst way.
    advantage = Advantage(gamma=0.7 if options.get("failure_reward") else 1.0)
    module = tamed(tiny_policy, tempting_start, max_new_tokens=8, advantage=advantage)
    fit(module, TEMPTING, 20, [VerifierReward(**options, workers=1), notes])
    success = [float(metrics["train/success_rate"]) for metrics in notes.kept]
    assert success[0] < 0.1
    best = best_stretch(success, 5)
    assert statistics.mean(success[best]) > 0.9
    assert statistics.mean(float(metrics["train/mean_length"]) for metrics in notes.kept[best]) == pytest.approx(5.0, abs=0.3)


def test_the_literal_token_schemes_pay_by_length(tempting_start: Path, tiny_policy: TinyLlama, fit: Fit) -> None:
    # Why the literal form is an option and not the default: each further token is worth something, good or bad.
    lengths = {}
    for scheme in ("token", "token_penalty"):
        module = tamed(tiny_policy, tempting_start, max_new_tokens=8)
        trainer = fit(module, TEMPTING, 20, [VerifierReward(scheme, workers=1)])  # type: ignore[arg-type]
        lengths[scheme] = float(trainer.callback_metrics["train/mean_length"])
    assert lengths["token_penalty"] < 3.5 < 5.0 < lengths["token"]
