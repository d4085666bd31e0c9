"""What a process of a distributed run sampled, and what it ended with."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class SaveRankWeights(Callback):
    """Writes the final weights of this process, what it logged and the answers it learned from to ``rank<N>.pt`` in the run's folder."""

    def __init__(self) -> None:
        self.answers: list[list[int]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.answers += [ids[mask].tolist() for ids, mask in zip(batch["ids"], batch["mask"], strict=True)]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        told = {
            "weights": dict(pl_module.state_dict()),
            "metrics": metrics,
            "steps": trainer.global_step,
            "answers": self.answers,
        }
        torch.save(told, Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.pt")
