import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from callbacks.progress import IterationProgressBar, iteration_line
from lit_symbolic.modules import PPOModule
from lit_symbolic.policies import TinyLlama
from toys import FindsWord, Say


class Phased(LightningModule):
    """Reports its phases from ``train_dataloader`` as a module that collects does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.iteration_success_rate: float | None = None

    def tell(self, phase: str, done: int, total: int) -> None:
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if hasattr(callback, "on_phase"):
                callback.on_phase(self.trainer, self, phase, done, total)

    def train_dataloader(self) -> DataLoader:
        self.iteration_success_rate = None
        for done in (0, 4, 8):
            self.tell("sampling", done, 8)
        self.tell("verifying", 0, 8)
        self.tell("verifying", 8, 8)
        self.iteration_success_rate = 0.25
        self.tell("learning", 0, 2)
        return DataLoader(torch.zeros(2, 1))

    def val_dataloader(self) -> DataLoader:
        return DataLoader(torch.zeros(1, 1))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        metrics = {"train/success_rate": 0.25, "train/kl": 0.84, "time/sampling_seconds": 0.93}
        self.log_dict(metrics, on_step=False, on_epoch=True)
        return self.weight.sum()

    def validation_step(self, batch: torch.Tensor) -> None:
        self.tell("validating", 3, 4)
        self.log("val/pass@1", 0.125)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(bar: IterationProgressBar, folder: Path, **options: Any) -> None:
    settings: dict[str, Any] = {"max_epochs": 2, "num_sanity_val_steps": 1, "check_val_every_n_epoch": 2} | options
    Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[bar],
        **settings,
    ).fit(Phased())


def test_a_log_file_gets_one_line_per_iteration_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(IterationProgressBar(), tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if "iteration" in line or "|" in line]
    assert lines == [
        "iteration 1/2  success 0.25  kl 0.8  sampling 0.9 s",
        "iteration 2/2  success 0.25  kl 0.8  held-out 0.125  sampling 0.9 s",
    ]


def test_a_terminal_gets_one_bar_that_walks_through_the_phases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    show(IterationProgressBar(), tmp_path)
    screen = sys.stdout.getvalue()  # type: ignore[attr-defined]
    walk = [
        screen.index(part)
        for part in ("validating before training", "validating 3/4", "iteration 1/2 sampling", "1/2 verifying", "1/2 learning")
    ]
    assert walk == sorted(walk)
    assert screen.index("iteration 2/2 sampling") > walk[-1]
    assert "4/8" in screen
    assert "8/8" in screen
    assert "2/2 [" in screen[walk[-1] :]
    assert "success=0.25" in screen
    assert "  kl 0.8" not in screen


def test_the_success_rate_of_a_former_iteration_is_not_shown_as_the_current_one(tmp_path: Path) -> None:
    bar, module = IterationProgressBar(plain=False), Phased()
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.callback_metrics["train/success_rate"] = torch.tensor(0.5)
    assert bar.get_metrics(trainer, module)["success"] == "0.50"
    module.iteration_success_rate = 0.75
    assert bar.get_metrics(trainer, module)["success"] == "0.75"


class Shown(Callback):
    """What the bar would show beside each phase."""

    def __init__(self) -> None:
        self.bar = IterationProgressBar(plain=False)
        self.rates: dict[str, list[Any]] = {"sampling": [], "learning": []}
        self.measured: list[str] = []

    def on_phase(self, trainer: Trainer, module: LightningModule, phase: str, done: int, total: int) -> None:
        if phase in self.rates and done == 0:
            self.rates[phase].append(self.bar.get_metrics(trainer, module).get("success"))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.measured.append(f"{float(trainer.callback_metrics['train/success_rate']):.2f}")


def test_ppo_tells_the_bar_its_success_rate_before_it_learns_and_forgets_it_before_it_samples(
    tiny_policy: TinyLlama, fit: Callable[..., Trainer]
) -> None:
    shown = Shown()
    module = PPOModule(tiny_policy, problems=4, samples=8, epochs=1, max_new_tokens=3, minibatch_rows=32)
    fit(module, Say(judge=FindsWord(-1)), iterations=3, callbacks=[shown])
    assert shown.rates["learning"] == shown.measured
    assert shown.rates["sampling"] == [None, *shown.measured[:-1]], "of the former iteration, until this one's is known"
    assert len(set(shown.measured)) > 1, "a rate that stayed would not be seen"


def test_refresh_rate_zero_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(IterationProgressBar(refresh_rate=0), tmp_path)
    assert "iteration" not in capsys.readouterr().out


def test_a_run_without_an_end_has_no_total() -> None:
    assert iteration_line(0, -1, {}) == "iteration 1"
    assert (
        iteration_line(0, None, {"train/reward": 0.128, "time/learning_seconds": 1.66})
        == "iteration 1  reward 0.13  learning 1.7 s"
    )
