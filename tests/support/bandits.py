"""Small games of words in which what a policy learns to prefer can be seen in seconds."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from lightning import Callback, LightningModule, Trainer

from toys import Say

if TYPE_CHECKING:
    from lit_symbolic.policies import TinyLlama

BANDIT = Say(answers=tuple("abcdefgh"), right="e")
PATHS = [" ".join(path) for path in itertools.product("ab", repeat=4)]
# Half of the answers fail at once, a sixteenth of the others is right.
TEMPTING = Say(answers=("z",) * 16 + tuple(PATHS), right="a b b a")


def imitating(policy: TinyLlama, task: Say, folder: Path) -> Path:
    """A policy that draws its answer from the task's demonstrations."""
    import tiny
    from callbacks import IterationCheckpoint
    from lit_symbolic.modules import SFTModule
    from lit_symbolic.modules.settings import Optimization

    learning = Optimization(3e-2, schedule="linear")
    module = SFTModule(policy, demonstrations=512, max_new_tokens=8, minibatch_rows=32, optimization=learning)
    tiny.fit(module, task, 6, [IterationCheckpoint()], default_root_dir=folder, enable_checkpointing=True)
    return folder / "checkpoints/last.ckpt"


class Metrics(Callback):
    """Keeps what was logged in each iteration."""

    def __init__(self) -> None:
        self.kept: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.kept.append({name: float(value) for name, value in trainer.callback_metrics.items()})
