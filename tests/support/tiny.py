"""Short ways to run the shipped recipes at their smallest, in this process or in one that can be killed."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from lightning import Callback, Trainer

    from lit_symbolic.cli import SymbolicCLI
    from lit_symbolic.modules import SymbolicModule
    from lit_symbolic.tasks import Task

SUPPORT = Path(__file__).parent
ROOT = SUPPORT.parents[1]
CONFIGS = ROOT / "configs"

SIZES = {
    "sft": ["--model.demonstrations=16"],
    "ppo": ["--model.problems=3", "--model.samples=8", "--model.critic_warmup_iterations=1"],
}


def tiny_args(recipe: str, folder: Path, *more: str, subcommand: str = "fit", start: Path | None = None) -> list[str]:
    """The command line of a shipped recipe at its smallest, everything it writes under ``folder``."""
    return [
        subcommand,
        f"--config={CONFIGS / 'game24' / recipe}.yaml",
        f"--config={SUPPORT / 'tiny.yaml'}",
        *SIZES["sft" if recipe == "sft" else "ppo"],
        f"--trainer.default_root_dir={folder}",
        *([] if recipe == "sft" else [f"--model.init_from={start or 'null'}"]),
        *more,
    ]


def fit(
    module: SymbolicModule,
    task: Task,
    iterations: int = 1,
    callbacks: Sequence[Callback] = (),
    ckpt_path: Path | None = None,
    **options: Any,
) -> Trainer:
    """Train a module on a task, without what else a run writes."""
    from lightning import Trainer

    from callbacks import RewardCallback, VerifierReward
    from lit_symbolic.cli import TRAINER_DEFAULTS
    from lit_symbolic.data import SymbolicDataModule

    torch.set_num_threads(1)
    settings: dict[str, Any] = {
        **TRAINER_DEFAULTS,
        "accelerator": "cpu",
        "limit_val_batches": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        **options,
    }
    rewards = [] if any(isinstance(c, RewardCallback) for c in callbacks) else [VerifierReward(workers=1)]
    trainer = Trainer(max_epochs=iterations, callbacks=[*rewards, *callbacks], **settings)
    trainer.fit(module, datamodule=SymbolicDataModule(task), ckpt_path=ckpt_path)
    return trainer


def checkpoint_of(cli: SymbolicCLI) -> Path:
    """Where a run left its last checkpoint."""
    return Path(cli.trainer.default_root_dir) / "checkpoints" / "last.ckpt"


def loaded(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(left: Any, right: Any) -> bool:
    """Whether two nests of dicts, sequences, tensors and plain values are equal, tensors bit for bit."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right) or (isinstance(left, float) and math.isnan(left) and math.isnan(right))


def prompt_in(batch: dict[str, Any], row: int) -> list[int]:
    """The prompt of a minibatch's row, without padding."""
    index = int(batch["prompt_of"][row]) if "prompt_of" in batch else row
    ids = batch["prompt_ids"][index]
    return (ids[batch["prompt_mask"][index]] if "prompt_mask" in batch else ids).tolist()


def processes() -> ForkServerContext:
    """Starts processes in a moment: they are forked from one that has imported everything and done nothing."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["lit_symbolic.cli", "tiny"])
    return context


def started(args: Sequence[str], output: Path, environment: dict[str, str] | None = None) -> ForkServerProcess:
    """The command line in a process of its own, which writes to the file ``output``."""
    process = processes().Process(target=_run, args=(list(args), output, environment or {}))
    process.start()
    return process


def _run(args: list[str], output: Path, environment: dict[str, str]) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.argv = ["train.py", *args]
    from lit_symbolic.cli import main

    main()
