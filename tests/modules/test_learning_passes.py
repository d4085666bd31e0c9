"""How PPO runs its forward passes: how many there are, what they wait for, whose answers they correct."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from callbacks import VerifierReward
from lit_symbolic.modules import PPOModule
from lit_symbolic.modules.minibatches import Minibatch
from lit_symbolic.modules.settings import Evaluation, Optimization
from lit_symbolic.policies import TinyLlama
from lit_symbolic.rollouts.engine import Generation, SamplingSettings
from lit_symbolic.rollouts.native import NativeEngine
from tiny import prompt_in, same, weights
from toys import Arbitrary, Say

Fit = Callable[..., Trainer]
NOISE = Say(judge=Arbitrary())


class PlainPPO(PPOModule):
    """Plain gradient descent: what the weights moved is the gradient. Keeps its minibatches."""

    kept: list[Minibatch]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameter_groups(), lr=self.optimization.learning_rate)

    def collect(self, iteration: int) -> list[Minibatch]:
        self.kept = super().collect(iteration)
        return self.kept


def ppo(policy: TinyLlama, **options: Any) -> PlainPPO:
    """16 rollouts of 6 tokens, learned from once."""
    settings: dict[str, Any] = {
        "problems": 4,
        "samples": 4,
        "epochs": 1,
        "max_new_tokens": 6,
        "minibatch_rows": 6,
        "critic_warmup_iterations": 0,
        "optimization": Optimization(learning_rate=0.5),
        "evaluation": Evaluation(samples=2, pass_at=(1, 2)),
        **options,
    }
    return PlainPPO(policy, **settings)


def paid() -> VerifierReward:
    return VerifierReward("token", workers=1, deadline_seconds=60.0)


def check_close(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=1e-4, atol=1e-6, msg=f"{name} differs")


@pytest.mark.parametrize("critic", ["head", "own"])
def test_prompts_that_are_read_once_and_minibatches_by_tokens_learn_the_same(
    critic: Any, tiny_policy: TinyLlama, fit: Fit
) -> None:
    ends = []
    cuts: list[dict[str, Any]] = [{"share_prompts": False}, {}, {"minibatch_tokens": 40}]
    for options in cuts:
        module = ppo(tiny_policy, critic=critic, **options)
        fit(module, NOISE, 1, [paid()], accumulate_grad_batches=99)
        ends.append(weights(module))
        assert ("prompt_of" in module.kept[0]) is options.get("share_prompts", True)
        assert sum(len(batch["ids"]) for batch in module.kept) == 16
        if "minibatch_tokens" in options:
            sizes = [
                len(b["ids"]) * (max(len(prompt_in(b, r)) for r in range(len(b["ids"]))) + b["ids"].shape[1]) for b in module.kept
            ]
            assert max(sizes) <= 40
            assert len(sizes) > 3
    check_close(ends[0], ends[1])
    check_close(ends[0], ends[2])


class Watching(Callback):
    """Counts the trunk's forward passes, with and without gradients, and what a training step waits for."""

    def __init__(self) -> None:
        self.with_gradients = self.without = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def count(*_: Any) -> None:
            if torch.is_grad_enabled():
                self.with_gradients += 1
            else:
                self.without += 1

        assert isinstance(pl_module, PPOModule)
        pl_module.model.get_decoder().register_forward_hook(count)


def test_value_and_logprob_come_from_one_forward_pass_where_the_critic_is_a_head(tiny_policy: TinyLlama, fit: Fit) -> None:
    watching = Watching()
    # 2 epochs of 3 minibatches; without gradients the answers are one batch, and the reference is a copy.
    fit(ppo(tiny_policy, share_prompts=False, epochs=2), NOISE, 1, [paid(), watching])
    assert (watching.with_gradients, watching.without) == (6, 1)


