"""This package's PPO as a contestant, and the bare work of its model beside it.

Every arm is the recipe ``configs/game24/ppo_token.yaml`` from random weights, but for the number of tokens and passes, which the
benchmark gives, and for what :class:`Arm` changes.
"""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger

from callbacks import AdapterExport, HtmlReport, IterationCheckpoint, IterationProgressBar, RewardCallback, VerifierReward
from lit_symbolic.certificate import Certificate
from lit_symbolic.checkpoint_io import AtomicCheckpointIO
from lit_symbolic.cli import TRAINER_DEFAULTS
from lit_symbolic.data import SymbolicDataModule
from lit_symbolic.modules import KL, Advantage, Evaluation, Optimization, PPOModule
from lit_symbolic.policies import CriticKind, HuggingFacePolicy, Lora, PolicyLoader, TinyLlama
from lit_symbolic.rollouts.batch import Rollouts
from lit_symbolic.rollouts.native import NativeEngine
from lit_symbolic.tasks.game24 import Game24
from peers.bare import BareWork
from peers.phases import LOGGING, PhaseClock
from peers.turns import Figures, Orders

ENDLESS = 1_000_000
VALIDATED = 24
"""Problems of a validation: as many as the report shows answers of."""


@dataclass(frozen=True)
class Arm:
    """What one arm has that the others have not.

    Args:
        critic: Who estimates values.
        optimizer: Of policy and critic.
        lora: Train adapters on a frozen base; else all weights.
        sampling_dtype: Type of the weights that sample; None is that of the policy.
        autocast: Train under ``precision: bf16-mixed``; else in float32.
        compiled: Compile the forward pass for learning.
        verified: Have answers verified; else every answer gets the same reward at once.
        defaults: Run with what ``train.py`` turns on (checkpoint after each iteration, CSV log, report, progress bar) and
            measure where the time goes; else with none of it.
    """

    critic: CriticKind = "head"
    optimizer: Literal["adamw", "muon"] = "muon"
    lora: bool = False
    sampling_dtype: str | None = None
    autocast: bool = False
    compiled: bool = False
    verified: bool = True
    defaults: bool = False

    @property
    def networks(self) -> int:
        """Forward and backward passes of a whole network that each minibatch needs."""
        return 1 if self.critic == "head" else 2


ARMS = {
    "value head, Muon (the recipe)": Arm(),
    "value head, AdamW": Arm(optimizer="adamw"),
    "value head, Muon, constant reward": Arm(verified=False),
    "value head, Muon, with all that train.py turns on": Arm(defaults=True),
    "own-network critic, Muon": Arm(critic="own"),
    "LoRA policy, second adapter as critic, Muon": Arm(critic="adapter", lora=True),
}
if "dtype" in inspect.signature(NativeEngine).parameters:
    ARMS["value head, Muon, sampled in bfloat16"] = Arm(sampling_dtype="bfloat16")


VARIANTS = {
    "value head, Muon, autocast to bfloat16": Arm(autocast=True),
    "value head, Muon, compiled": Arm(compiled=True),
}
"""Held against the recipe alone, in turns of their own."""


