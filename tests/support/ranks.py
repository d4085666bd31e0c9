"""What a process of a distributed run ended with."""

from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer


class SaveRankWeights(Callback):
    """Writes the final weights of this process, and what it logged, to ``rank<N>.pt`` in the run's folder."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        told = {"weights": dict(pl_module.state_dict()), "metrics": metrics, "steps": trainer.global_step}
        torch.save(told, Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.pt")
