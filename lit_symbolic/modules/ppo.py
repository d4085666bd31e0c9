"""PPO whose reward is a number for every token (RLSF, https://arxiv.org/abs/2405.16661)."""

from __future__ import annotations

import random
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from lit_symbolic.metrics import diagnostics
from lit_symbolic.modules.base import SymbolicModule
from lit_symbolic.modules.minibatches import Lengths, Minibatch, by_length, cut, cut_by_budget
from lit_symbolic.modules.settings import KL, Advantage, Evaluation, Optimization
from lit_symbolic.objectives import group_advantages, ppo
from lit_symbolic.objectives.logprobs import token_logprobs
from lit_symbolic.policies import Critic, CriticKind, PolicyLoader, Reference, ReferenceKind
from lit_symbolic.policies.adapters import belongs_to
from lit_symbolic.policies.critic import CRITIC_ADAPTER
from lit_symbolic.policies.forward import response_hidden, shares_prompts
from lit_symbolic.rewards import CombinationRule
from lit_symbolic.rollouts.batch import Rollouts
from lit_symbolic.rollouts.engine import RolloutEngine
from lit_symbolic.seeding import generator_for, run_seed, seed_for

EVALUATION_FACTOR = 4
"""Rows or tokens of a forward pass without gradients, as a multiple of those that are learned from at a time."""


