"""PPOModule with an estimator that asks no critic: what is built, learned, logged and kept, and what it learns."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from lightning import Trainer

from bandits import TEMPTING, Metrics, imitating
from callbacks import VerifierReward
from lit_symbolic.cli import SymbolicCLI
from lit_symbolic.modules import PPOModule
from lit_symbolic.modules.settings import Advantage, Evaluation, Optimization
from lit_symbolic.objectives.group_advantages import GroupEstimator, group_advantages
from lit_symbolic.policies import TinyLlama
from tiny import checkpoint_of, loaded, same, tiny_args, weights
from toys import Arbitrary, FailsAsTold, Say

Fit = Callable[..., Trainer]
RunCLI = Callable[[list[str]], SymbolicCLI]
ESTIMATORS = get_args(GroupEstimator)


def module_of(policy: TinyLlama, estimator: Any, **options: Any) -> PPOModule:
    """16 rollouts of 6 tokens, used once; the critic's settings are there and must not matter."""
    settings: dict[str, Any] = {
        "problems": 4,
        "samples": 4,
        "epochs": 1,
        "max_new_tokens": 6,
        "minibatch_rows": 16,
        "advantage": Advantage(estimator, gamma=0.9),
        "critic": "own",
        "critic_learning_rate": 0.1,
        "critic_warmup_iterations": 5,
        "optimization": Optimization(learning_rate=1e-2),
        "evaluation": Evaluation(samples=2, pass_at=(1, 2)),
        **options,
    }
    return PPOModule(policy, **settings)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_there_is_no_critic_anywhere_and_the_policy_learns_from_the_first_iteration(
    estimator: Any, tiny_policy: TinyLlama, fit: Fit, tmp_path: Path
) -> None:
    module, notes = module_of(tiny_policy, estimator, epochs=2), Metrics()
    collected: list[Any] = []
    collect = module.collect
    module.collect = lambda iteration: collected.extend(collect(iteration)) or collected[-2:]  # type: ignore[method-assign]
    trainer = fit(module, Say(judge=Arbitrary()), 1, [VerifierReward("token", workers=1), notes])
    assert module.critic is None
    assert not any("critic" in name for name in module.state_dict())
    assert [group["name"] for group in trainer.optimizers[0].param_groups] == ["policy"]
    assert not {"old_values", "returns"} & set(collected[0])
    (logged,) = notes.kept
    assert not {"train/value_loss", "train/explained_variance", "train/learning_rate_critic"} & set(logged)
    assert logged["train/policy_loss"] != 0
    assert logged["train/kl"] == 0
    assert logged["train/approx_kl"] > 0, "the second pass is no longer on the policy that sampled"
    assert ("train/answers_alone" in logged) == (estimator != "reinforce++")
    assert all(math.isfinite(value) for value in logged.values())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    kept = {name.split(".")[0] for name in loaded(tmp_path / "last.ckpt")["state_dict"]}
    assert kept == {"model", "reference", "kl_coefficient"}


def test_the_advantages_of_an_iteration_are_those_of_the_pure_function(tiny_policy: TinyLlama, fit: Fit) -> None:
    for estimator in ESTIMATORS:
        module = module_of(tiny_policy, estimator)
        seen: list[dict[str, Any]] = []
        advantages = module._advantages
        module._advantages = lambda *given: seen.append(dict(given=given, got=advantages(*given))) or seen[-1]["got"]  # type: ignore[method-assign, attr-defined]  # noqa: B023, C408
        fit(module, Say(judge=Arbitrary()), 1, [VerifierReward("until_error", workers=1, failure_reward=-1.0)])
        (rewards, values, mask), got = seen[0]["given"], seen[0]["got"]
        assert values is None
        assert not mask.all()
        assert torch.equal(got["advantages"], group_advantages(estimator, rewards, mask, 4, 0.9, 0.1))


def test_an_answer_that_is_left_alone_for_want_of_evidence_is_logged(tiny_policy: TinyLlama, fit: Fit) -> None:
    notes = Metrics()
    module = module_of(tiny_policy, "rloo", samples=2)
    task = Say(judge=FailsAsTold(), faults=("crash",) * 4)
    fit(module, task, 1, [VerifierReward("token", workers=1), notes])
    assert notes.kept[0]["train/no_evidence_count"] == 8
    assert notes.kept[0]["train/answers_alone"] == 0
    assert notes.kept[0]["train/policy_loss"] == 0


def test_comparing_needs_two_answers(tiny_policy: TinyLlama) -> None:
    for estimator in ("rloo", "grpo"):
        with pytest.raises(ValueError, match=f"{estimator} compares the answers to a prompt.*samples"):
            module_of(tiny_policy, estimator, samples=1)
    assert module_of(tiny_policy, "reinforce++", samples=1).samples == 1


@pytest.fixture(scope="module")
def tempting_start(tiny_policy: TinyLlama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imitating(tiny_policy, TEMPTING, tmp_path_factory.mktemp("tempting"))


@pytest.mark.parametrize(
    ("estimator", "scheme", "failure"), [*((name, "until_error", -1.0) for name in ESTIMATORS), ("grpo", "boolean", 0.0)]
)
def test_failing_at_once_is_not_preferred_to_a_long_right_answer(
    estimator: Any, scheme: Any, failure: float, tempting_start: Path, tiny_policy: TinyLlama, fit: Fit
) -> None:
    notes = Metrics()
    advantage = Advantage(estimator, gamma=0.7 if failure else 1.0)
    options: dict[str, Any] = {"samples": 16, "epochs": 2, "minibatch_rows": 32, "max_new_tokens": 8, "advantage": advantage}
    # Where all answers are alike there is no gradient, and the first failure that breaks in moves AdamW by a whole step: the rate falls.
    options["optimization"] = Optimization(learning_rate=1e-2, schedule="linear")
    module = module_of(tiny_policy, init_from=str(tempting_start), estimator=estimator, **options)
    fit(module, TEMPTING, 20, [VerifierReward(scheme, failure_reward=failure, workers=1), notes])
    success = [metrics["train/success_rate"] for metrics in notes.kept]
    assert success[0] < 0.1
    assert statistics.median(success[-5:]) > 0.8
    assert notes.kept[-1]["train/mean_length"] == pytest.approx(5.0, abs=0.3)


def test_a_resumed_run_ends_bit_for_bit_like_an_unbroken_one_and_a_critics_checkpoint_is_refused(
    run_cli: RunCLI, sft_checkpoint: Path, ppo_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--trainer.max_epochs=3", "--model.kl.target=0.01", "--threads=1"]
    unbroken = run_cli(tiny_args("grpo_token", tmp_path / "unbroken", *options, start=sft_checkpoint))
    args = tiny_args("grpo_token", tmp_path / "broken", *options, start=sft_checkpoint)
    run_cli([*args, "--trainer.max_epochs=1"])
    resumed = run_cli([*args, "--ckpt_path=last"])
    wanted, got = loaded(checkpoint_of(unbroken)), loaded(checkpoint_of(resumed))
    assert same(wanted["state_dict"], got["state_dict"])
    assert same(wanted["optimizer_states"], got["optimizer_states"])
    assert same(weights(resumed.model), weights(unbroken.model))
    with pytest.raises(SystemExit):
        run_cli([*args, f"--ckpt_path={ppo_checkpoint}"])
    assert "critic.head" in capsys.readouterr().err
