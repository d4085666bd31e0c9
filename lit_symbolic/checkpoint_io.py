"""Checkpoints that a kill in mid-write cannot spoil."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to disk, then renames: the target is the old checkpoint or the new one, whole."""

    def load_checkpoint(self, path: _PATH, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load the checkpoint at ``path``.

        Raises:
            MisconfigurationException: If the file is no checkpoint.
        """
        try:
            return super().load_checkpoint(path, *args, **kwargs)
        except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
            raise MisconfigurationException(f"{path} is no checkpoint, or not a whole one ({type(error).__name__})") from error

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Save ``checkpoint`` at ``path``, a local file."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # One name per target: what a killed run left there is overwritten by the next save, and readable like any file.
        beside = target.with_name(f".{target.name}.unfinished")
        try:
            with beside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
