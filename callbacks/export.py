"""The trained policy as a folder that other programs open."""

from __future__ import annotations

import shutil
from pathlib import Path

from lightning import Callback, LightningModule, Trainer


class ModelExport(Callback):
    """Writes policy and tokenizer at the end of ``fit``, as ``save_pretrained`` lays them out.

    ``AutoModelForCausalLM.from_pretrained`` opens the folder; of a policy with adapters it holds the adapter alone.

    Args:
        path: Folder; null is ``model`` under ``trainer.default_root_dir``. What stands there is replaced.
        enabled: Whether to write it.
    """

    def __init__(self, path: str | None = None, enabled: bool = True) -> None:
        self.path = path
        self.enabled = enabled

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder beside its place, then put it there whole."""
        if not self.enabled or not trainer.is_global_zero:
            return
        folder = Path(self.path or Path(trainer.default_root_dir) / "model")
        beside = folder.with_name(f".{folder.name}.unfinished")
        shutil.rmtree(beside, ignore_errors=True)
        pl_module.model.save_pretrained(beside)  # type: ignore[operator, union-attr]
        pl_module.tokenizer.save_pretrained(beside)  # type: ignore[operator, union-attr]
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
