"""What every module here does: load a policy, sample, have the answers verified, and score them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from callbacks.reward import RewardCallback
from lit_symbolic.certificate import Problem
from lit_symbolic.data import SymbolicDataModule
from lit_symbolic.decoding import TreeOfThoughts
from lit_symbolic.modules.evaluated import EvaluatedModule
from lit_symbolic.modules.minibatches import (
    Lengths,
    Minibatch,
    budgeted_minibatches,
    minibatches_on_every_rank,
    permuted_minibatches,
    step_weights,
)
from lit_symbolic.modules.saving import (
    check_vocabulary,
    keep_trained_weights,
    load_start,
    refuse_foreign_weights,
    require_trained_weights,
)
from lit_symbolic.modules.searching import searched
from lit_symbolic.modules.settings import Evaluation, Optimization
from lit_symbolic.optimizers import MuonAdamW, adamw, split_for_muon
from lit_symbolic.policies import PolicyLoader
from lit_symbolic.policies.forward import response_hidden
from lit_symbolic.policies.special_tokens import require_chat_template
from lit_symbolic.rewards import CombinationRule, combine, left_out
from lit_symbolic.rollouts.alignment import AlignedText, align
from lit_symbolic.rollouts.batch import FinishedAnswer, Rollouts
from lit_symbolic.rollouts.engine import RolloutEngine, SamplingSettings, left_padded
from lit_symbolic.rollouts.native import NativeEngine
from lit_symbolic.rollouts.stopping import ended_by, shortened
from lit_symbolic.tasks import Task
from lit_symbolic.verifiers import Verifier


class SymbolicModule(EvaluatedModule):
    """Samples answers, has them verified, and scores them; subclasses say what is learned from.

    One iteration is one Trainer epoch: :meth:`iteration_loader` collects it and returns its minibatches.

    Args:
        policy: What to train.
        init_from: Weights to start from: a Lightning checkpoint of this package, or a model or adapter folder.
        max_new_tokens: Longest answer in tokens.
        temperature: Sampling temperature of training rollouts; log-probs are divided by it.
        optimization: Optimizer and schedule.
        evaluation: How validation, test and predict sample.
        engine: What samples; None is the in-process engine.
        combine_rewards: Rule for several reward callbacks on one token.
        chat: Send prompts through the tokenizer's chat template.
        minibatch_rows: Answers in one minibatch.
        minibatch_tokens: Most tokens in one minibatch, prompts, answers and padding; answers of like length then share one, and
            ``minibatch_rows`` is not read. Null cuts by rows.
        compile: Compile the trunk's forward pass for learning with ``torch.compile``: true, or one of its modes, such as
            ``max-autotune-no-cudagraphs``. Pays where an iteration is long enough to make up for compiling.
    """

    def __init__(
        self,
        policy: PolicyLoader,
        init_from: str | None = None,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        optimization: Optimization = Optimization(),
        evaluation: Evaluation = Evaluation(),
        engine: RolloutEngine | None = None,
        combine_rewards: CombinationRule = "sum",
        chat: bool = False,
        minibatch_rows: int = 64,
        minibatch_tokens: int | None = None,
        compile: bool | str = False,
    ) -> None:
        super().__init__()
        if init_from is not None and not Path(init_from).exists():
            raise FileNotFoundError(
                f"model.init_from: there is no file or folder {init_from!r}; train a start first, or leave it out"
            )
        if minibatch_rows < 1:
            raise ValueError(f"model.minibatch_rows must be at least 1, got {minibatch_rows}")
        if minibatch_tokens is not None and minibatch_tokens < 1:
            raise ValueError(f"model.minibatch_tokens must be at least 1, or null to cut by rows, got {minibatch_tokens}")
        self.policy = policy
        self.init_from = init_from
        self.sampling = SamplingSettings(max_new_tokens, temperature)
        self.optimization = optimization
        self.evaluation = evaluation
        self.engine = engine or NativeEngine()
        self.combine_rewards: CombinationRule = combine_rewards
        self.chat = chat
        self.minibatch_rows = minibatch_rows
        self.minibatch_tokens = minibatch_tokens
        self.learning_hidden: Callable[..., Tensor] = compiled(response_hidden, compile)
        """:func:`response_hidden`, compiled where ``compile`` says so: for forward passes with gradients."""
        # Checkpoints leave out a frozen base; require_trained_weights checks what strict loading would have.
        self.strict_loading = False
        self.model: PreTrainedModel
        self.tokenizer: PreTrainedTokenizerBase

    # ---------------------------------------------------------------- building

    def configure_model(self) -> None:
        """Load the policy and, where given, the weights to start from."""
        if hasattr(self, "model"):
            return
        try:
            self.model, self.tokenizer = load_start(self.policy, self.init_from, self.task.vocabulary())
            if self.chat:
                require_chat_template(self.tokenizer)
            self.model.train()
            self.build_heads()
        except ValueError as error:
            raise MisconfigurationException(str(error)) from error

    def build_heads(self) -> None:
        """Add what a subclass needs beside the policy; called once, after warm start."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters to train, each group with a ``name`` and, where it differs from the policy's, a ``peak`` rate."""
        return [{"params": [p for p in self.model.parameters() if p.requires_grad], "name": "policy"}]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimizer over :meth:`parameter_groups`; the schedule is applied at the start of each iteration."""
        settings = self.optimization
        groups = [{"peak": settings.learning_rate, **group} for group in self.parameter_groups()]
        if settings.optimizer != "muon":
            return adamw(settings.optimizer)(
                groups, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
            )
        split = [{**group, **part} for group in groups for part in split_for_muon(self, group["params"])]
        return MuonAdamW(split, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay)

    def teardown(self, stage: str) -> None:
        """Let the engine give back what it keeps between calls."""
        self.engine.release()

    # ---------------------------------------------------------------- iterations

    def minibatch_rows_of(self, lengths: Lengths, epochs: int, generator: torch.Generator) -> tuple[list[list[int]], int]:
        """Rows of each minibatch, by tokens or by rows as the settings say; the same number on every rank.

        Args:
            lengths: Of the iteration's rows.
            epochs: Passes over the rows.
            generator: Source of randomness.

        Returns:
            The rows, and how many minibatches at the end must count nothing.
        """
        if self.minibatch_tokens is None:
            minibatches = permuted_minibatches(len(lengths), self.minibatch_rows, epochs, generator)
        else:
            minibatches = budgeted_minibatches(lengths, self.minibatch_tokens, epochs, generator)
        if self.trainer.world_size == 1:
            return minibatches, 0
        return minibatches_on_every_rank(
            minibatches, lambda count: int(self.trainer.strategy.reduce(torch.tensor(count, device=self.device), reduce_op="max"))
        )

    def weigh(self, minibatches: list[Minibatch], counts: list[Tensor]) -> list[Minibatch]:
        """The minibatches with their :func:`step_weights` as ``weight``."""
        weights = step_weights(
            counts,
            self.trainer.accumulate_grad_batches,
            lambda totals: self.trainer.strategy.reduce(totals, reduce_op="sum"),
            self.trainer.world_size,
        )
        return [{**minibatch, "weight": weight} for minibatch, weight in zip(minibatches, weights, strict=True)]

    def on_train_epoch_start(self) -> None:
        """Set the learning rate of this iteration and log what its collection measured."""
        settings = self.optimization
        factor = settings.factor(self.iteration, self.trainer.max_epochs or 0)
        peaks = {group["name"]: group.get("peak", settings.learning_rate) for group in self.parameter_groups()}
        rates = {}
        # A restored optimizer comes with the rates it was saved with; those of this run's configuration win.
        for group in self.optimizers(use_pl_optimizer=False).param_groups:  # type: ignore[union-attr]
            group.update(lr=peaks[group["name"]] * factor, betas=settings.betas, weight_decay=settings.weight_decay)
            rates[f"train/learning_rate_{group['name']}"] = group["lr"]
        self.begin_learning(rates)

    # ---------------------------------------------------------------- sampling and scoring

    @property
    def task(self) -> Task:
        """The task whose problems are served."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if not isinstance(datamodule, SymbolicDataModule):
            raise MisconfigurationException(
                f"{type(self).__name__} takes its problems from a SymbolicDataModule: pass datamodule=SymbolicDataModule(task=...)"
            )
        return datamodule.task

    def verifier_of(self, problem: Problem) -> Verifier:
        """The symbolic tool for this problem's answers."""
        return self.task.verifier_of(problem)

    def reward_callbacks(self) -> list[RewardCallback]:
        """The run's reward callbacks, the primary one first.

        Raises:
            MisconfigurationException: If there is not exactly one primary, or two share a name.
        """
        found = [c for c in self.trainer.callbacks if isinstance(c, RewardCallback)]  # type: ignore[attr-defined]
        if sum(c.primary for c in found) != 1 or len({c.name for c in found}) != len(found):
            described = ", ".join(f"{c.name}{' (primary)' if c.primary else ''}" for c in found) or "none"
            raise MisconfigurationException(
                f"a run needs exactly one primary reward callback, and names that differ; found: {described}. "
                "Add callbacks.VerifierReward() to the Trainer's callbacks"
            )
        return sorted(found, key=lambda callback: not callback.primary)

    def rollout(
        self,
        problems: Sequence[Problem],
        samples: int,
        settings: SamplingSettings,
        generator: torch.Generator,
        search: TreeOfThoughts | None = None,
    ) -> Rollouts:
        """Sample answers, have them verified while others are still being sampled, and combine the rewards.

        Without a chat template an answer also ends where the next worked example would begin (:attr:`Task.next_example`).

        Args:
            problems: What to answer.
            samples: Answers per problem.
            settings: How to sample.
            generator: Source of randomness.
            search: Search each answer step by step instead.

        Returns:
            Scored rollouts, a row per answer.
        """
        callbacks = self.reward_callbacks()
        prompts = [self._prompt_ids(problem, settings.max_new_tokens) for problem in problems]
        rows = len(prompts) * samples
        done = 0
        aligned: dict[int, AlignedText] = {}
        kept: dict[int, int] = {}

        def on_finished(indices: list[int], ids: list[list[int]]) -> None:
            nonlocal done
            answers = []
            for row, answer_ids in zip(indices, ids, strict=True):
                problem, answer = problems[row // samples], align(self.tokenizer, answer_ids)
                stop = "" if self.chat else self.task.task_of(problem).next_example
                if stop and (ended := ended_by(stop, answer)) is not None:
                    answer, kept[row] = ended, len(ended.spans)
                aligned[row] = answer
                answers.append(FinishedAnswer(row, problem, answer.text))
            for callback in callbacks:
                callback.on_answers(self, answers)
            done += len(indices)
            self.announce("sampling", done, rows)

        with self.timed("time/sampling_seconds"):
            self.announce("sampling", 0, rows)
            if search is None:
                generation = self.engine.generate(
                    self.model, prompts, samples, settings, self.eos_ids, self.pad_id, generator, on_finished
                )
                spent: dict[str, Tensor] = {}
            else:
                places = [place for place in range(len(prompts)) for _ in range(samples)]
                generation, spent = searched(
                    self, search, [problems[place] for place in places], [prompts[place] for place in places], settings, generator
                )
                lengths = generation.lengths.tolist()
                ids = [row[:length] for row, length in zip(generation.ids.tolist(), lengths, strict=True)]
                on_finished(list(range(rows)), ids)
        generation = shortened(generation, kept, self.pad_id)
        prompt_ids, prompt_mask = left_padded(prompts, self.pad_id, self.device)
        if prompt_mask is None:
            prompt_mask = torch.ones_like(prompt_ids, dtype=torch.bool)
        positions = torch.arange(generation.ids.shape[1], device=self.device)
        rollouts = Rollouts(
            problems=[problem for problem in problems for _ in range(samples)],
            samples=samples,
            prompt_ids=prompt_ids.repeat_interleave(samples, dim=0),
            prompt_mask=prompt_mask.repeat_interleave(samples, dim=0),
            ids=generation.ids,
            mask=positions < generation.lengths[:, None],
            logprobs=generation.logprobs,
            ended=generation.ended,
            texts=[aligned[row].text for row in range(rows)],
            spans=[aligned[row].spans for row in range(rows)],
            spent=spent,
        )
        with self.timed("time/verifying_seconds"):
            self.announce("verifying", 0, rows)
            for callback in callbacks:
                callback.on_rollouts(self.trainer, self, rollouts)
            self._combine(rollouts, callbacks)
            self.announce("verifying", rows, rows)
        return rollouts

    def _combine(self, rollouts: Rollouts, callbacks: list[RewardCallback]) -> None:
        primary = callbacks[0].name
        rollouts.token_rewards, rollouts.loss_mask = combine(rollouts, primary, self.combine_rewards, rollouts.objections)
        for name, rows in left_out(rollouts.evidence, primary).items():
            self.note(f"rewards/left_out_{name}", rows)

    def prompt_ids(self, problem: Problem) -> list[int]:
        """The prompt as the model reads it."""
        if self.chat:
            message = [{"role": "user", "content": problem.prompt}]
            ids: Any = self.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=True, return_dict=False)
        else:
            ids = self.tokenizer(problem.prompt)["input_ids"]
        return list(ids)

    @property
    def longest(self) -> int | None:
        """Tokens of the model's context, where it says so."""
        longest = getattr(self.model.config.get_text_config(decoder=True), "max_position_embeddings", None)
        return None if longest is None else int(longest)

    def has_room(self, problem: Problem, max_new_tokens: int) -> bool:
        """Whether prompt and answer fit in the model's context."""
        return self.longest is None or len(self.prompt_ids(problem)) + max_new_tokens <= self.longest

    def _prompt_ids(self, problem: Problem, max_new_tokens: int) -> list[int]:
        ids, longest = self.prompt_ids(problem), self.longest
        if longest is not None and len(ids) + max_new_tokens > longest:
            raise MisconfigurationException(
                f"the prompt of problem {problem.id!r} has {len(ids)} tokens and the answer may have {max_new_tokens}, "
                f"more than the model's {longest} positions; lower model.max_new_tokens or take a model with a longer context"
            )
        return ids

    @property
    def eos_ids(self) -> list[int]:
        """Ids that end an answer: the tokenizer's and the model's own."""
        configured = self.model.generation_config.eos_token_id if self.model.generation_config is not None else None
        ids = configured if isinstance(configured, list) else [configured]
        return sorted({i for i in [*ids, self.tokenizer.eos_token_id] if i is not None})

    @property
    def pad_id(self) -> int:
        """Id that fills the room after an answer; masks go by length, so any id serves."""
        return int(self.tokenizer.pad_token_id)

    # ---------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what was trained, leave out a frozen base."""
        keep_trained_weights(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint fits: non-strict loading would hide what is missing."""
        check_vocabulary(self.tokenizer, checkpoint)
        require_trained_weights(self, checkpoint)
        if self.trainer.state.fn == TrainerFn.FITTING:
            refuse_foreign_weights(self, checkpoint)


def compiled(function: Callable[..., Tensor], how: bool | str) -> Callable[..., Tensor]:
    """``torch.compile(function)`` for shapes that change: with True, or with one of its modes; with False, ``function`` itself."""
    if how is False:
        return function
    options: dict[str, Any] = {} if how is True else {"mode": how}
    return cast(Callable[..., Tensor], torch.compile(function, dynamic=True, **options))
