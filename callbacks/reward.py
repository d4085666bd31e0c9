"""Reward callbacks: what turns answers into a reward for every token."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

import torch
from lightning import Callback, LightningModule, Trainer

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.rewards import SchemeName, token_rewards
from lit_symbolic.rollouts.batch import FinishedAnswer, Rollouts
from lit_symbolic.seeding import generator_for, run_seed
from lit_symbolic.verifiers.base import Verifier, check_start
from lit_symbolic.verifiers.pool import AnswerPool, PendingVerifications, VerifierPool
from lit_symbolic.verifiers.ray_pool import RayVerifierPool  # noqa: F401 - imported, so that a config can name it shortly

if TYPE_CHECKING:
    from lit_symbolic.modules.base import SymbolicModule


class RewardCallback(Callback):
    """A source of token rewards, next to whatever else a Lightning callback does.

    Args:
        name: Key of its rewards in ``Rollouts.rewards``; unique in a run.
        primary: Whether this one decides what is correct and pays at the end-of-sequence token; one callback of a run
            is. Only its lack of evidence masks an answer out of the loss; another's is left out of the combination.
    """

    def __init__(self, name: str, primary: bool) -> None:
        self.name = name
        self.primary = primary

    def on_answers(self, module: SymbolicModule, rows: Sequence[FinishedAnswer]) -> None:
        """Called as answers end, while others are still being sampled: start work on them here."""

    @abstractmethod
    def on_rollouts(self, trainer: Trainer, module: SymbolicModule, rollouts: Rollouts) -> None:
        """Called when all answers are there: write ``rollouts.rewards[name]``, ``.loss_masks[name]``, ``.evidence[name]``
        and ``.objections[name]``.

        The primary one also fills ``rollouts.certificates`` and ``rollouts.in_finding``.
        """


class VerifierReward(RewardCallback):
    """Sends each finished answer to a verifier's worker process and turns the certificate into token rewards.

    Args:
        scheme: How a certificate becomes a reward for every token, see :mod:`lit_symbolic.rewards`.
        prefix_weight: Reward for the share of right tokens before the first fault; read by ``until_error`` and its control.
        failure_reward: Reward on the first wrong token, 0 or -1; read by ``until_error`` and its control.
        score_weight: How much of it the certificate's score takes away; read by ``until_error`` and its control.
        workers: Verifier processes, where no pool is given; None takes the default of :class:`VerifierPool`.
        deadline_seconds: Longest time for one answer, where no pool is given; after it the worker is killed and there is no
            evidence. None takes the default of :class:`VerifierPool`.
        verifier: The tool; None takes the one of the problem's task.
        name: See :class:`RewardCallback`.
        primary: See :class:`RewardCallback`.
        pool: Where answers are verified, with all its settings: ``VerifierPool`` on this machine, ``RayVerifierPool`` on the
            nodes of a cluster. None is a ``VerifierPool`` with ``workers`` and ``deadline_seconds``.

    Raises:
        ValueError: If the scheme is unknown, a number is out of its range, or a pool is given beside settings of one.
    """

    def __init__(
        self,
        scheme: SchemeName = "until_error",
        prefix_weight: float = 0.0,
        failure_reward: float = 0.0,
        score_weight: float = 0.0,
        workers: int | None = None,
        deadline_seconds: float | None = None,
        verifier: Verifier | None = None,
        name: str = "verifier",
        primary: bool = True,
        pool: AnswerPool | None = None,
    ) -> None:
        super().__init__(name, primary)
        if scheme not in get_args(SchemeName):
            raise ValueError(f"reward.scheme is one of {', '.join(get_args(SchemeName))}, got {scheme!r}")
        if not 0.0 <= prefix_weight <= 1.0 or failure_reward > 0.0:
            raise ValueError(
                f"reward.prefix_weight lies in [0, 1] and reward.failure_reward is at most 0, got {prefix_weight} and {failure_reward}"
            )
        if not 0.0 <= score_weight <= 1.0:
            raise ValueError(f"reward.score_weight lies in [0, 1], got {score_weight}")
        self.scheme: SchemeName = scheme
        self.prefix_weight = prefix_weight
        self.failure_reward = failure_reward
        self.score_weight = score_weight
        self.verifier = verifier
        settings = {"workers": workers, "deadline_seconds": deadline_seconds}
        given: dict[str, Any] = {setting: value for setting, value in settings.items() if value is not None}
        if pool is not None and given:
            raise ValueError(f"reward.pool has its own {' and '.join(given)}; give them there, and not beside it")
        self.pool = pool if pool is not None else VerifierPool(**given)
        self._pending: PendingVerifications | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell on standard error what the tools have here: the layers of the sandbox. A cluster's nodes have tools of their own.

        Raises:
            ToolUnavailable: If something that a tool requires is missing: every answer of the run would be without evidence.
        """
        if isinstance(self.pool, VerifierPool):
            task = getattr(getattr(trainer, "datamodule", None), "task", None)
            found = [self.verifier] if self.verifier is not None else [] if task is None else task.verifiers
            told = check_start(found)
            if trainer.is_global_zero:
                print(*(f"{line}\n" for line in told), sep="", end="", file=sys.stderr)

    def on_answers(self, module: SymbolicModule, rows: Sequence[FinishedAnswer]) -> None:
        """Send the answers to the pool."""
        if self._pending is None:
            self._pending = self.pool.batch()
        for answer in rows:
            verifier = self.verifier or module.verifier_of(answer.problem)
            self._pending.add(answer.row, verifier, answer.problem, answer.text)

    def certify(self, module: SymbolicModule, texts: Sequence[tuple[Problem, str]]) -> list[Certificate]:
        """Have texts verified that are no answers of any rollouts: beginnings of some, while they are searched for."""
        batch = self.pool.batch()
        for index, (problem, text) in enumerate(texts):
            batch.add(index, self.verifier or module.verifier_of(problem), problem, text)
        return batch.wait().certificates

    def on_rollouts(self, trainer: Trainer, module: SymbolicModule, rollouts: Rollouts) -> None:
        """Wait for the certificates and write the rewards."""
        if self._pending is None:
            raise RuntimeError(f"reward callback {self.name!r} was asked for rewards without having been shown any answers")
        pending, self._pending = self._pending, None
        result = pending.wait()
        device, shape = rollouts.ids.device, rollouts.ids.shape
        rewards = torch.zeros(shape, dtype=torch.float32)
        loss_mask = torch.zeros(shape, dtype=torch.bool)
        in_finding = torch.zeros(shape, dtype=torch.bool)
        objections: list[int] = []
        ended = rollouts.ended.tolist()
        generator = generator_for(run_seed(), "reward", self.name, module.iteration, trainer.global_rank)
        for row, certificate in enumerate(result.certificates):
            length = len(rollouts.spans[row])
            reward = token_rewards(
                self.scheme,
                certificate,
                rollouts.spans[row],
                ended[row],
                prefix_weight=self.prefix_weight,
                failure_reward=self.failure_reward,
                score_weight=self.score_weight,
                generator=generator,
            )
            rewards[row, :length] = reward.values
            loss_mask[row, :length] = reward.loss_mask
            in_finding[row, :length] = reward.in_finding
            objections.append(reward.objection)
        rollouts.rewards[self.name] = rewards.to(device)
        rollouts.loss_masks[self.name] = loss_mask.to(device)
        rollouts.evidence[self.name] = torch.tensor([c.is_evidence for c in result.certificates], device=device)
        rollouts.objections[self.name] = torch.tensor(objections, device=device)
        if self.primary:
            rollouts.certificates = result.certificates
            rollouts.in_finding = in_finding.to(device)
        module.note("verify/seconds_hidden", result.seconds_hidden)
        module.note("verify/seconds_waited", result.seconds_waited)
        module.note("verify/seconds_busy", result.seconds_busy)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the worker processes."""
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the worker processes."""
        self.close()

    def close(self) -> None:
        """End the worker processes; they start again when needed."""
        self._pending = None
        self.pool.close()
