"""What all modules share: iterations as epochs, clear misuse, schedules, sampling in validation and predict."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import IterationCheckpoint, VerifierReward
from lit_symbolic.certificate import Problem
from lit_symbolic.checkpoint_io import AtomicCheckpointIO
from lit_symbolic.cli import TRAINER_DEFAULTS
from lit_symbolic.data import SymbolicDataModule
from lit_symbolic.modules import PPOModule, SFTModule, SymbolicModule
from lit_symbolic.modules.settings import Evaluation, Optimization
from lit_symbolic.policies import TinyLlama
from lit_symbolic.rollouts.batch import SampledAnswer
from lit_symbolic.rollouts.native import NativeEngine
from lit_symbolic.tasks import Split
from tiny import same, weights
from toys import Arbitrary, CountsWords, Say

Fit = Callable[..., Trainer]
QUIET: dict[str, Any] = {
    **TRAINER_DEFAULTS,
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "num_sanity_val_steps": 0,
}


def modules(policy: TinyLlama, **options: Any) -> list[SymbolicModule]:
    """One of each kind, a single minibatch an iteration."""
    shared = {"max_new_tokens": 6, "minibatch_rows": 8, "evaluation": Evaluation(samples=2, pass_at=(1, 2)), **options}
    return [SFTModule(policy, demonstrations=8, **shared), PPOModule(policy, problems=2, samples=4, epochs=1, **shared)]


# ---------------------------------------------------------------- misuse


def test_a_trainer_that_keeps_its_loaders_is_refused(tiny_policy: TinyLlama, fit: Fit) -> None:
    for module in modules(tiny_policy):
        with pytest.raises(MisconfigurationException, match="reload_dataloaders_every_n_epochs=1"):
            fit(module, Say(), reload_dataloaders_every_n_epochs=0)


def test_a_run_without_an_end_is_refused(tiny_policy: TinyLlama) -> None:
    for module in modules(tiny_policy):
        for options in ({"max_epochs": -1}, {"max_steps": 3}):
            trainer = Trainer(callbacks=[VerifierReward(workers=1)], limit_val_batches=0, **QUIET, **options)
            with pytest.raises(MisconfigurationException, match="max_epochs"):
                trainer.fit(module, datamodule=SymbolicDataModule(Say()))


def test_a_module_without_problems_is_refused(tiny_policy: TinyLlama) -> None:
    for module in modules(tiny_policy):
        with pytest.raises(MisconfigurationException, match="SymbolicDataModule"):
            Trainer(max_epochs=1, callbacks=[VerifierReward(workers=1)], limit_val_batches=0, **QUIET).fit(module)


def test_a_plain_trainer_runs_with_the_one_option_that_is_asked_for(tiny_policy: TinyLlama, tmp_path: Path) -> None:
    for module in modules(tiny_policy):
        trainer = Trainer(
            max_epochs=2,
            accelerator="cpu",
            reload_dataloaders_every_n_epochs=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path / type(module).__name__,
            callbacks=[VerifierReward(workers=1)],
        )
        trainer.fit(module, datamodule=SymbolicDataModule(Say()))
        assert trainer.global_step == 2


def test_a_prompt_that_leaves_no_room_for_the_answer_is_refused(tiny_policy: TinyLlama, fit: Fit) -> None:
    for module in modules(tiny_policy, max_new_tokens=63):
        with pytest.raises((MisconfigurationException, ValueError), match=r"lower model\.max_new_tokens"):
            fit(module, Say())


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Optimization(learning_rate=0.0),
        lambda: Optimization(weight_decay=-1.0),
        lambda: Optimization(warmup_iterations=-1),
        lambda: Evaluation(samples=0),
        lambda: SFTModule(TinyLlama(), demonstrations=0),
        lambda: SFTModule(TinyLlama(), minibatch_rows=0),
        lambda: SFTModule(TinyLlama(), max_new_tokens=0),
    ],
)
def test_a_number_out_of_its_range_is_refused(bad: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"(at least|must|positive)"):
        bad()


def test_a_start_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no/such/start"):
        SFTModule(TinyLlama(), init_from="no/such/start")


# ---------------------------------------------------------------- iterations


class Iterations(Callback):
    """Notes what the module collected, and when."""

    def __init__(self) -> None:
        self.batches: list[list[torch.Tensor]] = []
        self.rates: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.batches.append([])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batches[-1].append(batch["ids"].clone())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_an_iteration_is_collected_once_however_often_lightning_asks(tiny_policy: TinyLlama, fit: Fit) -> None:
    for module in modules(tiny_policy):
        collected: list[int] = []
        collect = module.collect
        module.collect = lambda iteration, collect=collect, seen=collected: (seen.append(iteration), collect(iteration))[1]  # type: ignore[method-assign]
        notes = Iterations()
        trainer = fit(module, Say(), iterations=3, callbacks=[notes])
        assert collected == [0, 1, 2]
        assert module.iteration_loader() is module.iteration_loader()
        assert collected == [0, 1, 2], "a finished run collects nothing more"
        assert trainer.global_step == 3
        assert not same(notes.batches[0], notes.batches[1]), "each iteration draws its own"


def test_another_seed_draws_other_answers_and_the_same_seed_the_same(
    tiny_policy: TinyLlama, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    for seed in ("0", "1", "0"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        notes = Iterations()
        fit(modules(tiny_policy)[1], Say(), callbacks=[notes])
        drawn.append(notes.batches)
    assert not same(drawn[0], drawn[1])
    assert same(drawn[0], drawn[2])


def test_the_learning_rate_goes_by_iterations(tiny_policy: TinyLlama, fit: Fit) -> None:
    settings = Optimization(learning_rate=0.8, warmup_iterations=2, schedule="linear")
    notes = Iterations()
    fit(modules(tiny_policy, optimization=settings)[0], Say(), iterations=6, callbacks=[notes])
    assert notes.rates == pytest.approx([0.4, 0.8, 0.8, 0.6, 0.4, 0.2])


def test_the_schedule_of_cosine_is_half_a_wave() -> None:
    cosine = Optimization(schedule="cosine")
    assert [cosine.factor(i, 4) for i in range(5)] == pytest.approx([0.5 * (1 + math.cos(math.pi * i / 4)) for i in range(5)])


# ---------------------------------------------------------------- validation, test, predict


def test_validation_does_not_change_what_is_trained(tiny_policy: TinyLlama, fit: Fit) -> None:
    for index in range(2):
        ends = []
        for limit in (0, 1):
            module = modules(tiny_policy)[index]
            fit(module, Say(judge=Arbitrary()), iterations=2, limit_val_batches=limit)
            ends.append(weights(module))
        assert same(*ends)


def test_validation_asks_the_same_of_the_same_weights(tiny_policy: TinyLlama) -> None:
    module = modules(tiny_policy)[0]
    trainer = Trainer(callbacks=[VerifierReward(workers=1)], **QUIET)
    texts = []
    for batch in (2, 2, 4):
        trainer.validate(module, datamodule=SymbolicDataModule(Say(), evaluation_batch=batch), verbose=False)
        texts.append([answer.text for answer in module.validation_samples])
    assert texts[0] == texts[1]
    assert len(texts[0]) == len(texts[2]) == 4 * 2


def test_every_evaluation_reports_length_ends_and_the_tasks_own_metrics(tiny_policy: TinyLlama) -> None:
    class Measured(Say):
        metrics = ("words", "exact_match")

    class Other(Measured):
        name = "other"

        def problems(self, split: Split) -> Sequence[Problem]:
            return [replace(problem, task="other") for problem in super().problems(split)]

    always = {"success_rate", "mean_length", "end_rate", "pass@1"}
    for module in modules(tiny_policy):
        for tasks, own in (
            (Measured(judge=CountsWords()), {"words"}),
            ([Measured(judge=CountsWords()), Other(judge=CountsWords())], {"words/say", "success_rate/other"}),
            (Say(judge=CountsWords()), set()),
        ):
            trainer = Trainer(callbacks=[VerifierReward(workers=1)], **QUIET)
            trainer.test(module, datamodule=SymbolicDataModule(tasks), verbose=False)
            logged = {name.removeprefix("test/") for name in trainer.callback_metrics}
            assert always | own <= logged
            assert not {"exact_match", "step_validity"} & logged
            assert own or "words" not in logged


def test_predict_returns_answers_with_a_reward_for_every_token(tiny_policy: TinyLlama) -> None:
    module = modules(tiny_policy)[1]
    trainer = Trainer(callbacks=[VerifierReward(scheme="token", workers=1)], **QUIET)
    batches = trainer.predict(module, datamodule=SymbolicDataModule(Say(judge=Arbitrary()), evaluation_batch=3))
    assert batches is not None
    answers = [answer for batch in batches for answer in batch]
    assert [len(batch) for batch in batches] == [6, 2]
    assert [answer.problem.id for answer in answers] == [f"test-{i}" for i in range(4) for _ in range(2)]
    for answer in answers:
        assert isinstance(answer, SampledAnswer)
        assert 1 <= len(answer.rewards) == len(answer.spans) == len(answer.loss_mask) <= 6
        assert all(0 <= start <= end <= len(answer.text) for start, end in answer.spans)
        faults = [(finding.start, finding.end) for finding in answer.certificate.findings]
        body = answer.spans[: len(answer.spans) - answer.ended]
        if all(end - start < len(answer.text) for start, end in faults):
            expected = [float(not any(s < e and max(s, f) < min(e, t) for f, t in faults)) for s, e in body]
            assert list(answer.rewards[: len(body)]) == expected


def test_greedy_evaluation_gives_one_answer(tiny_policy: TinyLlama) -> None:
    module = SFTModule(tiny_policy, max_new_tokens=6, evaluation=Evaluation(samples=3, temperature=0.0, pass_at=(1,)))
    trainer = Trainer(callbacks=[VerifierReward(workers=1)], **QUIET)
    trainer.validate(module, datamodule=SymbolicDataModule(Say()), verbose=False)
    assert len({answer.text for answer in module.validation_samples}) == 1
    assert "val/pass@1" in trainer.callback_metrics


def test_the_policy_trains_with_dropout_off_and_in_training_mode(tiny_policy: TinyLlama, fit: Fit) -> None:
    module = modules(tiny_policy)[0]
    fit(module, Say())
    assert module.model.training
    assert all(layer.p == 0.0 for layer in module.modules() if isinstance(layer, torch.nn.Dropout))


def test_the_engine_gives_back_what_it_keeps_when_the_run_ends(tiny_policy: TinyLlama, fit: Fit) -> None:
    class Keeping(NativeEngine):
        released = 0

        def release(self) -> None:
            super().release()
            self.released += 1

    engine = Keeping()
    fit(modules(tiny_policy, engine=engine)[1], Say())
    assert engine.released == 1


# ---------------------------------------------------------------- checkpoints


def test_a_checkpoint_holds_what_is_needed_and_loads_without_code(tiny_policy: TinyLlama, fit: Fit, tmp_path: Path) -> None:
    options = {"enable_checkpointing": True, "plugins": [AtomicCheckpointIO()]}
    for module in modules(tiny_policy):
        folder = tmp_path / type(module).__name__
        fit(module, Say(judge=Arbitrary()), callbacks=[IterationCheckpoint()], default_root_dir=folder, **options)
        checkpoint = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
        trained = {name for name, p in module.named_parameters() if p.requires_grad}
        assert trained <= checkpoint["state_dict"].keys()
        assert "hyper_parameters" not in checkpoint, "they would silently override flags given on resume"
