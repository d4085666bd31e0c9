"""Writes ``report.html`` into the run's folder: its curves, and the same answers before and after, coloured by reward."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from lit_symbolic.reporting import AnswerView, Curve, Report, ReportSample, TokenView, render_report
from lit_symbolic.reporting.escaping import visible

if TYPE_CHECKING:
    from lit_symbolic.rollouts.batch import SampledAnswer

MEASURES = (
    ("pass@1", "pass@1", "Share of sampled answers that are correct."),
    ("success_rate", "success rate", "Share of sampled answers that are correct."),
    (r"pass@\d+", "", "Chance that at least one of so many samples of a problem is correct."),
    ("kl|kl_per_answer", "KL to the reference", "How far the policy has moved from where it started."),
    ("task_reward|reward", "task reward", "What the symbolic tool pays for an answer on average, KL apart."),
    ("mean_length|length", "mean length", "Tokens per answer; a drift without success means that length pays."),
    ("entropy", "entropy", "Uncertainty per token; near zero the policy no longer explores."),
    ("step_validity", "step validity", "Share of steps that the symbolic tool accepts."),
    ("loss", "loss", "What the optimiser minimises."),
)
"""Measures that are shown first: pattern of the key without its stage, title, description. The first one is the headline."""

PACKAGES = ("lit-symbolic", "torch", "lightning", "transformers")
TABLE_COLUMNS = ["iteration", "problem", "prompt", "answer", "correct", "status", "score", "reward", "tokens", "findings"]


class HtmlReport(Callback):
    """Collects logged figures and sampled answers during ``fit`` and writes them as one page without a network.

    Figures are what the run logs: keys that begin with ``val/`` are read after each validation, all others at the end of
    each iteration. Answers are read from ``module.validation_samples`` (a list of
    :class:`~lit_symbolic.rollouts.batch.SampledAnswer`) after each validation; the first validation of a run, before
    its first iteration, gives the answers called "before". The page is replaced as a whole, so it can be opened while
    the run goes on. With a ``WandbLogger`` the answers are also logged as the table ``samples``.

    What was collected is part of the checkpoint: a resumed run goes on with its curves.

    Args:
        path: File to write; by default ``report.html`` in the trainer's ``default_root_dir``.
        title: Heading; by default the name of the run's folder.
        max_samples: Problems whose answers are shown, the first ones of the validation set.

    Raises:
        ValueError: If ``max_samples`` is negative.
    """

    def __init__(self, path: str | None = None, title: str | None = None, max_samples: int = 24) -> None:
        if max_samples < 0:
            raise ValueError(f"max_samples must be 0 or more, got {max_samples}")
        self.path = path
        self.title = title
        self.max_samples = max_samples
        self._points: dict[str, dict[int, float]] = {}
        self._late_keys: set[str] = set()
        self._before: dict[str, AnswerView] = {}
        self._after: dict[str, AnswerView] = {}
        self._before_iteration = self._after_iteration = 0
        self._seconds_before_resume = 0.0
        self._started: float | None = None
        self._stale = False

    def file(self, trainer: Trainer) -> Path:
        """Where the page of this run is written."""
        return Path(self.path) if self.path else Path(trainer.default_root_dir) / "report.html"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads what the module logged at the very end of the iteration before, after this callback's turn."""
        self._collect_late(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the iteration's figures; writes the page if there was a validation."""
        iteration = trainer.current_epoch + 1
        for key, value in _scalars(trainer):
            if not _is_validation(key) and key not in self._late_keys:
                self._points.setdefault(key, {})[iteration] = value
        if self._stale:
            self._write(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the validation's figures and answers, and writes the page."""
        if trainer.state.fn != TrainerFn.FITTING or (trainer.sanity_checking and (self._points or self._before)):
            return  # a resumed run is validated once more before it goes on: that is known already
        finished: int = trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        iteration = finished if trainer.sanity_checking else trainer.current_epoch + 1
        if not trainer.sanity_checking or list(trainer.num_sanity_val_batches) == list(trainer.num_val_batches):
            for key, value in _scalars(trainer):
                if _is_validation(key):
                    self._points.setdefault(key, {})[iteration] = value
        samples: Sequence[SampledAnswer] = getattr(pl_module, "validation_samples", ())
        self._take(samples, iteration)
        if trainer.is_global_zero:
            self._log_table(trainer, iteration, samples)
        self._write(trainer)
        self._stale = True  # this iteration's training figures are still to come

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the last late figures."""
        self._collect_late(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the final page."""
        self._write(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What was collected, as plain Python values."""
        return {
            "points": {key: dict(points) for key, points in self._points.items()},
            "before": {problem: asdict(answer) for problem, answer in self._before.items()},
            "after": {problem: asdict(answer) for problem, answer in self._after.items()},
            "before_iteration": self._before_iteration,
            "after_iteration": self._after_iteration,
            "seconds": self._seconds(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from what :meth:`state_dict` gave."""
        self._points = {key: dict(points) for key, points in state_dict["points"].items()}
        self._before = {problem: _answer_from(fields) for problem, fields in state_dict["before"].items()}
        self._after = {problem: _answer_from(fields) for problem, fields in state_dict["after"].items()}
        self._before_iteration = state_dict["before_iteration"]
        self._after_iteration = state_dict["after_iteration"]
        self._seconds_before_resume = state_dict["seconds"]

    def _collect_late(self, trainer: Trainer) -> None:
        iteration = trainer.current_epoch
        for key, value in _scalars(trainer):
            if iteration > 0 and not _is_validation(key) and iteration not in self._points.setdefault(key, {}):
                self._points[key][iteration] = value
                self._late_keys.add(key)

    def _take(self, samples: Iterable[SampledAnswer], iteration: int) -> None:
        answers: dict[str, AnswerView] = {}
        for sample in samples:
            if len(answers) == self.max_samples:
                break
            if sample.problem.id not in answers and (sample.problem.id in self._before or not self._before):
                answers[sample.problem.id] = answer_view(sample)
        if not self._before:
            self._before, self._before_iteration = answers, iteration
        else:
            self._after, self._after_iteration = answers, iteration

    def _log_table(self, trainer: Trainer, iteration: int, samples: Iterable[SampledAnswer]) -> None:
        rows = [_table_row(iteration, sample) for sample in samples]
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and rows:
                logger.log_table(key="samples", columns=TABLE_COLUMNS, data=rows)

    def _write(self, trainer: Trainer) -> None:
        self._stale = False
        if not trainer.is_global_zero:
            return
        file = self.file(trainer)
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        try:
            draft.write_text(render_report(self._report(trainer)), encoding="utf-8")
            os.replace(draft, file)
        finally:
            draft.unlink(missing_ok=True)

    def _report(self, trainer: Trainer) -> Report:
        ranked = sorted(((_describe(key), key) for key in self._points), key=lambda entry: (entry[0][0], entry[1]))
        shown: list[Curve] = []
        other: list[Curve] = []
        for (rank, name, description), key in ranked:
            points = sorted(self._points[key].items())
            curve = Curve(name, tuple(x for x, _ in points), tuple(y for _, y in points), description, key)
            (other if rank[0] == len(MEASURES) else shown).append(curve)
        return Report(
            title=self.title or Path(trainer.default_root_dir).resolve().name,
            curves=tuple(shown),
            other_curves=tuple(other),
            samples=tuple(ReportSample(problem, answer, self._after.get(problem)) for problem, answer in self._before.items()),
            facts=tuple(self._facts(trainer)),
            before_label="before training" if self._before_iteration == 0 else f"after iteration {self._before_iteration}",
            after_label=f"after iteration {self._after_iteration}" if self._after_iteration else "later",
            sample_note="They are the first problems of the validation set with the first answer sampled for each, not picked.",
        )

    def _facts(self, trainer: Trainer) -> Iterable[tuple[str, str]]:
        if configs := _config_names(trainer):
            yield "config", configs
        if seed := os.environ.get("PL_GLOBAL_SEED"):
            yield "seed", seed
        finished = max((x for points in self._points.values() for x in points), default=0)
        planned = trainer.max_epochs
        yield "iterations", f"{finished} of {planned}" if planned is not None and planned > 0 else str(finished)
        yield "duration", _duration(self._seconds())
        yield "device", str(trainer.strategy.root_device)
        for package in PACKAGES:
            try:
                yield package, metadata.version(package)
            except metadata.PackageNotFoundError:
                continue
        yield "python", platform.python_version()

    def _seconds(self) -> float:
        return self._seconds_before_resume + (time.monotonic() - self._started if self._started is not None else 0.0)


def answer_view(sample: SampledAnswer) -> AnswerView:
    """One sampled answer as the page shows it: the text cut at its tokens, each finding on the tokens that it touches.

    A character that several tokens share is shown on the first of them; characters between tokens go to the one before.
    """
    tokens, shown = [], 0
    last = len(sample.spans) - 1
    for index, (start, end) in enumerate(sample.spans):
        until = len(sample.text) if index == last else max(end, sample.spans[index + 1][0])
        tokens.append(
            TokenView(
                text=sample.text[shown : max(shown, until)],
                reward=float(sample.rewards[index]),
                masked=not sample.loss_mask[index],
                findings=tuple(
                    f"{finding.kind}: {finding.message}"
                    for finding in sample.certificate.findings
                    if _touches(start, end, finding.start, finding.end, is_last=index == last)
                ),
                is_end=sample.ended and index == last,
            )
        )
        shown = max(shown, until)
    status = str(sample.certificate.status.value)
    return AnswerView(
        prompt=sample.problem.prompt,
        tokens=tuple(tokens),
        correct=bool(sample.certificate.correct and sample.ended),
        status="cut off" if status == "ok" and not sample.ended else status,
        length=len(sample.spans),
    )


def _touches(start: int, end: int, first: int, past: int, is_last: bool) -> bool:
    if first < past:
        return max(start, first) < min(end, past)
    return start <= first < end or (is_last and first >= end)  # a place where something is missing


def _answer_from(fields: dict[str, Any]) -> AnswerView:
    tokens = tuple(TokenView(**{**token, "findings": tuple(token["findings"])}) for token in fields["tokens"])
    return AnswerView(**{**fields, "tokens": tokens})


def _table_row(iteration: int, sample: SampledAnswer) -> list[Any]:
    certificate = sample.certificate
    return [
        iteration,
        visible(sample.problem.id),
        visible(sample.problem.prompt),
        visible(sample.text),
        bool(certificate.correct and sample.ended),
        certificate.status.value,
        certificate.score,
        float(sum(sample.rewards)),
        len(sample.spans),
        visible("\n".join(f"{f.start}-{f.end} {f.kind}: {f.message}" for f in certificate.findings)),
    ]


def _scalars(trainer: Trainer) -> list[tuple[str, float]]:
    metrics = trainer.callback_metrics
    names = [key for key in metrics if not key.endswith("_step") and key not in ("epoch", "step", "hp_metric")]
    return [(key, float(metrics[key])) for key in names if not (key.endswith("_epoch") and key.removesuffix("_epoch") in metrics)]


def _is_validation(key: str) -> bool:
    return re.match("val(idation)?[/_]", key) is not None


def _describe(key: str) -> tuple[tuple[int, bool], str, str]:
    """Rank, title and description of a logged key; a rank of ``len(MEASURES)`` for one that is not among them."""
    stage, _, rest = key.rpartition("/")
    held_out = stage.startswith("val")
    for rank, (pattern, title, description) in enumerate(MEASURES):
        if stage in ("train", "val", "validation", "") and re.fullmatch(pattern, rest):
            return (rank, not held_out), f"held-out {title or rest}" if held_out else title or rest, description
    return (len(MEASURES), False), key, ""


def _config_names(trainer: Trainer) -> str:
    saved = next((callback for callback in trainer.callbacks if isinstance(callback, SaveConfigCallback)), None)  # type: ignore[attr-defined]
    paths = (saved.config.get("config") or []) if saved else []
    return ", ".join("/".join(Path(str(path)).parts[-2:]) for path in paths)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
