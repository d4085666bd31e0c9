"""Validation, test and predict: answers are sampled or searched for, scored, and where that is asked for mended."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchmetrics import SumMetric

from lit_symbolic.certificate import Certificate, Finding, Problem
from lit_symbolic.data import TaskMixture
from lit_symbolic.decoding.tree_of_thoughts import TreeOfThoughts
from lit_symbolic.metrics import AnswerMetrics
from lit_symbolic.modules.iterations import IterationModule
from lit_symbolic.modules.settings import Evaluation
from lit_symbolic.rollouts.batch import Rollouts, SampledAnswer
from lit_symbolic.rollouts.engine import SamplingSettings
from lit_symbolic.rollouts.spending import Spent
from lit_symbolic.seeding import generator_for
from lit_symbolic.tasks import Task

STAGES = ("val", "test", "predict")


class EvaluatedModule(IterationModule):
    """Answers held-out problems as :class:`~lit_symbolic.modules.settings.Evaluation` says, and reports the metrics that the tasks name.

    With several attempts an answer that the verifier refused is asked for again, its findings in the prompt
    (:meth:`Task.second_prompt <lit_symbolic.tasks.Task.second_prompt>`). Figures under the plain names are those of the answers that
    stand at the end; those under ``attempt_2/`` are of the second answers alone, so ``attempt_2/success_rate`` is the share of them that
    mended something.
    """

    evaluation: Evaluation
    sampling: SamplingSettings
    validation_samples: list[SampledAnswer]
    """Answers of the last validation."""

    def __init__(self) -> None:
        super().__init__()
        self.validation_samples = []
        self._metrics: dict[str, AnswerMetrics] = {}
        self._attempts: dict[str, list[AttemptMetrics]] = {}

    @property
    @abstractmethod
    def task(self) -> Task:
        """Whose problems are answered."""

    @abstractmethod
    def rollout(
        self,
        problems: Sequence[Problem],
        samples: int,
        settings: SamplingSettings,
        generator: torch.Generator,
        search: TreeOfThoughts | None = None,
    ) -> Rollouts:
        """Answer and score, see :meth:`SymbolicModule.rollout <lit_symbolic.modules.base.SymbolicModule.rollout>`."""

    @abstractmethod
    def has_room(self, problem: Problem, max_new_tokens: int) -> bool:
        """Whether prompt and answer fit in the model's context."""

    def setup(self, stage: str) -> None:
        """Make the metrics that the task names."""
        settings = self.evaluation
        costs = settings.attempts > 1 or settings.search is not None
        self._metrics = {name: self.answer_metrics(settings.samples, costs) for name in STAGES}
        counts = [settings.samples, *[1] * (settings.attempts - 1)] if settings.attempts > 1 else []
        self._attempts = {name: [AttemptMetrics(self.answer_metrics(samples, costs)) for samples in counts] for name in STAGES}

    def answer_metrics(self, samples: int, costs: bool = False) -> AnswerMetrics:
        """What is reported about answers to the task's problems, ``samples`` to each; of several tasks each has its own."""
        task = self.task
        tasks = task.tasks if isinstance(task, TaskMixture) else {task.name: task}
        return AnswerMetrics(self.evaluation.pass_at, samples, {name: part.metrics for name, part in tasks.items()}, costs=costs)

    # ---------------------------------------------------------------- Lightning's hooks

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave problems where they are: they hold no tensors."""
        return batch if isinstance(batch, list) else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def validation_step(self, batch: list[Problem], batch_idx: int) -> None:
        """Answer and score one batch of problems."""
        if batch_idx == 0:
            self.validation_samples = []
        self.validation_samples.extend(self._evaluate("val", batch, batch_idx))

    def test_step(self, batch: list[Problem], batch_idx: int) -> None:
        """Answer and score one batch of problems."""
        self._evaluate("test", batch, batch_idx)

    def predict_step(self, batch: list[Problem], batch_idx: int) -> list[SampledAnswer]:
        """Answer and score one batch of problems; returns the answers with certificates, token rewards and earlier attempts."""
        return self._evaluate("predict", batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics, those before the first iteration too."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_evaluation("test")

    # ---------------------------------------------------------------- answers

    def _evaluate(self, stage: str, problems: list[Problem], batch_idx: int) -> list[SampledAnswer]:
        evaluation = self.evaluation
        settings = SamplingSettings(self.sampling.max_new_tokens, evaluation.temperature)
        generator = generator_for("evaluation", stage, batch_idx, self.global_rank)
        rollouts = self.rollout(problems, evaluation.samples, settings, generator, evaluation.search)
        if evaluation.attempts > 1:
            rollouts.spent = one_attempt(rollouts)
        earlier: list[tuple[SampledAnswer, ...]] = [() for _ in rollouts.texts]
        given = rollouts
        for attempt in self._attempts[stage]:
            attempt.to(self.device).update(given)
            if attempt is self._attempts[stage][-1]:
                break
            rows, asked = self._refused(rollouts, settings.max_new_tokens, attempt)
            if not rows:
                break
            answers = rollouts.answers()
            given = self.rollout(asked, 1, settings, generator, evaluation.search)
            given.spent = one_attempt(given)
            for row, again in zip(rows, given.answers(), strict=True):
                earlier[row] = (*earlier[row], answers[row] if again.certificate.is_evidence else again)
            rollouts = rollouts.replaced(rows, given)
        self._metrics[stage].to(self.device).update(rollouts)
        return [replace(answer, earlier=before) for answer, before in zip(rollouts.answers(), earlier, strict=True)]

    def _refused(self, rollouts: Rollouts, max_new_tokens: int, attempt: AttemptMetrics) -> tuple[list[int], list[Problem]]:
        """Rows whose answers the verifier refused, and what is asked next; those whose prompts would be too long are counted."""
        rows, asked = [], []
        for row, (problem, certificate) in enumerate(zip(rollouts.problems, rollouts.certificates, strict=True)):
            ended = bool(rollouts.ended[row])
            if not certificate.is_evidence or (certificate.correct and ended):
                continue
            text = rollouts.texts[row]
            told = certificate if ended else without_end(certificate, text)
            again = replace(problem, prompt=self.task.second_prompt(problem, text, told))
            if self.has_room(again, max_new_tokens):
                rows.append(row)
                asked.append(again)
            else:
                attempt.too_long.update(1)
        return rows, asked

    def _log_evaluation(self, stage: str) -> None:
        metrics = {f"{stage}/{name}": value for name, value in self._metrics[stage].compute().items()}
        self._metrics[stage].reset()
        for number, attempt in enumerate(self._attempts[stage], start=1):
            metrics |= {f"{stage}/attempt_{number}/{name}": value for name, value in attempt.compute().items()}
            attempt.reset()
        if self.trainer.sanity_checking:
            # Lightning drops what is logged here, and the curve would have no beginning.
            for logger in self.trainer.loggers:
                logger.log_metrics({name: float(value) for name, value in metrics.items()}, step=self.global_step)
        self.log_dict(metrics, sync_dist=False)


class AttemptMetrics(torch.nn.Module):
    """What is reported about the answers of one attempt, how many they are, and how many could not be asked for again.

    Args:
        answers: Metrics of the answers.
    """

    def __init__(self, answers: AnswerMetrics) -> None:
        super().__init__()
        self.of_answers = answers
        self.count = SumMetric()
        self.too_long = SumMetric()

    def update(self, rollouts: Rollouts) -> None:
        """Add scored answers."""
        self.of_answers.update(rollouts)
        self.count.update(len(rollouts))
        self.too_long.update(0)

    def compute(self) -> dict[str, Tensor]:
        """The figures; ``answers`` alone where there are none."""
        found = {"answers": self.count.compute(), "too_long_to_ask_again": self.too_long.compute()}
        return found | {name: value for name, value in self.of_answers.compute().items() if not value.isnan()}

    def reset(self) -> None:
        """Forget everything."""
        self.of_answers.reset()
        self.count.reset()
        self.too_long.reset()


def one_attempt(rollouts: Rollouts) -> dict[str, Tensor]:
    """What an attempt at each answer cost: its search, or one sample; and the certificate that decides about another attempt."""
    spent = dict(rollouts.spent)
    if not spent:
        spent = {name: values.to(rollouts.ids.device) for name, values in Spent(len(rollouts)).tensors().items()}
        spent["samples"] += 1
        spent["tokens"] += rollouts.mask.sum(dim=1)
    spent["tool_calls"] = spent["tool_calls"] + 1
    return spent


def without_end(certificate: Certificate, text: str) -> Certificate:
    """The certificate of an answer that was cut off, which then is a fault too.

    Example:
        >>> without_end(Certificate(True, 1.0), "1 + 1").findings
        (Finding(start=5, end=5, kind='length', message='the answer was cut off here: it is too long'),)
    """
    fault = Finding(len(text), len(text), "length", "the answer was cut off here: it is too long")
    return replace(certificate, correct=False, score=min(certificate.score, 0.99), findings=(*certificate.findings, fault))
