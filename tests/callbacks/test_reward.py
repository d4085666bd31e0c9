"""Reward callbacks in a run: several verifiers that contradict each other, and what happens without evidence."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import RewardCallback, VerifierReward
from lit_symbolic.certificate import Status
from lit_symbolic.data import TaskMixture
from lit_symbolic.modules import PPOModule, SymbolicModule
from lit_symbolic.modules.settings import Evaluation, Optimization
from lit_symbolic.policies import TinyLlama
from lit_symbolic.rewards import CombinationRule
from lit_symbolic.rollouts.batch import FinishedAnswer, Rollouts
from lit_symbolic.verifiers.base import ToolUnavailable
from lit_symbolic.verifiers.cpp import CppVerifier
from lit_symbolic.verifiers.python_program import PythonProgramVerifier
from lit_symbolic.verifiers.ray_pool import RayVerifierPool
from lit_symbolic.verifiers.sandbox import Sandbox
from sandboxes import available
from tiny import weights
from toys import Arbitrary, FailsAsTold, FindsWord, Say

Fit = Callable[..., Trainer]


class Recorded(PPOModule):
    """Keeps the rollouts of every iteration."""

    seen: list[Rollouts]

    def rollout(self, *args: Any, **kwargs: Any) -> Rollouts:
        rollouts = super().rollout(*args, **kwargs)
        self.seen = [*getattr(self, "seen", []), rollouts]
        return rollouts


def recorded(policy: TinyLlama, **options: Any) -> Recorded:
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
    return Recorded(policy, **settings)


def verifier(index: int | None, name: str = "verifier", primary: bool = True, **options: Any) -> VerifierReward:
    """Objects to word ``index``; None leaves it to the task's verifier."""
    tool = None if index is None else FindsWord(index)
    return VerifierReward(verifier=tool, name=name, primary=primary, workers=1, **{"scheme": "token", **options})


class Metrics(Callback):
    """Keeps what was logged in each iteration."""

    def __init__(self) -> None:
        self.kept: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.kept.append({name: float(value) for name, value in trainer.callback_metrics.items()})


# ---------------------------------------------------------------- several verifiers


def expected(rollouts: Rollouts, row: int, rule: CombinationRule, primary: str) -> list[float]:
    """The combination of one row, token by token."""
    names = [primary, *(name for name in rollouts.rewards if name != primary)]
    contributing = [name for name in names if rollouts.evidence[name][row]]
    length = int(rollouts.mask[row].sum())
    if primary not in contributing:
        return [0.0] * length
    rows = {name: rollouts.rewards[name][row, :length].tolist() for name in contributing}
    if rule == "sum":
        combined = [sum(rows[name][t] for name in contributing) for t in range(length)]
    elif rule == "minimum":
        combined = [min(rows[name][t] for name in contributing) for t in range(length)]
    else:
        places = {name: int(rollouts.objections[name][row]) for name in contributing}
        first = primary
        for name in contributing:
            if places[name] >= 0 and (places[first] < 0 or places[name] < places[first]):
                first = name
        combined = rows[first]
    if rollouts.ended[row]:
        combined = [*combined[:-1], rows[primary][-1]]
    return combined


@pytest.mark.parametrize("rule", ["sum", "minimum", "first_to_object"])
@pytest.mark.parametrize("judges", [(2, 0), (0, 2), (-1, 1), (1, -1)])
def test_contradicting_verifiers_are_combined_by_the_rule(
    rule: CombinationRule, judges: tuple[int, int], tiny_policy: TinyLlama, fit: Fit
) -> None:
    callbacks = [verifier(judges[1], "second", primary=False), verifier(judges[0], "first")]
    module = recorded(tiny_policy, combine_rewards=rule)
    trainer = fit(module, ENDING, 1, callbacks)
    rollouts = module.seen[0]
    assert set(rollouts.rewards) == {"first", "second"}
    assert not torch.equal(rollouts.rewards["first"], rollouts.rewards["second"])
    assert rollouts.token_rewards is not None
    assert rollouts.loss_mask is not None
    for row in range(len(rollouts)):
        length = int(rollouts.mask[row].sum())
        assert rollouts.token_rewards[row, :length].tolist() == expected(rollouts, row, rule, "first")
        assert not rollouts.token_rewards[row, length:].any()
        assert rollouts.loss_mask[row].tolist() == rollouts.mask[row].tolist()
    assert bool(rollouts.ended.any())
    # The primary one decides what is correct, whatever the other says.
    assert rollouts.correct.tolist() == [judges[0] < 0 and ended for ended in rollouts.ended.tolist()]
    ends = rollouts.token_rewards[rollouts.ended, rollouts.mask[rollouts.ended].sum(dim=1) - 1]
    assert ends.tolist() == [float(judges[0] < 0)] * len(ends)
    rate = float(trainer.callback_metrics["train/success_rate"])
    assert rate == pytest.approx(float(rollouts.correct.float().mean()))


