"""Problems for Lightning: fixed ones for evaluation; training belongs to the module, which collects its own batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning import LightningDataModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader

from lit_symbolic.certificate import Problem
from lit_symbolic.data.mixture import TaskMixture
from lit_symbolic.tasks import Split, Task


class SymbolicDataModule(LightningDataModule):
    """Serves a task's problems, or those of several.

    Args:
        task: Where problems, demonstrations and the verifier come from; several are mixed, see :class:`TaskMixture`.
        weights: How often each of several tasks is trained on, in any unit; equally if not given.
        names: Of several tasks, where two are sources of the same one; under these the figures of each are logged.
        evaluation_batch: Problems in one batch of validation, test and predict.
        validation_limit: Use the first so many problems of each task's validation split; None uses all.
        test_limit: The same for test and predict.

    Raises:
        ValueError: If a number is not positive, or weights or names do not fit the tasks.
    """

    def __init__(
        self,
        task: Task | list[Task],
        weights: list[float] | None = None,
        names: list[str] | None = None,
        evaluation_batch: int = 64,
        validation_limit: int | None = None,
        test_limit: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("evaluation_batch", evaluation_batch),
            ("validation_limit", validation_limit),
            ("test_limit", test_limit),
        ):
            if value is not None and value < 1:
                raise ValueError(f"data.{name} must be at least 1, got {value}")
        for name, setting in (("weights", weights), ("names", names)):
            if isinstance(task, Task) and setting is not None:
                raise ValueError(f"data.{name} are for several tasks: make data.task a list")
        self.task = task if isinstance(task, Task) else TaskMixture(task, weights, names)
        self.evaluation_batch = evaluation_batch
        self.validation_limit = validation_limit
        self.test_limit = test_limit

    def setup(self, stage: str) -> None:
        """Make the splits, so that settings that allow none are told before anything runs.

        Raises:
            MisconfigurationException: If the task's settings give no splits.
        """
        try:
            self.task.problems("train")
        except (ValueError, OSError) as error:
            raise MisconfigurationException(f"data.task: {error}") from error

    def train_dataloader(self) -> Any:
        """The module's own loader for this iteration: what is trained on is collected, not read."""
        module: Any = self.trainer.lightning_module if self.trainer is not None else None
        if not hasattr(module, "iteration_loader"):
            raise MisconfigurationException(
                f"SymbolicDataModule serves problems to a module that collects its own training batches "
                f"(iteration_loader()), and {type(module).__name__} does not"
            )
        return module.iteration_loader()

    def val_dataloader(self) -> DataLoader[list[Problem]]:
        """Batches of problems of the validation split."""
        return self._loader("validation", self.validation_limit)

    def test_dataloader(self) -> DataLoader[list[Problem]]:
        """Batches of problems of the test split."""
        return self._loader("test", self.test_limit)

    def predict_dataloader(self) -> DataLoader[list[Problem]]:
        """Batches of problems of the test split."""
        return self._loader("test", self.test_limit)

    def _loader(self, split: Split, limit: int | None) -> DataLoader[list[Problem]]:
        task = self.task
        mixed = {name: task.problems_of(name, split) for name in task.tasks} if isinstance(task, TaskMixture) else None
        problems: list[Problem] = []
        for name, of_task in (mixed or {task.name: task.problems(split)}).items():
            if not of_task:
                raise ValueError(f"task {name!r} has no problems in its {split} split")
            problems += of_task[:limit]
        if self.trainer is not None and self.trainer.world_size > 1:
            problems = problems[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(problems, batch_size=self.evaluation_batch, collate_fn=_as_list)  # type: ignore[arg-type]


def _as_list(problems: Sequence[Problem]) -> list[Problem]:
    return list(problems)
