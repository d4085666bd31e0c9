"""How much PPO with token rewards adds to supervised fine-tuning on held-out Game of 24 puzzles.

    python benchmarks/game24.py            # runs what is missing, then writes the table
    python benchmarks/game24.py --report   # writes the table from the cells that are there

Arms, from the same supervised start of each seed: PPO as in ``make demo``, PPO as in the recipe of 300 iterations, and supervised
fine-tuning continued on its own mixture for the same seconds as either. The longer run of a pair resumes a copy of the
shorter one, which gives the same weights as a run of its own.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

from runs import Run, Scale, environment, held_out, iteration_seconds, mean_and_spread, run_cells, shown, table

SFT = ("configs/game24/sft.yaml",)
PPO = ("configs/game24/ppo_token.yaml",)
DEMO_ITERATIONS = 100
RECIPE_ITERATIONS = 300
ARMS = {
    "sft": "supervised start",
    "demo": "+ PPO as in `make demo`",
    "continued": "+ SFT continued for those seconds",
    "recipe": "+ PPO as in the recipe",
    "continued_recipe": "+ SFT continued for those seconds",
}
BEGINS_AS = {"recipe": "demo", "continued_recipe": "continued"}


def sft_start(seed: int, scale: Scale, threads: int = 1) -> Run:
    """The supervised start of one seed, shared by all arms and benchmarks."""
    folder = scale.folder.parent / "starts" / f"seed{seed}"
    return Run(folder, SFT, ("--seed_everything", str(seed), *scale.flags, *scale.sft), threads)


def sft_cell(scale: Scale, seed: int) -> dict[str, Any]:
    """The supervised start, evaluated on the test puzzles."""
    run = sft_start(seed, scale)
    return {"arm": "sft", "seed": seed, "command": run.command("fit"), **run.fit(), "test": run.test()}


def ppo_cell(scale: Scale, arm: str, seed: int, iterations: int) -> dict[str, Any]:
    """PPO with token rewards from the start of this seed."""
    run = Run(
        begun(scale, arm, seed),
        PPO,
        (
            *("--seed_everything", str(seed), "--model.init_from", shown(sft_start(seed, scale).checkpoint)),
            *("--trainer.max_epochs", str(iterations), "--trainer.check_val_every_n_epoch", "20"),
            *scale.flags,
            *scale.ppo,
        ),
        threads=1,
    )
    return {"arm": arm, "seed": seed, "iterations": iterations, "command": run.command("fit"), **run.fit(), "test": run.test()}


def begun(scale: Scale, arm: str, seed: int) -> Path:
    """The folder of a run; a longer one begins as a copy of the shorter, without its mark of being done."""
    folder = scale.folder / f"{arm}-seed{seed}"
    shorter = scale.folder / f"{BEGINS_AS[arm]}-seed{seed}" if arm in BEGINS_AS else folder
    if shorter.exists() and not folder.exists():
        shutil.copytree(shorter, folder, ignore=shutil.ignore_patterns("done.json", "*.log", "report.html"))
    return folder


def continued_cell(scale: Scale, arm: str, seed: int, like: str) -> dict[str, Any]:
    """Supervised fine-tuning continued from the same start for as many seconds as the arm ``like`` took."""
    seconds = sum(iteration_seconds(json.loads((scale.results / f"{like}-seed{seed}.json").read_text())["curves"]))
    start = sft_start(seed, scale)
    each = statistics.median(iteration_seconds(start.fit()["curves"]))
    iterations = max(1, round(seconds / each))
    run = Run(
        begun(scale, arm, seed),
        SFT,
        (
            *("--seed_everything", str(seed + 1000), "--model.init_from", shown(start.checkpoint)),
            *("--trainer.max_epochs", str(iterations), "--trainer.check_val_every_n_epoch", "1000"),
            *scale.flags,
        ),
        threads=1,
    )
    return {"arm": arm, "seed": seed, "iterations": iterations, "command": run.command("fit"), **run.fit(), "test": run.test()}


def report(scale: Scale) -> str:
    """The table of the cells that are there."""
    cells = [json.loads(path.read_text()) for path in sorted(scale.results.glob("*.json"))]
    starts = {c["seed"]: c["test"]["pass@1"] for c in cells if c["arm"] == "sft"}
    rows = []
    for arm, label in ARMS.items():
        mine = [c for c in cells if c["arm"] == arm]
        gains = [c["test"]["pass@1"] - starts[c["seed"]] for c in mine if c["seed"] in starts]
        factors = [c["test"]["pass@1"] / starts[c["seed"]] for c in mine if starts.get(c["seed"])]
        rows.append(
            (
                label,
                ", ".join(str(c["seed"]) for c in mine) or "-",
                "/".join(sorted({str(c.get("iterations", "")) for c in mine})),
                mean_and_spread([sum(iteration_seconds(c["curves"])) / 60 for c in mine], 1),
                mean_and_spread([c["test"]["pass@1"] for c in mine]),
                mean_and_spread([c["test"]["pass@8"] for c in mine]),
                "" if arm == "sft" else mean_and_spread([100 * gain for gain in gains], 1),
                "" if arm == "sft" else mean_and_spread(factors, 2),
                mean_and_spread([c["test"]["step_validity"] for c in mine]),
                held_out(mine, "mean_length", 1),
                held_out(mine, "end_rate"),
            )
        )
    header = (
        *("arm", "seeds", "iterations", "minutes", "held-out pass@1", "pass@8", "points gained", "factor", "step validity"),
        *("mean length", "end rate"),
    )
    return "\n".join(
        [
            "# Game of 24: supervised start, then PPO with token rewards",
            "",
            "`python benchmarks/game24.py`. Mean over seeds, lowest and highest in brackets. Held-out: the 300 test puzzles, never",
            "trained on, x 8 answers at temperature 1. Minutes: sampling, verifying and learning with one thread, two runs side by",
            "side on a shared machine; `make demo` uses both cores for one run. Length in tokens; end rate: share of the answers that end",
            "by themselves.",
            "",
            table(header, rows),
            "",
            f"Versions: {', '.join(f'{k} {v}' for k, v in (cells[0]['environment'] if cells else environment()).items())}.",
            "",
        ]
    )


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--quick", type=Path, help="a folder: run a very small version there, to see that all of it works")
    parser.add_argument("--report", action="store_true", help="write the table only")
    arguments = parser.parse_args()
    scale = Scale.of("game24", arguments.quick)
    demo, recipe = (DEMO_ITERATIONS, RECIPE_ITERATIONS) if arguments.quick is None else (2, 3)
    work = {
        "sft": lambda seed: sft_cell(scale, seed),
        "demo": lambda seed: ppo_cell(scale, "demo", seed, demo),
        "recipe": lambda seed: ppo_cell(scale, "recipe", seed, recipe),
        "continued": lambda seed: continued_cell(scale, "continued", seed, "demo"),
        "continued_recipe": lambda seed: continued_cell(scale, "continued_recipe", seed, "recipe"),
    }
    for arm in (arm for arm in ARMS if arm in arguments.arms and not arguments.report):
        cells = [(scale.results / f"{arm}-seed{seed}.json", functools.partial(work[arm], seed)) for seed in arguments.seeds]
        run_cells(cells, arguments.side_by_side)
        scale.write(report(scale))
    scale.write(report(scale))


if __name__ == "__main__":
    main()
