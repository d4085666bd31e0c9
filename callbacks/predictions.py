"""Writes what ``predict`` samples: one answer with its certificate a line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from lit_symbolic.certificate import Problem
from lit_symbolic.rollouts.batch import SampledAnswer


class PredictionWriter(BasePredictionWriter):
    """Writes the answers of ``predict`` as JSON lines while they come, and says at the end how many are correct.

    A line has ``task``, ``id``, ``prompt``, ``answer``, ``correct`` (certified, and ended by itself), ``ended``, ``status``, ``score``,
    ``evidence``, ``findings`` (``start``, ``end``, ``kind``, ``message``), ``measures``, ``token_spans`` (characters of each token),
    ``token_rewards``, and ``earlier``, the other attempts in the same form. A number that is not finite is null. What was there
    is written over.

    Args:
        path: File to write; by default ``predictions.jsonl`` in the trainer's ``default_root_dir``. Where several processes predict, each
            writes a file of its own, its rank before the suffix.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__(write_interval="batch")
        self.path = path
        self._file: IO[str] | None = None
        self._answers = self._correct = 0

    def file(self, trainer: Trainer) -> Path:
        """Where this process writes."""
        path = Path(self.path) if self.path else Path(trainer.default_root_dir) / "predictions.jsonl"
        return path.with_stem(f"{path.stem}-{trainer.global_rank}") if trainer.world_size > 1 else path

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the file."""
        path = self.file(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._answers, self._correct = path.open("w", encoding="utf-8"), 0, 0

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Sequence[SampledAnswer],
        batch_indices: Sequence[int] | None,
        batch: Sequence[Problem],
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the answers of a batch."""
        assert self._file is not None
        for answer in prediction:
            record = as_record(answer)
            self._answers, self._correct = self._answers + 1, self._correct + record["correct"]
            self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what was written."""
        self._close()
        print(f"{self._answers} answers, {self._correct} of them correct: {self.file(trainer)}", flush=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep what is there."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def as_record(answer: SampledAnswer) -> dict[str, Any]:
    """An answer with all that is known about it, in values that JSON has."""
    measures = answer.certificate.measures
    return {
        "task": answer.problem.task,
        "id": answer.problem.id,
        "prompt": answer.problem.prompt,
        "answer": answer.text,
        **answer.certificate.as_record(),
        "correct": answer.certificate.correct and answer.ended,
        "ended": answer.ended,
        "measures": {name: _finite(value) for name, value in measures.items()},
        "token_spans": [list(span) for span in answer.spans],
        "token_rewards": [_finite(reward) for reward in answer.rewards],
        "earlier": [as_record(before) for before in answer.earlier],
    }


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