class Reads(TorchDispatchMode):
    """Counts reads of a tensor's value by the host, for each of which an accelerator would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_training_step_reads_nothing_back_from_the_device(tiny_policy: TinyLlama, fit: Fit) -> None:
    # Where prompts are not shared, transformers looks once a forward pass whether a row holds several texts.
    cases: list[tuple[dict[str, Any], int]] = [({}, 0), ({"critic_warmup_iterations": 1}, 0), ({"share_prompts": False}, 3)]
    for options, expected in cases:
        module = ppo(tiny_policy, **options)
        fit(module, NOISE, 1, [paid()])
        with Reads() as reads:
            for index, batch in enumerate(module.kept):
                module.training_step(batch, index)
        assert reads.count <= expected
    with reads:
        before = reads.count
        torch.ones(1).item()
    assert reads.count == before + 1, "a read is seen"


# ---------------------------------------------------------------- an engine that samples something else


class Hotter(NativeEngine):
    """Samples at a higher temperature than it is asked to, and says so."""

    exact = False

    def generate(self, model: Any, prompts: Any, samples: int, settings: SamplingSettings, *rest: Any) -> Generation:
        self.last = super().generate(model, prompts, samples, SamplingSettings(settings.max_new_tokens, 3.0), *rest)
        return self.last


@pytest.mark.parametrize("cap", [1.05, None])
def test_the_answers_of_an_engine_that_is_not_exact_are_weighted(cap: float | None, tiny_policy: TinyLlama, fit: Fit) -> None:
    engine = Hotter()
    big = TinyLlama(hidden_size=16, layers=1, heads=2, intermediate_size=32, max_length=64, seed=3)
    module = ppo(big, engine=engine, old_logprobs="engine", critic="own", minibatch_rows=16, importance_cap=cap)
    with pytest.MonkeyPatch.context() as patch:
        sharper = TinyLlama.load
        patch.setattr(TinyLlama, "load", lambda *args: _sharper(*sharper(*args)))
        trainer = fit(module, NOISE, 1, [paid()])
    (batch,) = module.kept
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    sampled = {
        tuple(ids): logprobs for ids, logprobs in zip(engine.last.ids.tolist(), engine.last.logprobs.tolist(), strict=True)
    }
    found, plain, differences = [], [], []
    for row in range(16):
        drawn = sampled[tuple(batch["ids"][row].tolist())]
        for t in range(int(batch["mask"][row].sum())):
            ratio = math.exp(float(batch["old_logprobs"][row, t]) - drawn[t])
            differences.append(abs(math.log(ratio)))
            plain.append(ratio if cap is None else min(ratio, cap))
            found.append(float(batch["importance"][row, t]))
    assert found == pytest.approx(plain, rel=1e-4)
    assert max(differences) > 0.05
    assert metrics["train/sampler_mismatch"] == pytest.approx(sum(differences) / len(differences), rel=1e-3)
    assert metrics["train/sampler_kl"] > 0
    truncated = 0.0 if cap is None else sum(w == cap for w in plain) / len(plain)
    assert metrics["train/importance_truncated"] == pytest.approx(truncated)
    assert (truncated > 0) is (cap is not None)
    ess = sum(plain) ** 2 / (len(plain) * sum(w * w for w in plain))
    assert metrics["train/importance_ess"] == pytest.approx(ess, rel=1e-3)
    assert metrics["train/ratio_max"] == pytest.approx(1.0, abs=1e-4), "the old log-probs are the policy's own"


def _sharper(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """A random policy is nearly uniform at any temperature; this one prefers some words."""
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20.0)
    return model, tokenizer


def test_the_loss_of_weighted_answers_is_the_weighted_loss(tiny_policy: TinyLlama, fit: Fit) -> None:
    module = ppo(tiny_policy, engine=Hotter(), minibatch_rows=16, value_coefficient=0.0)
    fit(module, NOISE, 1, [paid()])
    (batch,) = module.kept
    losses = [float(module.training_step({**batch, "importance": batch["importance"] * factor}, 0)) for factor in (1.0, 3.0)]
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-4)
    module = ppo(tiny_policy)
    fit(module, NOISE, 1, [paid()])
    assert "importance" not in module.kept[0], "this engine is exact"


def test_a_cap_below_one_is_refused(tiny_policy: TinyLlama) -> None:
    with pytest.raises(ValueError, match="importance_cap"):
        ppo(tiny_policy, importance_cap=0.5)


class Late(NativeEngine):
    """Tells of its answers when all are there, the last ones first."""

    def generate(self, *arguments: Any) -> Generation:
        *others, on_finished = arguments
        told: list[tuple[list[int], list[list[int]]]] = []
        generation = super().generate(*others, lambda rows, ids: told.append((rows, ids)))
        for rows, ids in reversed(told):
            on_finished(rows[::-1], ids[::-1])
        return generation


def test_an_engine_that_tells_late_and_in_another_order_has_the_same_answers_verified(tiny_policy: TinyLlama, fit: Fit) -> None:
    kept = []
    for engine in (NativeEngine(), Late()):
        module = ppo(tiny_policy, engine=engine)
        trainer = fit(module, NOISE, 1, [paid()])
        kept.append(module.kept)
        assert trainer.callback_metrics["verify/seconds_busy"] > 0
    assert same(*kept)


# ---------------------------------------------------------------- compiled


def test_compiled_it_learns_the_same_and_is_compiled_a_few_times_only(
    tiny_policy: TinyLlama, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dynamo and autograd as in a run; the code that inductor would generate is not run in the tests: it takes g++ a minute."""
    from torch._dynamo.testing import CompileCounter

    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    torch._dynamo.reset()
    counter, compile = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: compile(function, backend=counter, **options))
    ends = []
    for compiled in (False, True):
        learning = Optimization(learning_rate=1e-2)
        module = ppo(tiny_policy, compile=compiled, minibatch_tokens=40, epochs=2, problems=6, optimization=learning)
        fit(module, NOISE, 2, [paid()])
        ends.append(weights(module))
        if not compiled:
            assert counter.frame_count == 0
    assert len({(*batch["ids"].shape, len(batch["prompt_ids"])) for batch in module.kept}) > 2
    assert 1 <= counter.frame_count <= 3, "minibatches of all shapes run the same code"
    check_close(*ends)
