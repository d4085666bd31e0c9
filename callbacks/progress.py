"""A progress bar that says what an iteration is doing: sampling, verifying or learning, and how often it succeeds."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

FIGURES = (
    ("success", ("train/success_rate",), "{:.2f}"),
    ("kl", ("train/kl",), "{:.1f}"),
    ("reward", ("train/task_reward", "train/reward"), "{:.2f}"),
    ("loss", ("train/loss",), "{:.3f}"),
    ("held-out", ("val/pass@1", "val/success_rate"), "{:.3f}"),
    ("sampling", ("time/sampling_seconds",), "{:.1f} s"),
    ("verifying", ("time/verifying_seconds",), "{:.1f} s"),
    ("learning", ("time/learning_seconds",), "{:.1f} s"),
)
"""What is shown of the logged figures: label, keys (the first that was logged counts), format."""


class IterationProgressBar(TQDMProgressBar):
    """One bar that walks through the phases of an iteration; in a log file, one plain line per iteration instead.

    The phases before the optimiser's steps are outside Lightning's loops, so the module reports them: for every
    callback that has it, it calls ``on_phase(trainer, module, phase, done, total)``. The success rate shown while an
    iteration learns is ``module.iteration_success_rate`` if the module sets it (a float, or None while unknown), else
    the last one logged.

    Args:
        refresh_rate: Minibatches between two updates of the bar; 0 turns bar and lines off.
        plain: Print lines instead of drawing a bar; by default where the output is no terminal.

    Example:
        >>> iteration_line(11, 120, {"train/success_rate": 0.14, "train/kl": 0.8, "time/sampling_seconds": 0.93})
        'iteration 12/120  success 0.14  kl 0.8  sampling 0.9 s'
    """

    def __init__(self, refresh_rate: int = 1, plain: bool | None = None) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._plain = plain
        self._bar_is_live = False
        self._validated = False

    @property
    def plain(self) -> bool:
        """Whether lines are printed instead of a bar."""
        return not sys.stdout.isatty() if self._plain is None else self._plain

    @property
    def is_enabled(self) -> bool:
        """Whether a bar is drawn."""
        return super().is_enabled and not self.plain

    def on_phase(self, trainer: Trainer, module: LightningModule, phase: str, done: int, total: int) -> None:
        """Shows where an iteration is.

        Args:
            trainer: The trainer.
            module: The module that reports.
            phase: ``sampling``, ``verifying``, ``learning`` or ``validating``.
            done: Rows finished, of ``total``; for ``learning`` Lightning's own count of minibatches is used.
            total: Rows in all.
        """
        if self.is_disabled:
            return
        if phase == "validating":
            if self._val_progress_bar is not None:
                self._val_progress_bar.set_description(f"validating {done}/{total}")
            return
        if not self._bar_is_live:
            self.train_progress_bar, self._bar_is_live = self.init_train_tqdm(), True
        bar = self.train_progress_bar
        if phase in ("sampling", "verifying"):
            if done == 0 or bar.total != total:
                bar.reset(total)
            bar.n = done
            bar.set_postfix(self.get_metrics(trainer, module), refresh=False)
        bar.set_description(_heading(_iterations_finished(trainer), trainer.max_epochs, phase))

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, int | str | float | dict[str, float]]:
        """The figures beside the bar: those logged for it, and the success rate of the current iteration."""
        shown: dict[str, int | str | float | dict[str, float]] = dict(trainer.progress_bar_metrics)
        current = getattr(pl_module, "iteration_success_rate", None)
        rate = trainer.callback_metrics.get("train/success_rate") if current is None else current
        shown.pop("train/success_rate", None)
        return shown if rate is None else {"success": f"{float(rate):.2f}", **shown}

    def on_train_start(self, *_: Any) -> None:
        """Keeps the bar that the first sampling has already drawn."""
        if not self._bar_is_live:
            self.train_progress_bar, self._bar_is_live = self.init_train_tqdm(), True

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Turns the bar to the minibatches."""
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description(_heading(trainer.current_epoch, trainer.max_epochs, "learning"))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes that there is a held-out figure for this iteration."""
        super().on_validation_end(trainer, pl_module)
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the iteration's line where no bar is drawn."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._enabled and self.refresh_rate > 0 and self.plain:
            metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
            if not self._validated:
                metrics = {key: value for key, value in metrics.items() if not key.startswith("val/")}
            print(iteration_line(trainer.current_epoch, trainer.max_epochs, metrics), flush=True)
        self._validated = False

    def on_train_end(self, *_: Any) -> None:
        """Leaves the bar as it is."""
        super().on_train_end()
        self._bar_is_live = False

    def init_sanity_tqdm(self) -> Tqdm:
        """The bar of the validation before the first iteration."""
        bar = super().init_sanity_tqdm()
        bar.set_description("validating before training")
        return bar


def iteration_line(finished: int, planned: int | None, metrics: dict[str, float]) -> str:
    """One iteration in one line; figures that were not logged are left out.

    Args:
        finished: Iterations before this one.
        planned: Iterations in all; None or negative if there is no end.
        metrics: Logged figures by key.
    """
    parts = [_heading(finished, planned)]
    for label, keys, form in FIGURES:
        value = next((metrics[key] for key in keys if key in metrics), None)
        if value is not None:
            parts.append(f"{label} {form.format(value)}")
    return "  ".join(parts)


def _heading(finished: int, planned: int | None, phase: str = "") -> str:
    of = f"/{planned}" if planned is not None and planned >= 0 else ""
    return f"iteration {finished + 1}{of}{f' {phase}' if phase else ''}"


def _iterations_finished(trainer: Trainer) -> int:
    """Right also while ``train_dataloader`` runs on resume, where ``current_epoch`` may be one behind."""
    return int(trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
