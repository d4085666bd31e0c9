"""Problems served to Lightning: whole splits once, and training left to the module."""

from collections.abc import Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lit_symbolic.certificate import Problem
from lit_symbolic.data import SymbolicDataModule
from lit_symbolic.tasks import Split
from toys import Say


def served(module: SymbolicDataModule, split: str) -> list[list[str]]:
    return [[problem.id for problem in batch] for batch in getattr(module, f"{split}_dataloader")()]


class Murmur(Say):
    """Problems of another name."""

    name = "murmur"

    def problems(self, split: Split) -> list[Problem]:
        return [Problem("murmur", f"murmur-{number}", "murmur", {"right": "c"}) for number in range(self.count)]


def ids(split: Split, count: int) -> list[str]:
    return [problem.id for problem in Say(count=count).problems(split)][:count]


def test_every_problem_of_a_split_is_served_once_in_order() -> None:
    module = SymbolicDataModule(Say(count=7), evaluation_batch=3)
    for name, split in (("val", "validation"), ("test", "test"), ("predict", "test")):
        batches = served(module, name)
        assert [len(batch) for batch in batches] == [3, 3, 1]
        assert [*chain(*batches)] == ids(cast(Split, split), 7)


def test_batches_are_lists_of_problems() -> None:
    batch = next(iter(SymbolicDataModule(Say()).val_dataloader()))
    assert isinstance(batch, list)
    assert all(isinstance(problem, Problem) for problem in batch)


def test_limits_cut_their_own_split() -> None:
    module = SymbolicDataModule(Say(count=7), validation_limit=2, test_limit=3)
    assert served(module, "val") == [ids("validation", 7)[:2]]
    assert served(module, "test") == served(module, "predict") == [ids("test", 7)[:3]]


def test_limits_cut_each_of_several_tasks() -> None:
    module = SymbolicDataModule([Say(count=7), Murmur(count=3)], validation_limit=2, test_limit=5)
    assert served(module, "val") == [[*ids("validation", 7)[:2], "murmur-0", "murmur-1"]]
    assert served(module, "test") == [[*ids("test", 7)[:5], "murmur-0", "murmur-1", "murmur-2"]]


def test_a_task_without_problems_is_named_among_several() -> None:
    with pytest.raises(ValueError, match="task 'murmur' has no problems in its validation split"):
        SymbolicDataModule([Say(), Murmur(count=0)]).val_dataloader()


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_problems_without_repeating_one(ranks: int) -> None:
    parts = []
    for rank in range(ranks):
        module = SymbolicDataModule(Say(count=7), evaluation_batch=64)
        module.trainer = cast(Any, SimpleNamespace(world_size=ranks, global_rank=rank))
        parts.append([*chain(*served(module, "val"))])
    assert sorted(chain(*parts)) == sorted(ids("validation", 7))


@pytest.mark.parametrize("name", ["evaluation_batch", "validation_limit", "test_limit"])
def test_a_number_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"data.{name} must be at least 1, got 0"):
        SymbolicDataModule(Say(), **{name: 0})  # type: ignore[arg-type]


def test_an_empty_split_is_named() -> None:
    class Empty(Say):
        def problems(self, split: Split) -> Sequence[Problem]:
            return []

    with pytest.raises((ValueError, MisconfigurationException), match="validation"):
        SymbolicDataModule(Empty()).val_dataloader()


def test_training_belongs_to_a_module_that_collects() -> None:
    class Plain(LightningModule):
        def training_step(self, *_: Any) -> None: ...

        def configure_optimizers(self) -> None: ...

    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    with pytest.raises(MisconfigurationException, match="Plain does not"):
        Trainer(max_epochs=1, limit_val_batches=0, **options).fit(Plain(), datamodule=SymbolicDataModule(Say()))
    with pytest.raises(MisconfigurationException):
        SymbolicDataModule(Say()).train_dataloader()