class PPOModule(SymbolicModule):
    """Proximal policy optimization on token rewards.

    Args:
        policy: What to train.
        problems: Training problems in one iteration.
        samples: Answers to each.
        epochs: Passes over an iteration's rollouts.
        clip: Half-width of the probability ratio's interval.
        value_clip: Largest rewarded change of a value; null for none.
        value_coefficient: Weight of the value loss.
        entropy_coefficient: Weight of the entropy bonus.
        kl: Distance to the reference.
        advantage: From rewards to advantages. With an estimator other than ``gae`` there is no critic, and all that is said of one
            here (``critic``, ``critic_*``, ``value_*``) is not read.
        critic: ``head`` on the policy, second ``adapter``, or ``own`` network.
        critic_learning_rate: The critic's highest learning rate; null takes the policy's.
        critic_warmup_iterations: First iterations in which only the critic learns.
        reference: See :class:`lit_symbolic.policies.Reference`.
        old_logprobs: ``engine`` takes those of sampling, ``recompute`` those of the training forward pass, which is
            exact where the engine computes in another precision and costs a forward pass (none with critic ``head``).
        init_from: Weights to start from, see :class:`SymbolicModule`.
        max_new_tokens: Longest answer in tokens.
        temperature: Sampling temperature; log-probs are divided by it.
        optimization: Optimizer and schedule.
        evaluation: How validation, test and predict sample.
        engine: What samples; null is the in-process engine.
        combine_rewards: Rule for several reward callbacks on one token.
        chat: Send prompts through the tokenizer's chat template.
        minibatch_rows: Answers in one minibatch.
        minibatch_tokens: Most tokens in one minibatch, see :class:`SymbolicModule`; null cuts by rows.
        compile: Compile the forward pass for learning, see :class:`SymbolicModule`.
        share_prompts: Read a prompt once for all its answers in a minibatch, where the model allows it
            (:func:`lit_symbolic.policies.forward.shares_prompts`); the result is the same to rounding.
        importance_cap: Largest importance weight of a token where the engine's distribution is not exactly the policy's, see
            :func:`lit_symbolic.objectives.ppo.importance_weights`; null for none.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(
        self,
        policy: PolicyLoader,
        problems: int = 32,
        samples: int = 8,
        epochs: int = 2,
        clip: float = 0.2,
        value_clip: float | None = 0.2,
        value_coefficient: float = 1.0,
        entropy_coefficient: float = 0.0,
        kl: KL = KL(),
        advantage: Advantage = Advantage(),
        critic: CriticKind = "head",
        critic_learning_rate: float | None = None,
        critic_warmup_iterations: int = 2,
        reference: ReferenceKind = "auto",
        old_logprobs: Literal["engine", "recompute"] = "recompute",
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
        share_prompts: bool = True,
        importance_cap: float | None = 2.0,
    ) -> None:
        super().__init__(
            policy,
            init_from=init_from,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            optimization=optimization,
            evaluation=evaluation,
            engine=engine,
            combine_rewards=combine_rewards,
            chat=chat,
            minibatch_rows=minibatch_rows,
            minibatch_tokens=minibatch_tokens,
            compile=compile,
        )
        for name, value in (("problems", problems), ("samples", samples), ("epochs", epochs)):
            if value < 1:
                raise ValueError(f"model.{name} must be at least 1, got {value}")
        if not 0 < clip < 1:
            raise ValueError(f"model.clip lies between 0 and 1, got {clip}")
        if samples < 2 and advantage.estimator in ("rloo", "grpo"):
            raise ValueError(
                f"model.advantage.estimator {advantage.estimator} compares the answers to a prompt: give model.samples at least 2"
            )
        if temperature <= 0:
            raise ValueError(f"model.temperature must be positive to learn from samples, got {temperature}")
        if importance_cap is not None and importance_cap < 1:
            raise ValueError(f"model.importance_cap must be at least 1, or null for none, got {importance_cap}")
        self.problems = problems
        self.samples = samples
        self.epochs = epochs
        self.clip = clip
        self.value_clip = value_clip
        self.value_coefficient = value_coefficient
        self.entropy_coefficient = entropy_coefficient
        self.kl = kl
        self.advantage = advantage
        self.critic_kind: CriticKind = critic
        self.critic_learning_rate = critic_learning_rate
        self.critic_warmup_iterations = critic_warmup_iterations
        self.reference_kind: ReferenceKind = reference
        self.old_logprobs = old_logprobs
        self.share_prompts = share_prompts
        self.importance_cap = importance_cap
        self.iteration_success_rate: float | None = None
        """Of the answers of the present iteration, as soon as they are verified: for the progress bar."""
        self.kl_coefficient: Tensor
        self.register_buffer("kl_coefficient", torch.tensor(kl.coefficient, dtype=torch.float64))

    def build_heads(self) -> None:
        """Make the reference, and the critic where the estimator asks one, from the warm-started policy."""
        self.reference = Reference(self.model, self.reference_kind)
        self.critic = Critic(self.model, self.critic_kind) if self.advantage.estimator == "gae" else None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Policy and critic, each with its own learning rate."""
        if self.critic is None:
            return super().parameter_groups()
        critic = {id(p) for p in self.critic.parameters()}
        critic |= {id(p) for name, p in self.model.named_parameters() if belongs_to(name, CRITIC_ADAPTER)}
        trained = [p for p in self.parameters() if p.requires_grad]
        policy_group = {"params": [p for p in trained if id(p) not in critic], "name": "policy"}
        critic_group: dict[str, Any] = {"params": [p for p in trained if id(p) in critic], "name": "critic"}
        if self.critic_learning_rate is not None:
            critic_group["peak"] = self.critic_learning_rate
        return [policy_group, critic_group]

    def setup(self, stage: str) -> None:
        """Make the metrics, and refuse a KL in the reward of a scheme that ends an answer at its first fault."""
        super().setup(stage)
        self._metrics["train"] = self.answer_metrics(self.samples)
        if stage == "fit" and self.kl.place == "reward" and self.kl.coefficient > 0:
            ending = [c.name for c in self.reward_callbacks() if str(getattr(c, "scheme", "")).startswith("until_error")]
            if ending:
                raise MisconfigurationException(
                    "kl.place: reward does not go with scheme until_error: the KL would be paid up to the first fault only, "
                    "and failing early would be the cheapest answer; use kl.place: loss"
                )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up an adaptive KL coefficient where it stood; a fixed one is this run's own."""
        super().on_load_checkpoint(checkpoint)
        if self.kl.target is None:
            checkpoint["state_dict"]["kl_coefficient"] = self.kl_coefficient.clone()

    # ---------------------------------------------------------------- collecting

    def collect(self, iteration: int) -> list[Minibatch]:
        """Sample, verify, evaluate, and cut into minibatches."""
        self.iteration_success_rate = None
        rng = random.Random(seed_for(run_seed(), "problems", iteration, self.global_rank))
        problems = [self.task.sample(rng) for _ in range(self.problems)]
        generator = generator_for(run_seed(), "sampling", iteration, self.global_rank)
        rollouts = self.rollout(problems, self.samples, self.sampling, generator)
        lengths = Lengths(rollouts.prompt_mask.sum(dim=1).tolist(), [len(spans) for spans in rollouts.spans])
        per_prompt = self.samples if self.share_prompts and shares_prompts(self.model) else 1
        with self.timed("time/evaluating_seconds"):
            batch = self._evaluated(rollouts, lengths, per_prompt)
        generator = generator_for(run_seed(), "minibatches", iteration, self.global_rank)
        rows, added = self.minibatch_rows_of(lengths, self.epochs, generator)
        minibatches = [cut(batch, indices, lengths, per_prompt) for indices in rows]
        for minibatch in minibatches[len(rows) - added :]:
            minibatch |= {name: torch.zeros_like(minibatch[name]) for name in ("loss_mask", "kl_mask")}
        for minibatch in minibatches:
            minibatch["warming_up"] = self.critic is not None and iteration < self.critic_warmup_iterations
            minibatch["kl_coefficient"] = self.kl_coefficient.float()
        return self.weigh(minibatches, [torch.stack([m["loss_mask"].sum(), m["kl_mask"].sum()]) for m in minibatches])

    def _evaluated(self, rollouts: Rollouts, lengths: Lengths, per_prompt: int) -> dict[str, Tensor]:
        """Everything that stays fixed while the iteration is learned from: old log-probs, values, KL, advantages."""
        assert rollouts.token_rewards is not None
        assert rollouts.loss_mask is not None
        mask = rollouts.mask
        evidence = rollouts.evidence[self.reward_callbacks()[0].name]
        batch = {
            "prompt_ids": rollouts.prompt_ids[::per_prompt],
            "prompt_mask": rollouts.prompt_mask[::per_prompt],
            "ids": rollouts.ids,
            "mask": mask,
            "old_logprobs": rollouts.logprobs,
        }
        evaluated = self._evaluated_rows(batch, lengths, per_prompt)
        old, reference = evaluated["old_logprobs"], evaluated["reference_logprobs"]
        kl = ppo.kl_k1(old, reference) * mask
        rewards = rollouts.token_rewards
        self._log_collected(rollouts, kl)
        if self.kl.place == "reward":
            rewards = rewards - self.kl_coefficient.float() * kl
        if self.kl.target is not None:
            ranks = self.trainer.world_size
            mean = self.trainer.strategy.reduce(kl.sum(dim=1).mean(), reduce_op="mean")
            coefficient = ppo.adapted_coefficient(
                float(self.kl_coefficient), float(mean), self.kl.target, ranks * len(rollouts), self.kl.horizon
            )
            self.kl_coefficient.fill_(coefficient)
        return {
            **batch,
            **evaluated,
            **self._correction(old, rollouts),
            "loss_mask": rollouts.loss_mask,
            "kl_mask": mask & evidence[:, None],
            **self._advantages(rewards, evaluated.get("old_values"), rollouts.loss_mask),
        }

    def _advantages(self, rewards: Tensor, values: Tensor | None, loss_mask: Tensor) -> dict[str, Tensor]:
        """Advantages of each token and, with a critic, the returns that it learns."""
        settings = self.advantage
        if settings.estimator != "gae":
            if settings.estimator != "reinforce++":
                self.note("train/answers_alone", group_advantages.alone(loss_mask, self.samples))
            return {
                "advantages": group_advantages.group_advantages(
                    settings.estimator, rewards, loss_mask, self.samples, settings.gamma, settings.whiten_floor
                )
            }
        assert values is not None
        advantages, returns = ppo.gae(rewards, values, loss_mask, settings.gamma, settings.lam)
        if settings.critic_lam is not None:
            _, returns = ppo.gae(rewards, values, loss_mask, settings.gamma, settings.critic_lam)
        self.note("train/explained_variance", diagnostics.explained_variance(values, returns, loss_mask))
        if settings.whiten:
            advantages = ppo.whiten(advantages, loss_mask, settings.whiten_floor)
        return {"advantages": advantages, "returns": returns}

    @torch.no_grad()
    def _evaluated_rows(self, batch: dict[str, Tensor], lengths: Lengths, per_prompt: int) -> dict[str, Tensor]:
        """Old and reference log-probs and, with a critic, values, each of shape (rows, length).

        Without activations to keep there is room for several times as many rows as learning has; the shortest go first.
        """
        order = by_length(lengths, range(len(lengths)))
        size = EVALUATION_FACTOR * self.minibatch_rows
        if self.minibatch_tokens is None:
            parts = [order[first : first + size] for first in range(0, len(order), size)]
        else:
            parts = cut_by_budget(lengths, order, EVALUATION_FACTOR * self.minibatch_tokens)
        evaluated: dict[str, Tensor] = {}
        for rows in parts:
            part = cut(batch, rows, lengths, per_prompt)
            at = torch.tensor(rows, device=self.device), slice(0, part["ids"].shape[1])
            for name, values in self._evaluated_part(part).items():
                evaluated.setdefault(name, torch.zeros_like(batch["old_logprobs"]))[at] = values
        return evaluated

    def _evaluated_part(self, part: Minibatch) -> dict[str, Tensor]:
        ids, mask, inputs = part["ids"], part["mask"], inputs_of(part)
        head, temperature = self.model.get_output_embeddings(), self.sampling.temperature
        hidden, evaluated = None, {"old_logprobs": part["old_logprobs"]}
        with_head = self.critic is not None and self.critic.kind == "head"
        if self.old_logprobs == "recompute" or with_head or not self.engine.exact:
            hidden = response_hidden(self.model, *inputs)
            evaluated["old_logprobs"], _ = token_logprobs(hidden, head, ids, mask, temperature, entropy="none")
        if self.critic is not None:
            evaluated["old_values"] = self.critic(self.model, hidden, *inputs)
        with self.reference.of(self.model) as reference:
            reference_hidden = response_hidden(reference, *inputs)
            reference_head = reference.get_output_embeddings()
            evaluated["reference_logprobs"], _ = token_logprobs(
                reference_hidden, reference_head, ids, mask, temperature, entropy="none"
            )
        return evaluated

    def _correction(self, old: Tensor, rollouts: Rollouts) -> dict[str, Tensor]:
        """Importance weights where the answers come from another distribution than the policy's; else nothing."""
        if self.engine.exact:
            return {}
        mask, sampler = rollouts.mask, rollouts.logprobs
        weights = ppo.importance_weights(old, sampler, self.importance_cap)
        self.note("train/sampler_mismatch", diagnostics.mean_over((old - sampler).abs(), mask))
        self.note("train/sampler_kl", diagnostics.approx_kl(old, sampler, mask))
        self.note("train/importance_truncated", diagnostics.importance_truncated(old, sampler, mask, self.importance_cap))
        self.note("train/importance_ess", diagnostics.effective_share(weights, mask))
        return {"importance": weights}

    def _log_collected(self, rollouts: Rollouts, kl: Tensor) -> None:
        assert rollouts.token_rewards is not None
        kl_per_answer = kl.sum(dim=1).mean()
        coefficient = self.kl_coefficient.float()
        solved = rollouts.correct.view(-1, rollouts.samples).float().mean(dim=1)
        self.note("train/kl", kl_per_answer)
        self.note("train/kl_coefficient", coefficient)
        self.note("train/task_reward", rollouts.token_rewards.sum(dim=1).mean())
        self.note("train/kl_reward", -coefficient * kl_per_answer if self.kl.place == "reward" else 0.0)
        self.note("train/prompts_all_failed", (solved == 0).float().mean())
        self.note("train/prompts_all_solved", (solved == 1).float().mean())
        self._metrics["train"].to(self.device).update(rollouts)
        measured = self._metrics["train"].compute()
        self.iteration_success_rate = float(measured["success_rate"])
        for name, value in measured.items():
            self.note(f"train/{name}", value)
        self._metrics["train"].reset()

    # ---------------------------------------------------------------- learning

    def training_step(self, batch: Minibatch, batch_idx: int) -> Tensor:
        """Clipped policy loss, KL, entropy and, with a critic, clipped value loss, each a mean over its tokens of the optimizer step."""
        ids, mask, loss_mask, kl_mask = batch["ids"], batch["mask"], batch["loss_mask"], batch["kl_mask"]
        inputs, warming_up = inputs_of(batch), batch["warming_up"]
        per_loss_token, per_token = batch["weight"].unbind()
        loss_tokens = loss_mask.sum()
        hidden, loss = None, torch.zeros((), device=self.device)
        if not warming_up or (self.critic is not None and self.critic.kind == "head"):
            hidden = self.learning_hidden(self.model, *inputs)
        if self.critic is not None:
            # While only the critic learns, its loss must not move the policy through a shared trunk.
            read = hidden.detach() if warming_up and hidden is not None else hidden
            values = self.critic(self.model, read, *inputs)
            value_errors = ppo.value_loss(values, batch["old_values"], batch["returns"], self.value_clip)
            value_total = (value_errors * loss_mask).sum()
            loss = self.value_coefficient * per_loss_token * value_total
            self.learned.add("train/value_loss", value_total, loss_tokens)
        if warming_up:
            if self.trainer.world_size > 1:
                # Several processes wait for each other's gradients, of weights that do not learn yet too.
                loss = loss + 0.0 * sum(p.sum() for p in self.parameters() if p.requires_grad)
            return loss
        assert hidden is not None
        head, temperature = self.model.get_output_embeddings(), self.sampling.temperature
        use: Literal["gradient", "value"] = "gradient" if self.entropy_coefficient else "value"
        logprobs, entropy = token_logprobs(hidden, head, ids, mask, temperature, entropy=use)
        policy_errors = ppo.policy_loss(logprobs, batch["old_logprobs"], batch["advantages"], self.clip)
        kl_errors = ppo.kl_k2(logprobs, batch["reference_logprobs"])
        if "importance" in batch:
            policy_errors, kl_errors = policy_errors * batch["importance"], kl_errors * batch["importance"]
        policy_total, kl_total = (policy_errors * loss_mask).sum(), (kl_errors * kl_mask).sum()
        loss = loss + per_loss_token * policy_total
        if self.kl.place == "loss":
            loss = loss + batch["kl_coefficient"] * per_token * kl_total
        if self.entropy_coefficient:
            loss = loss - self.entropy_coefficient * per_token * (entropy * kl_mask).sum()
        with torch.no_grad():
            old, tokens = batch["old_logprobs"], mask.sum()
            self.learned.add("train/policy_loss", policy_total, loss_tokens)
            self.learned.add("train/kl_loss", kl_total, kl_mask.sum())
            self.learned.add("train/entropy", entropy.sum(), tokens)
            for name, mean in (
                ("approx_kl", diagnostics.approx_kl(logprobs, old, loss_mask)),
                ("clipfrac", diagnostics.clipfrac(logprobs, old, loss_mask, self.clip)),
            ):
                self.learned.add(f"train/{name}", mean * loss_tokens, loss_tokens)
            self.learned.at_least("train/ratio_max", diagnostics.ratio_max(logprobs, old, loss_mask))
        return loss


def inputs_of(batch: Minibatch) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor | None]:
    """What :func:`response_hidden` takes, of a minibatch."""
    return batch["prompt_ids"], batch.get("prompt_mask"), batch["ids"], batch["mask"], batch.get("prompt_of")
