"""Supervised fine-tuning on demonstrations, drawn anew in each iteration."""

from __future__ import annotations

import random

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from lit_symbolic.modules.base import SymbolicModule
from lit_symbolic.modules.minibatches import Lengths, Minibatch, cut
from lit_symbolic.modules.settings import Evaluation, Optimization
from lit_symbolic.objectives.logprobs import token_logprobs
from lit_symbolic.policies import PolicyLoader
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
        minibatch_tokens: Most tokens in one minibatch, see :class:`SymbolicModule`; null cuts by rows.
        compile: Compile the forward pass, see :class:`SymbolicModule`.

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
        minibatch_tokens: int | None = None,
        compile: bool | str = False,
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
        if demonstrations < 1:
            raise ValueError(f"model.demonstrations must be at least 1, got {demonstrations}")
        self.demonstrations = demonstrations

    def collect(self, iteration: int) -> list[Minibatch]:
        """Draw demonstrations and cut them into minibatches."""
        rng = random.Random(seed_for(run_seed(), "demonstrations", iteration, self.global_rank))
        prompts, answers = [], []
        eos = int(self.tokenizer.eos_token_id)
        with self.timed("time/sampling_seconds"):
            for _ in range(self.demonstrations):
                problem = self.task.lesson(rng)
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
        lengths = Lengths([len(ids) for ids in prompts], [len(ids) for ids in answers])
        generator = generator_for(run_seed(), "minibatches", iteration, self.global_rank)
        rows, added = self.minibatch_rows_of(lengths, 1, generator)
        minibatches = [cut(batch, indices, lengths) for indices in rows]
        for minibatch in minibatches[len(rows) - added :]:
            minibatch["mask"] = torch.zeros_like(minibatch["mask"])
        return self.weigh(minibatches, [minibatch["mask"].sum()[None].to(self.device) for minibatch in minibatches])

    def training_step(self, batch: Minibatch, batch_idx: int) -> Tensor:
        """Negative log-prob of the demonstrations, a mean over the tokens of the optimizer step."""
        ids, mask = batch["ids"], batch["mask"]
        hidden = self.learning_hidden(self.model, batch["prompt_ids"], batch.get("prompt_mask"), ids, mask)
        logprobs, _ = token_logprobs(hidden, self.model.get_output_embeddings(), ids, mask, entropy="none")
        total = -logprobs.sum()
        self.learned.add("train/loss", total, mask.sum())
        return total * batch["weight"][0]
