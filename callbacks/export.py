"""The trained policy as a folder that other programs open."""

from __future__ import annotations

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lit_symbolic.policies.exporting import MergedDtype, require_adapters, require_replaceable, write_merged, write_policy


class AdapterExport(Callback):
    """Writes the policy with its tokenizer at the end of ``fit``: its adapter, or all weights where it has no adapters.

    ``AutoModelForCausalLM.from_pretrained`` opens either, as do :class:`peft.AutoPeftModelForCausalLM` and vLLM's LoRA
    loading the adapter's folder. Critic and reference stay in the checkpoints.

    Args:
        path: Folder; null is ``model`` under ``trainer.default_root_dir``. A model that stands there is replaced whole.
        enabled: Whether to write it.
        every_n_epochs: Iterations after which it is also written; null only at the end.
        merged: Write at the end also a plain model with the adapter merged into its base, in the folder ``<path>-merged``.
            It takes as much of the CPU's memory as the merged weights (13.5 GB for Llama-2-7B in bfloat16), none of a GPU's.
        merged_dtype: Type of the merged weights; merging itself is done in float32.

    Raises:
        ValueError: If ``every_n_epochs`` is not positive.
    """

    def __init__(
        self,
        path: str | None = None,
        enabled: bool = True,
        every_n_epochs: int | None = None,
        merged: bool = False,
        merged_dtype: MergedDtype = "bfloat16",
    ) -> None:
        if every_n_epochs is not None and every_n_epochs < 1:
            raise ValueError(f"export.every_n_epochs must be at least 1, or null for the end only, got {every_n_epochs}")
        self.path = path
        self.enabled = enabled
        self.every_n_epochs = every_n_epochs
        self.merged = merged
        self.merged_dtype: MergedDtype = merged_dtype

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what could not be written, before hours of training.

        Raises:
            MisconfigurationException: If something other than a model stands in a folder, or there is no adapter to merge.
        """
        if not self.enabled:
            return
        try:
            for folder in (self._folder(trainer), *([self._merged_folder(trainer)] if self.merged else [])):
                require_replaceable(folder)
            if self.merged:
                require_adapters(pl_module.model)  # type: ignore[arg-type]
        except ValueError as error:
            raise MisconfigurationException(f"export: {error}") from error

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder every so many iterations."""
        if self.every_n_epochs is not None and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._write(trainer, pl_module, merged=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder, and the merged one where it is asked for."""
        self._write(trainer, pl_module, merged=self.merged)

    def _write(self, trainer: Trainer, pl_module: LightningModule, merged: bool) -> None:
        if not self.enabled or not trainer.is_global_zero:
            return
        model, tokenizer = pl_module.model, pl_module.tokenizer
        write_policy(model, tokenizer, self._folder(trainer))  # type: ignore[arg-type]
        if merged:
            write_merged(model, tokenizer, self._merged_folder(trainer), self.merged_dtype)  # type: ignore[arg-type]

    def _folder(self, trainer: Trainer) -> Path:
        return Path(self.path or Path(trainer.default_root_dir) / "model")

    def _merged_folder(self, trainer: Trainer) -> Path:
        folder = self._folder(trainer)
        return folder.with_name(f"{folder.name}-merged")
