"""One checkpoint after every iteration, in a place that does not depend on the logger."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback, Trainer

from callbacks import IterationCheckpoint
from lit_symbolic.checkpoint_io import AtomicCheckpointIO
from lit_symbolic.modules import SFTModule
from lit_symbolic.policies import TinyLlama
from tiny import loaded, same
from toys import Say

Fit = Callable[..., Trainer]


@pytest.fixture
def module(tiny_policy: TinyLlama) -> SFTModule:
    return SFTModule(tiny_policy, demonstrations=8, max_new_tokens=6, minibatch_rows=4)


class Files(Callback):
    """Notes which iteration the file holds at the end of each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held: list[int | None] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.held.append(loaded(self.path)["epoch"] if self.path.exists() else None)

    def on_train_end(self, *_: Any) -> None:
        self.held.append(loaded(self.path)["epoch"])


def saving(folder: Path) -> dict[str, Any]:
    return {"enable_checkpointing": True, "default_root_dir": folder, "plugins": [AtomicCheckpointIO()]}


def test_every_iteration_replaces_the_one_file(module: SFTModule, fit: Fit, tmp_path: Path) -> None:
    files = Files(tmp_path / "checkpoints/last.ckpt")
    fit(module, Say(), 3, [files, IterationCheckpoint()], **saving(tmp_path))
    assert files.held[:3] == [None, 0, 1]
    assert loaded(files.path)["epoch"] == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


def test_the_last_iteration_is_saved_also_where_it_is_not_due(module: SFTModule, fit: Fit, tmp_path: Path) -> None:
    files = Files(tmp_path / "checkpoints/last.ckpt")
    fit(module, Say(), 5, [files, IterationCheckpoint(every_n_epochs=2)], **saving(tmp_path))
    assert files.held[:5] == [None, None, 1, 1, 3]
    assert all(same(value, module.state_dict()[name]) for name, value in loaded(files.path)["state_dict"].items())


def test_a_late_last_checkpoint_can_be_resumed_from(tiny_policy: TinyLlama, fit: Fit, tmp_path: Path) -> None:
    ends = []
    for name, every, parts in (("whole", 1, (6,)), ("parts", 2, (3, 6))):
        for until in parts:
            module = SFTModule(tiny_policy, demonstrations=8, max_new_tokens=6, minibatch_rows=4)
            path = None if until == parts[0] else "last"
            fit(module, Say(), until, [IterationCheckpoint(every_n_epochs=every)], path, **saving(tmp_path / name))
        ends.append(loaded(tmp_path / name / "checkpoints/last.ckpt"))
    assert same(ends[0]["state_dict"], ends[1]["state_dict"])
    assert same(ends[0]["optimizer_states"], ends[1]["optimizer_states"])


def test_a_folder_of_ones_own_is_used(module: SFTModule, fit: Fit, tmp_path: Path) -> None:
    fit(module, Say(), 1, [IterationCheckpoint(dirpath=str(tmp_path / "elsewhere"))], **saving(tmp_path / "run"))
    assert (tmp_path / "elsewhere/last.ckpt").is_file()
    assert not (tmp_path / "run/checkpoints").exists()


def test_an_interval_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="every_n_epochs"):
        IterationCheckpoint(every_n_epochs=0)
