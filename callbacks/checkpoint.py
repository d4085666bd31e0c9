"""One checkpoint after every iteration, where the next start finds it."""

from __future__ import annotations

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class IterationCheckpoint(ModelCheckpoint):
    """Writes ``checkpoints/last.ckpt`` in the run's folder at the end of iterations; ``--ckpt_path last`` resumes from it.

    Only the end of an iteration can be resumed exactly. The folder does not depend on the logger's version, so that a
    run that is started again finds it.

    Args:
        dirpath: Folder; null is ``checkpoints`` under ``trainer.default_root_dir``.
        every_n_epochs: Iterations between two checkpoints; the last iteration is saved in any case.

    Raises:
        ValueError: If ``every_n_epochs`` is not positive.
    """

    def __init__(self, dirpath: str | None = None, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"checkpoint.every_n_epochs must be at least 1, got {every_n_epochs}")
        super().__init__(
            dirpath=dirpath,
            filename="last",
            monitor=None,
            save_top_k=1,
            every_n_epochs=every_n_epochs,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
            auto_insert_metric_name=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the folder."""
        self._choose_folder(trainer)
        super().setup(trainer, pl_module, stage)

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        """Where ``--ckpt_path last`` looks; Lightning asks before ``setup``, and would otherwise find nothing."""
        self._choose_folder(trainer)
        return super()._find_last_checkpoints(trainer)

    def _choose_folder(self, trainer: Trainer) -> None:
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last iteration if it has not been."""
        if self._last_global_step_saved != trainer.global_step:
            self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))
