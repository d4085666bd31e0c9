"""What verification costs of an iteration's wall time.

    python benchmarks/verification.py                # from the supervised starts of three seeds, trained where they are missing
    python benchmarks/verification.py --from-scratch # random weights: quick, and answers that are all malformed

Iterations of the recipe run in one process, in turn with the same sampling without a verifier (no alignment, no pool, no
rewards). The cost is the difference, over the wall time of the whole iteration: sampling, verifying, evaluating, learning.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback

from callbacks import VerifierReward
from game24 import sft_start
from lit_symbolic.data import SymbolicDataModule
from lit_symbolic.modules import Advantage, Evaluation, Optimization, PPOModule
from lit_symbolic.policies import TinyLlama
from lit_symbolic.seeding import generator_for
from lit_symbolic.tasks.game24 import Game24
from runs import ROOT, Scale, environment, mean_and_spread, table

RESULT = ROOT / "benchmarks" / "results" / "verification.md"


class Measure(Callback):
    """After each iteration, samples once more without a verifier, and notes what each took."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: PPOModule) -> None:  # type: ignore[override]
        """Read the iteration's figures and time the bare sampling."""
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        problems = list(pl_module.task.problems("train"))[: pl_module.problems]
        prompts = [pl_module._prompt_ids(problem, pl_module.sampling.max_new_tokens) for problem in problems]
        generator = generator_for("bare", trainer.current_epoch)
        arguments = (pl_module.samples, pl_module.sampling, pl_module.eos_ids, pl_module.pad_id, generator)
        since = time.monotonic()
        pl_module.engine.generate(pl_module.model, prompts, *arguments)
        bare = time.monotonic() - since
        with_verifier = figures["time/sampling_seconds"] + figures["time/verifying_seconds"]
        iteration = with_verifier + figures["time/evaluating_seconds"] + figures["time/learning_seconds"]
        self.rows.append(
            {
                "iteration": iteration,
                "cost": (with_verifier - bare) / iteration,
                "waited": figures["verify/seconds_waited"],
                "hidden": figures["verify/seconds_hidden"],
                "busy": figures["verify/seconds_busy"],
            }
        )


def measure(seed: int, init_from: str | None, iterations: int, threads: int) -> list[dict[str, float]]:
    """Run the recipe and return one row per iteration, the first left out: workers start in it."""
    torch.set_num_threads(threads)
    seed_everything(seed, verbose=False)
    module = PPOModule(
        TinyLlama(seed=seed),
        init_from=init_from,
        epochs=1,
        max_new_tokens=40,
        old_logprobs="engine",
        advantage=Advantage(gamma=0.7, lam=0.95),
        optimization=Optimization(learning_rate=3e-4, optimizer="muon"),
        evaluation=Evaluation(samples=1),
    )
    measured = Measure()
    reward = VerifierReward(scheme="until_error", failure_reward=-1.0)
    trainer = Trainer(
        max_epochs=iterations + 1,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=[reward, measured],
    )
    trainer.fit(module, datamodule=SymbolicDataModule(Game24(max_value=50)))
    return measured.rows[1:]


def columns(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """The figures of some iterations by the heading that they stand under."""
    return {
        "iteration, s": [row["iteration"] for row in rows],
        "verification, % of it": [100 * row["cost"] for row in rows],
        "median of that": [statistics.median(100 * row["cost"] for row in rows)],
        "worker time, s": [row["busy"] for row in rows],
        "hidden behind sampling, s": [row["hidden"] for row in rows],
        "waited for, s": [row["waited"] for row in rows],
    }


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=10, help="of each seed")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--from-scratch", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    for seed in arguments.seeds:
        init_from = None
        if not arguments.from_scratch:
            start = sft_start(seed, Scale.of("game24", None))
            start.fit()
            init_from = str(start.checkpoint)
        found[str(seed)] = measure(seed, init_from, arguments.iterations, arguments.threads)
    found["all"] = [row for rows in found.values() for row in rows]
    cost = statistics.mean(100 * row["cost"] for row in found["all"])
    text = "\n".join(
        [
            "# What verification costs of an iteration",
            "",
            f"`python benchmarks/verification.py {' '.join(sys.argv[1:])}`: 256 answers an iteration (32 puzzles x 8), "
            f"{arguments.iterations} iterations a seed, {arguments.threads} thread(s), load average {os.getloadavg()[0]:.1f} at the "
            "end. Mean, lowest and highest in brackets. The cost is "
            "sampling with alignment, pool and rewards, less sampling alone, over the whole iteration. The two samplings are timed one "
            "after the other: on a busy machine they differ by more than what is looked for, either way, and only means say something. "
            f"Target: at most 5 %, {'met' if cost <= 5 else 'missed'} with {cost:.1f} % in the mean.",
            "",
            table(
                ("seed", *columns(found["all"])),
                [(seed, *(mean_and_spread(values, 2) for values in columns(rows).values())) for seed, rows in found.items()],
            ),
            "",
            f"Versions: {', '.join(f'{k} {v}' for k, v in environment().items())}.",
            "",
        ]
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
