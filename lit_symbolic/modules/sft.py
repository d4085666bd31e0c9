"""Supervised fine-tuning on demonstrations, drawn anew in each iteration."""

from __future__ import annotations

import random

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from lit_symbolic.modules.base import SymbolicModule
from lit_symbolic.modules.minibatches import mask_or_none, permuted_minibatches, step_weights, trimmed
from lit_symbolic.modules.settings import Evaluation, Optimization
from lit_symbolic.objectives.logprobs import token_logprobs
from lit_symbolic.policies import PolicyLoader
from lit_symbolic.policies.forward import response_hidden
from lit_symbolic.rewards import CombinationRule
from lit_symbolic.rollouts.engine import RolloutEngine, left_padded
from lit_symbolic.seeding import generator_for, run_seed, seed_for


class SFTModule(SymbolicModule):
    """Imitates the task's demonstrations: the mean negative log-prob of their tokens, end-of-sequence token included.

    Args:
        policy: What to train.
        demonstrations: Demonstrations in one iteration.
        init_from: Weights to start from, see :class:`SymbolicModule`.
        max_new_tokens: Longest answer in tokens; a longer demonstration is an error.
        temperature: Sampling temperature, kept for the PPO that follows.
        optimization: Optimizer and schedule.
        evaluation: How validation, test and predict sample.
        engine: What samples; None is the in-process engine.
        combine_rewards: Rule for several reward callbacks on one token.
        chat: Send prompts through the tokenizer's chat template.
        minibatch_rows: Demonstrations in one minibatch.

    Raises:
        ValueError: If ``demonstrations`` is not positive.
    """

    def __init__(
        self,
        policy: PolicyLoader,
        demonstrations: int = 4096,
        init_from: str | None = None,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        optimization: Optimization = Optimization(learning_rate=1e-3),
        evaluation: Evaluation = Evaluation(),
        engine: RolloutEngine | None = None,
        combine_rewards: CombinationRule = "sum",
        chat: bool = False,
        minibatch_rows: int = 128,
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
        )
        if demonstrations < 1:
            raise ValueError(f"model.demonstrations must be at least 1, got {demonstrations}")
        self.demonstrations = demonstrations

    def collect(self, iteration: int) -> list[dict[str, Tensor]]:
        """Draw demonstrations and cut them into minibatches."""
        rng = random.Random(seed_for(run_seed(), "demonstrations", iteration, self.global_rank))
        prompts, answers = [], []
        eos = int(self.tokenizer.eos_token_id)
        with self.timed("time/sampling_seconds"):
            for _ in range(self.demonstrations):
                problem = self.task.sample(rng)
                prompts.append(self._prompt_ids(problem, self.sampling.max_new_tokens))
                text = self.task.demonstration(problem, rng)
                ids = [*self.tokenizer(text, add_special_tokens=False)["input_ids"], eos]
                if len(ids) > self.sampling.max_new_tokens:
                    raise MisconfigurationException(
                        f"a demonstration for problem {problem.id!r} has {len(ids)} tokens, more than "
                        f"model.max_new_tokens = {self.sampling.max_new_tokens}; raise it, or no answer could ever end"
                    )
                answers.append(ids)
        cpu = torch.device("cpu")
        prompt_ids, prompt_mask = left_padded(prompts, self.pad_id, cpu)
        longest = max(map(len, answers))
        batch = {
            "prompt_ids": prompt_ids,
            "prompt_mask": torch.ones_like(prompt_ids, dtype=torch.bool) if prompt_mask is None else prompt_mask,
            "ids": torch.tensor([ids + [self.pad_id] * (longest - len(ids)) for ids in answers]),
            "mask": torch.arange(longest) < torch.tensor([len(ids) for ids in answers])[:, None],
        }
        generator = generator_for(run_seed(), "minibatches", iteration, self.global_rank)
        rows = permuted_minibatches(len(prompts), self.minibatch_rows, 1, generator)
        minibatches = [trimmed(batch, indices, ("ids", "mask")) for indices in rows]
        weights = step_weights(
            [m["mask"].sum()[None] for m in minibatches],
            self.trainer.accumulate_grad_batches,
            lambda total: self.trainer.strategy.reduce(total, reduce_op="sum"),
            self.trainer.world_size,
        )
        return [{**minibatch, "weight": weight} for minibatch, weight in zip(minibatches, weights, strict=True)]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Negative log-prob of the demonstrations, a mean over the tokens of the optimizer step."""
        mask = batch["mask"]
        hidden = response_hidden(self.model, batch["prompt_ids"], mask_or_none(batch["prompt_mask"]), batch["ids"], mask)
        logprobs, _ = token_logprobs(hidden, self.model.get_output_embeddings(), batch["ids"], mask)
        total = -logprobs.sum()
        self.log("train/loss", total.detach() / mask.sum(), on_step=False, on_epoch=True, batch_size=int(mask.sum()))
        return total * batch["weight"][0]
