"""An iteration of reinforcement learning as an epoch of Lightning's Trainer: collected, learned from, timed, told of."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader

from lit_symbolic.metrics.running import RunningFigures
from lit_symbolic.modules.minibatches import Minibatch
from lit_symbolic.seeding import run_seed, seed_globals


class IterationModule(LightningModule):
    """Collects what an epoch learns from at the epoch's start, so that Lightning's own loop does the optimisation.

    :meth:`iteration_loader` collects an iteration and returns its minibatches. A figure is given to :meth:`note` while they are
    collected and to :attr:`learned` while they are learned from, and is logged once an iteration.
    """

    def __init__(self) -> None:
        super().__init__()
        self.learned = RunningFigures()
        """What this iteration's minibatches measure; logged with the last of them."""
        self._loaded: tuple[int, DataLoader[Any]] | None = None
        self._notes: dict[str, float | Tensor] = defaultdict(float)
        self._learning_since = 0.0

    @property
    def iteration(self) -> int:
        """Finished iterations."""
        return int(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]

    @abstractmethod
    def collect(self, iteration: int) -> list[Minibatch]:
        """Gather what iteration ``iteration`` learns from, as minibatches in the order in which they are used."""

    def train_dataloader(self) -> DataLoader[Any]:
        """See :meth:`iteration_loader`."""
        return self.iteration_loader()

    def iteration_loader(self) -> DataLoader[Any]:
        """The minibatches of the present iteration, collected once however often Lightning asks.

        Raises:
            MisconfigurationException: If the Trainer does not reload its loaders every epoch.
        """
        trainer = self.trainer
        if getattr(trainer, "reload_dataloaders_every_n_epochs", None) != 1:
            raise MisconfigurationException(
                "an iteration is one epoch, and its minibatches are collected anew: "
                "give Trainer(reload_dataloaders_every_n_epochs=1), as train.py does"
            )
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            raise MisconfigurationException("give trainer.max_epochs: the number of iterations")
        iteration = self.iteration
        if self._loaded is None or self._loaded[0] != iteration:
            minibatches: list[Minibatch] = []
            if iteration < trainer.max_epochs:
                seed_globals(run_seed(), iteration, self.global_rank)
                self._notes.clear()
                with trainer.precision_plugin.forward_context():
                    minibatches = self.collect(iteration)
            # A generator of its own: an iterator would otherwise draw from the global one, once more after a resume.
            loader = DataLoader(minibatches or [{}], batch_size=None, generator=torch.Generator())  # type: ignore[arg-type, var-annotated]
            self._loaded = (iteration, loader)
        return self._loaded[1]

    def begin_learning(self, figures: dict[str, float]) -> None:
        """Log ``figures`` and what was noted while collecting; to be called when the first minibatch is about to be learned from."""
        self.log_dict({**self._notes, **figures}, on_step=False, on_epoch=True, sync_dist=False)
        self.announce("learning", 0, self.trainer.num_training_batches)
        self.learned.clear()
        self._learning_since = time.monotonic()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """With the last minibatch, log what all have measured."""
        done, planned = batch_idx + 1, self.trainer.num_training_batches
        self.announce("learning", done, planned)
        if done == planned:
            figures: dict[str, Tensor | float] = {
                **self.learned.compute(),
                "time/learning_seconds": time.monotonic() - self._learning_since,
            }
            self.log_dict(figures, on_step=False, on_epoch=True, batch_size=1)

    def note(self, name: str, value: float | Tensor) -> None:
        """Add a figure, a number or a scalar on any device, to what this iteration's collection logs."""
        self._notes[name] += value

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the block's wall time, in seconds, to figure ``name``."""
        since = time.monotonic()
        yield
        self.note(name, time.monotonic() - since)

    def announce(self, phase: str, done: int, total: float) -> None:
        """Tell callbacks with an ``on_phase`` hook how far a phase is."""
        if phase == "sampling" and not self.trainer.training:
            phase = "validating"
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            hook = getattr(callback, "on_phase", None)
            if hook is not None:
                hook(self.trainer, self, phase, done, total)