@dataclass(frozen=True)
class Shape:
    """How much work one iteration is.

    Args:
        prompts: Problems.
        samples: Answers to each.
        max_new_tokens: Tokens of each answer; none ends early.
        epochs: Passes over the answers.
        minibatch_rows: Answers in one minibatch.
        hidden_size: Width of the model; its inner width is 8/3 of that.
        layers: Blocks of the model.
    """

    prompts: int = 32
    samples: int = 8
    max_new_tokens: int = 30
    epochs: int = 2
    minibatch_rows: int = 64
    hidden_size: int = 192
    layers: int = 4

    @property
    def rows(self) -> int:
        """Answers of one iteration."""
        return self.prompts * self.samples

    def policy(self, seed: int) -> TinyLlama:
        """The model, with random weights."""
        return TinyLlama(self.hidden_size, self.layers, intermediate_size=self.hidden_size * 8 // 3, seed=seed)


class FullLengthPPO(PPOModule):
    """PPO of which no answer ends early, which tells when an iteration begins, and when a phase does.

    Args:
        begin: Called at the start of each iteration, before anything is collected.
        clock: Told of the phases, where given.
        **settings: As :class:`PPOModule` takes them.
    """

    def __init__(self, begin: Callable[[], None], clock: PhaseClock | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.begin = begin
        self.clock = clock

    @property
    def eos_ids(self) -> list[int]:
        """None: every answer has all its tokens, so that every contestant has the same work."""
        return []

    def collect(self, iteration: int) -> Any:
        """Tell, then collect."""
        self.begin()
        return super().collect(iteration)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Tell the clock too."""
        with self.clock.profile(name) if self.clock else nullcontext(), super().timed(name):
            yield

    def log(self, *arguments: Any, **options: Any) -> None:
        """Charge logging within a step to logging."""
        with self.clock.profile(LOGGING) if self.clock else nullcontext():
            super().log(*arguments, **options)

    def log_dict(self, *arguments: Any, **options: Any) -> None:
        """Charge logging within a step to logging."""
        with self.clock.profile(LOGGING) if self.clock else nullcontext():
            super().log_dict(*arguments, **options)


class ClockedBar(IterationProgressBar):
    """The progress bar, drawn though nobody looks, and what it costs while the module samples."""

    def __init__(self, clock: PhaseClock) -> None:
        super().__init__(plain=False)
        self.clock = clock

    def on_phase(self, trainer: Trainer, module: LightningModule, phase: str, done: int, total: int) -> None:
        """See :meth:`IterationProgressBar.on_phase`."""
        with self.clock.profile("[Callback]IterationProgressBar.on_phase"):
            super().on_phase(trainer, module, phase, done, total)


class ClockedCSVLogger(CSVLogger):
    """The CSV logger, its writing charged to logging."""

    def __init__(self, folder: str, clock: PhaseClock) -> None:
        super().__init__(save_dir=folder, name="logs")
        self.clock = clock

    def log_metrics(self, *arguments: Any, **options: Any) -> None:
        """See :meth:`CSVLogger.log_metrics`."""
        with self.clock.profile(LOGGING):
            super().log_metrics(*arguments, **options)

    def save(self) -> None:
        """See :meth:`CSVLogger.save`."""
        with self.clock.profile(LOGGING):
            super().save()


class ConstantReward(RewardCallback):
    """The same reward for every answer, without a look at it: an iteration without a verifier."""

    def __init__(self) -> None:
        super().__init__("constant", primary=True)

    def on_rollouts(self, trainer: Trainer, module: Any, rollouts: Rollouts) -> None:
        """See :meth:`RewardCallback.on_rollouts`."""
        reward = torch.zeros_like(rollouts.logprobs)
        reward[:, -1] = 1.0
        rollouts.rewards[self.name] = reward
        rollouts.loss_masks[self.name] = rollouts.mask
        rollouts.evidence[self.name] = torch.ones(len(rollouts), dtype=torch.bool)
        rollouts.objections[self.name] = torch.full((len(rollouts),), -1)
        rollouts.certificates = [Certificate(correct=True, score=1.0) for _ in range(len(rollouts))]
        rollouts.in_finding = torch.zeros_like(rollouts.mask)


def task() -> Game24:
    """The task of the recipe."""
    return Game24(max_value=50)


def save_start(folder: Path, shape: Shape, seed: int) -> None:
    """Save the model that all contestants start from, its tokenizer, and prompts of the training split."""
    model, tokenizer = shape.policy(seed).load(task().vocabulary())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prompts = [problem.prompt for problem in task().problems("train")]
    (folder / "prompts.json").write_text(json.dumps(prompts))


def fit(
    arm: Arm,
    shape: Shape,
    seed: int,
    begin: Callable[[Trainer], None],
    clock: PhaseClock | None = None,
    start: str | None = None,
    validate_after: int | None = None,
) -> None:
    """Train until ``begin`` raises.

    Args:
        arm: What is trained, and how.
        shape: Work of an iteration.
        seed: Of weights, problems and sampling.
        begin: Called at the start of each iteration.
        clock: Where the time goes, if that is asked.
        start: Folder with the saved model, where the arm trains adapters.
        validate_after: Iterations to the first validation, for an arm with what ``train.py`` turns on; the others have none.
    """
    seed_everything(seed, verbose=False)
    policy: PolicyLoader = shape.policy(seed)
    if arm.lora:
        assert start is not None
        policy = HuggingFacePolicy(start, lora=Lora(), dtype="float32")
    module = FullLengthPPO(
        begin=lambda: begin(trainer),
        clock=clock,
        policy=policy,
        problems=shape.prompts,
        samples=shape.samples,
        epochs=shape.epochs,
        max_new_tokens=shape.max_new_tokens,
        minibatch_rows=shape.minibatch_rows,
        engine=NativeEngine(**({"dtype": arm.sampling_dtype} if arm.sampling_dtype else {})),
        old_logprobs="recompute" if arm.sampling_dtype or arm.autocast else "engine",
        critic=arm.critic,
        critic_learning_rate=3e-3,
        critic_warmup_iterations=0,
        kl=KL(coefficient=0.05),
        advantage=Advantage(gamma=0.7, lam=0.95),
        optimization=Optimization(learning_rate=3e-4, optimizer=arm.optimizer),
        evaluation=Evaluation(samples=1),
        compile=arm.compiled,
    )
    reward = VerifierReward(scheme="until_error", failure_reward=-1.0) if arm.verified else ConstantReward()
    with tempfile.TemporaryDirectory() as folder:
        extras: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        callbacks: list[Callback] = [reward]
        if arm.defaults:
            assert clock is not None
            extras = {"logger": ClockedCSVLogger(folder, clock), "plugins": [AtomicCheckpointIO()]}
            callbacks += [IterationCheckpoint(), AdapterExport(), HtmlReport(), ClockedBar(clock)]
        trainer = Trainer(
            **{**TRAINER_DEFAULTS, **extras},
            callbacks=callbacks,
            profiler=clock,
            accelerator="cpu",
            max_epochs=ENDLESS,
            check_val_every_n_epoch=validate_after or 1,
            limit_val_batches=1.0 if arm.defaults else 0,
            gradient_clip_val=1.0,
            precision="bf16-mixed" if arm.autocast else "32-true",
            default_root_dir=folder,
        )
        trainer.fit(module, datamodule=SymbolicDataModule(task(), validation_limit=VALIDATED))


def train(orders: Orders, order: Figures) -> None:
    """Train as ordered, iteration by iteration; between two of them also time the bare work."""
    torch.set_num_threads(order["threads"])
    arm, shape = {**ARMS, **VARIANTS}[order["arm"]], Shape(**order["shape"])
    clock = PhaseClock() if arm.defaults else None
    bare: list[BareWork] = []
    steps = 0

    def figures(trainer: Trainer) -> Figures:
        nonlocal steps
        done, steps = trainer.global_step - steps, trainer.global_step
        return {"steps": done, **({"causes": clock.cut()} if clock else {})}

    def set_threads(order: Figures) -> Figures:
        torch.set_num_threads(order["threads"])
        return {}

    def time_bare_work(_: Figures) -> Figures:
        if not bare:
            parts = shape.prompts, shape.samples, shape.max_new_tokens, shape.epochs, shape.minibatch_rows
            bare.append(BareWork(order["start"], *parts))
        return bare[0].times()

    def begin(trainer: Trainer) -> None:
        orders.next_iteration(lambda: figures(trainer), {"threads": set_threads, "bare": time_bare_work})
        if clock:
            clock.cut()

    fit(arm, shape, order["seed"], begin, clock, order["start"], order["validate_after"])


if __name__ == "__main__":
    orders = Orders()
    orders.serve(lambda order: train(orders, order))
