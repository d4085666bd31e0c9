"""What a recipe decides, as typed groups of settings: each field is a flag and a YAML key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lit_symbolic.decoding import TreeOfThoughts

OptimizerName: TypeAlias = Literal["adamw", "muon", "adamw8bit", "paged_adamw8bit"]


@dataclass(frozen=True)
class Evaluation:
    """How validation, test and predict sample.

    Args:
        samples: Answers per problem.
        temperature: Sampling temperature; 0 is greedy, for which one sample suffices.
        pass_at: Values of k for which pass@k is reported; those above ``samples`` are left out.
        search: Search each answer step by step, see :class:`~lit_symbolic.decoding.TreeOfThoughts`; null samples it in one go.
        attempts: How often an answer is asked for, as long as the verifier refuses it: each time with what was found in the prompt.

    Raises:
        ValueError: If ``samples`` or ``attempts`` is not positive, or a search would propose the same step each time.
    """

    samples: int = 8
    temperature: float = 1.0
    pass_at: tuple[int, ...] = (1, 8)
    search: TreeOfThoughts | None = None
    attempts: int = 1

    def __post_init__(self) -> None:
        for name, value in (("samples", self.samples), ("attempts", self.attempts)):
            if value < 1:
                raise ValueError(f"evaluation.{name} must be at least 1, got {value}")
        if self.search is not None and self.search.proposals > 1 and self.temperature == 0:
            raise ValueError("evaluation.search.proposals are all the same at evaluation.temperature 0; give a temperature")


@dataclass(frozen=True)
class Optimization:
    """Optimizer and its schedule, which goes by iterations.

    Args:
        learning_rate: Highest learning rate.
        optimizer: ``adamw``; ``muon``: Muon for the matrices inside the network, AdamW for the rest, at one rate;
            ``adamw8bit`` holds AdamW's moments in 8 bits (bitsandbytes; a quarter of their bytes), ``paged_adamw8bit`` in
            memory that moves to the host where the GPU has no room.
        weight_decay: Decoupled weight decay.
        betas: Decay of the two moments.
        warmup_iterations: Iterations over which the rate rises linearly from 0.
        schedule: Course after that: constant, or falling to 0 at ``trainer.max_epochs``.

    Raises:
        ValueError: If a number is negative.
    """

    learning_rate: float = 1e-4
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_iterations: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.weight_decay < 0 or self.warmup_iterations < 0:
            raise ValueError("learning_rate must be positive, weight_decay and warmup_iterations not negative")

    def factor(self, iteration: int, iterations: int) -> float:
        """Share of the highest rate in iteration ``iteration`` of ``iterations``.

        Example:
            >>> [Optimization(warmup_iterations=2, schedule="linear").factor(i, 6) for i in (0, 1, 4)]
            [0.5, 1.0, 0.5]
        """
        if iteration < self.warmup_iterations:
            return (iteration + 1) / self.warmup_iterations
        done = (iteration - self.warmup_iterations) / max(1, iterations - self.warmup_iterations)
        if self.schedule == "linear":
            return 1.0 - done
        if self.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(done * math.pi))
        return 1.0


@dataclass(frozen=True)
class KL:
    """How far the policy may go from its reference.

    Args:
        place: ``loss`` adds k2 over all sampled tokens to the loss; ``reward`` takes k1 off each token's reward, which
            is right only where every scheme pays it over the whole answer.
        coefficient: Its weight, or its first weight if it adapts.
        target: KL per answer in nats that an adaptive coefficient steers to; None keeps it fixed.
        horizon: Answers over which the coefficient adapts.

    Raises:
        ValueError: If a number is out of its range.
    """

    place: Literal["loss", "reward"] = "loss"
    coefficient: float = 0.05
    target: float | None = None
    horizon: int = 10_000

    def __post_init__(self) -> None:
        if self.coefficient < 0 or self.horizon < 1 or (self.target is not None and self.target <= 0):
            raise ValueError("kl.coefficient must not be negative, kl.horizon at least 1, kl.target positive or null")


@dataclass(frozen=True)
class Advantage:
    """How rewards become advantages.

    Args:
        estimator: ``gae`` asks a critic. The others have none, and work on the reward-to-go of each token: ``rloo`` and ``grpo``
            compare it with that of the other answers to the prompt, ``reinforce++`` with all tokens of the iteration
            (:mod:`lit_symbolic.objectives.group_advantages`). Settings of the critic and of its loss are then not read.
        gamma: Discount per token. Below 1 it wants rewards that stand where they were earned (``until_error`` with a negative
            ``failure_reward``): a fault is then charged to the few tokens before it, 1 / (1 - gamma) of them. It makes a late
            failure cheaper than an early one, which is right where the verifier finds every fault where it is made and answers
            have one length; where they may grow, they do (molecules at 0.95: by 40 % in 15 iterations).
        lam: GAE's lambda; read by ``gae`` alone.
        critic_lam: Lambda of the returns that the critic learns; null takes ``lam``. With 1 it learns from what answers came to, unbiased,
            while a small ``lam`` keeps a token's advantage to what followed soon (https://arxiv.org/abs/2503.01491). Read by
            ``gae`` alone.
        whiten: Bring the advantages of an iteration to mean 0 and deviation 1; each process whitens its own. Read by ``gae`` alone:
            ``reinforce++`` always does it, ``rloo`` and ``grpo`` never.
        whiten_floor: Smallest divisor of the whitening, and of ``grpo``: keeps a critic's noise small where nearly all answers
            fail, and a group's small differences where all its answers are alike.
    """

    estimator: Literal["gae", "rloo", "grpo", "reinforce++"] = "gae"
    gamma: float = 1.0
    lam: float = 1.0
    critic_lam: float | None = None
    whiten: bool = True
    whiten_floor: float = 0.1