# An untrained model seldom ends an answer by itself: these words make it likely that some of the 16 do.
ENDING = Say(count=4)


@pytest.fixture(autouse=True)
def some_answers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third id ends an answer."""
    kept = SymbolicModule.eos_ids.fget
    assert kept is not None
    monkeypatch.setattr(SymbolicModule, "eos_ids", property(lambda self: [*kept(self), *range(4, len(self.tokenizer), 3)]))


def test_three_schemes_side_by_side_keep_their_own_rewards(tiny_policy: TinyLlama, fit: Fit) -> None:
    callbacks = [
        verifier(1, "boolean", scheme="boolean"),
        verifier(1, "token", primary=False, scheme="token"),
        verifier(1, "until_error", primary=False, scheme="until_error", failure_reward=-1.0),
    ]
    module = recorded(tiny_policy)
    fit(module, ENDING, 1, callbacks)
    rollouts = module.seen[0]
    assert set(rollouts.rewards) == {"boolean", "token", "until_error"}
    assert rollouts.token_rewards is not None
    total = sum(rollouts.rewards.values())
    inner = rollouts.mask.clone()
    inner[torch.arange(len(rollouts)), rollouts.mask.sum(dim=1) - 1] = False
    assert torch.equal(rollouts.token_rewards[inner], total[inner])  # type: ignore[index]


def test_a_second_callback_without_evidence_is_left_out_and_counted(tiny_policy: TinyLlama, fit: Fit) -> None:
    crashing = VerifierReward("token", verifier=FailsAsTold(), name="second", primary=False, workers=1)
    module, notes = recorded(tiny_policy), Metrics()
    fit(module, Say(faults=("crash", "crash")), 1, [verifier(0, "first"), crashing, notes])
    rollouts = module.seen[0]
    crashed = ["fault" in problem.facts for problem in rollouts.problems]
    assert 0 < sum(crashed) < len(crashed)
    assert rollouts.evidence["first"].all()
    assert rollouts.evidence["second"].tolist() == [not c for c in crashed]
    assert notes.kept[0]["rewards/left_out_second"] == sum(crashed)
    assert notes.kept[0]["train/no_evidence_count"] == 0
    assert rollouts.token_rewards is not None
    assert rollouts.loss_mask is not None
    assert torch.equal(rollouts.loss_mask, rollouts.mask), "it masks nothing out of the loss"
    for row in range(len(rollouts)):
        assert rollouts.token_rewards[row][rollouts.mask[row]].tolist() == expected(rollouts, row, "sum", "first")


@pytest.mark.parametrize(
    ("callbacks", "told"),
    [
        ([verifier(0, "a"), verifier(1, "b")], r"a \(primary\), b \(primary\)"),
        ([verifier(0, "a", primary=False)], "found: a"),
        ([verifier(0, "a"), verifier(1, "a", primary=False)], r"a \(primary\), a"),
    ],
)
def test_two_primaries_none_or_equal_names_are_refused(
    callbacks: Sequence[RewardCallback], told: str, tiny_policy: TinyLlama, fit: Fit
) -> None:
    with pytest.raises(MisconfigurationException, match=told):
        fit(recorded(tiny_policy), Say(), 1, callbacks)


def test_a_run_without_any_reward_callback_is_told_what_to_add(tiny_policy: TinyLlama, tmp_path: Path) -> None:
    from lit_symbolic.cli import TRAINER_DEFAULTS
    from lit_symbolic.data import SymbolicDataModule

    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    trainer = Trainer(max_epochs=1, accelerator="cpu", **{**TRAINER_DEFAULTS, **options})  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationException, match=r"VerifierReward\(\)"):
        trainer.fit(recorded(tiny_policy), datamodule=SymbolicDataModule(Say()))


class Brevity(RewardCallback):
    """A reward that needs no verifier: the shorter the better."""

    def __init__(self) -> None:
        super().__init__("brevity", primary=False)
        self.shown: list[int] = []

    def on_answers(self, module: SymbolicModule, rows: Sequence[FinishedAnswer]) -> None:
        self.shown.extend(answer.row for answer in rows)

    def on_rollouts(self, trainer: Trainer, module: SymbolicModule, rollouts: Rollouts) -> None:
        rollouts.rewards[self.name] = -0.1 * rollouts.mask.float()


def test_a_callback_of_ones_own_is_shown_every_answer_once_and_adds_its_reward(tiny_policy: TinyLlama, fit: Fit) -> None:
    own, module = Brevity(), recorded(tiny_policy)
    fit(module, ENDING, 1, [own, verifier(0)])
    rollouts = module.seen[0]
    assert sorted(own.shown) == list(range(len(rollouts)))
    assert rollouts.token_rewards is not None
    inner = rollouts.mask.clone()
    inner[torch.arange(len(rollouts)), rollouts.mask.sum(dim=1) - 1] = False
    assert torch.allclose(rollouts.token_rewards[inner], (rollouts.rewards["verifier"] - 0.1)[inner])


# ---------------------------------------------------------------- no evidence


@pytest.mark.parametrize("fault", ["crash", "hang"])
def test_an_answer_about_which_there_is_no_evidence_is_masked_out_and_counted(
    fault: str, tiny_policy: TinyLlama, fit: Fit
) -> None:
    module, notes = recorded(tiny_policy, problems=4, samples=2), Metrics()
    callback = VerifierReward("token", workers=2, deadline_seconds=0.2)
    fit(module, Say(judge=FailsAsTold(), faults=(fault,), count=3), 1, [callback, notes])
    rollouts = module.seen[0]
    faulty = ["fault" in problem.facts for problem in rollouts.problems]
    assert 0 < sum(faulty) < len(faulty)
    status = {"crash": Status.CRASHED, "hang": Status.TIMEOUT}[fault]
    assert [certificate.status for certificate in rollouts.certificates] == [status if f else Status.OK for f in faulty]
    assert rollouts.token_rewards is not None
    assert rollouts.loss_mask is not None
    masked = torch.tensor(faulty)
    assert not rollouts.loss_mask[masked].any()
    assert not rollouts.token_rewards[masked].any()
    assert torch.equal(rollouts.loss_mask[~masked], rollouts.mask[~masked])
    assert notes.kept[0]["train/no_evidence_count"] == sum(faulty)
    assert all(math.isfinite(value) for name, value in notes.kept[0].items() if "pass@" not in name)


def test_rows_without_evidence_change_nothing_in_what_is_learned(tiny_policy: TinyLlama, fit: Fit) -> None:
    # The same problems with and without a fault: rows of the faulty one must carry no gradient at all.
    moved = []
    for noise in (0.0, 5.0):
        module = recorded(tiny_policy, optimization=Optimization(learning_rate=1e-2))
        collect = module.collect

        def disturbed(iteration: int, collect: Any = collect, noise: float = noise, module: Recorded = module) -> Any:
            minibatches = collect(iteration)
            for batch in minibatches:
                out = ~batch["loss_mask"]
                for name in ("advantages", "returns", "old_values"):
                    batch[name] = batch[name] + noise * out
                batch["reference_logprobs"] = batch["reference_logprobs"] + noise * (batch["mask"] & ~batch["kl_mask"])
            return minibatches

        module.collect = disturbed  # type: ignore[method-assign]
        fit(module, Say(judge=FailsAsTold(), faults=("crash", "crash")), 2, [VerifierReward("token", workers=1)])
        moved.append(weights(module))
    assert all(torch.equal(moved[0][name], moved[1][name]) for name in moved[0])


def test_a_batch_without_any_evidence_moves_no_weight(tiny_policy: TinyLlama, fit: Fit) -> None:
    module, notes = recorded(tiny_policy, epochs=2, minibatch_rows=8), Metrics()
    model, _ = tiny_policy.load(Say().vocabulary())
    before = weights(model)
    fit(module, Say(judge=FailsAsTold(), faults=("crash",) * 4), 2, [VerifierReward("token", workers=1), notes])
    after = weights(module.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not module.critic.head.weight.any()
    for metrics in notes.kept:
        assert metrics["train/no_evidence_count"] == 16
        assert metrics["train/policy_loss"] == metrics["train/value_loss"] == 0.0
        unknown = {name for name, value in metrics.items() if not math.isfinite(value)}
        assert all("success_rate" in name or "pass@" in name or "error_token_fraction" in name for name in unknown), unknown


# ---------------------------------------------------------------- settings and ends


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"deadline_seconds": 0.0}, {"prefix_weight": 2.0}, {"failure_reward": 0.5}, {"scheme": "tokens"}]
)
def test_a_value_out_of_its_range_is_refused_before_anything_runs(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(workers|deadline_seconds|prefix_weight|failure_reward|scheme)"):
        VerifierReward(**options)


def test_the_workers_end_with_the_run_also_after_an_exception(tiny_policy: TinyLlama, fit: Fit) -> None:
    class Fails(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise RuntimeError("on purpose")

    callback = VerifierReward(workers=1)
    fit(recorded(tiny_policy), Say(), 1, [callback])
    assert callback.pool._live is None
    assert callback.pool.statistics.verified == 16
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(recorded(tiny_policy), Say(), 1, [callback, Fails()])
    assert callback.pool._live is None


def test_verification_is_timed(tiny_policy: TinyLlama, fit: Fit) -> None:
    notes = Metrics()
    fit(recorded(tiny_policy), Say(judge=Arbitrary()), 1, [VerifierReward(workers=1), notes])
    hidden, waited, busy = (notes.kept[0][f"verify/seconds_{name}"] for name in ("hidden", "waited", "busy"))
    # One worker does one thing at a time: what it did was either hidden behind the sampling or waited for.
    assert 0 < busy <= hidden + waited + 1e-6
    assert hidden <= busy + 1e-6
    assert notes.kept[0]["time/verifying_seconds"] >= waited


# ---------------------------------------------------------------- what the tools have at the start


def started(callback: VerifierReward, task: Any = None, rank: int = 0) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=rank == 0, datamodule=SimpleNamespace(task=task or Say()))
    callback.setup(trainer, None, "fit")  # type: ignore[arg-type]


def test_the_first_rank_tells_the_active_layers_of_the_sandbox_once(capsys: pytest.CaptureFixture[str]) -> None:
    available(Sandbox())
    python = Say(judge=PythonProgramVerifier())
    started(VerifierReward(), python)
    told = capsys.readouterr().err
    assert told.startswith("sandbox: active: user namespace, mount namespace, ")
    assert told.count("\n") == 1
    second = Say(judge=PythonProgramVerifier(tolerance=0.0))
    second.name = "second"
    started(VerifierReward(), TaskMixture([python, second]))
    assert capsys.readouterr().err == told
    started(VerifierReward(), python, rank=1)
    started(VerifierReward())  # words need no sandbox
    started(VerifierReward(verifier=FindsWord(0)), python)
    assert capsys.readouterr().err == ""


def test_a_missing_tool_ends_the_run_at_its_start_where_the_workers_are_on_this_machine() -> None:
    missing = CppVerifier(compiler="g++-99")
    for callback, task in ((VerifierReward(), Say(judge=missing)), (VerifierReward(verifier=missing), Say())):
        with pytest.raises(ToolUnavailable, match=r"g\+\+-99, which was not found"):
            started(callback, task)
    started(VerifierReward(verifier=missing, pool=RayVerifierPool()))
