"""What do three more tools cost? An iteration of ``configs/molecules/ppo_three_tools.yaml`` against one of ``ppo_token.yaml``.

    python benchmarks/three_tools.py            # runs what is missing, one run at a time, then writes the table
    python benchmarks/three_tools.py --report   # writes the table from the pairs that are there

Each pair trains both recipes from one supervised policy with one seed, one after the other: at the first iteration of a pair both have
the same answers to certify. Every pair is a file under ``benchmarks/results/three_tools/``.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from pathlib import Path
from typing import Any

from runs import Run, Scale, environment, iteration_seconds, mean_and_spread, run_cells, shown, table

RECIPES = {"one tool": "ppo_token", "four tools": "ppo_three_tools"}
PARTS = ("sampling", "verifying", "evaluating", "learning")
ANSWERS = {"mean_length": "mean length, tokens", "end_rate": "end rate"}
"""Measures of the answers that were sampled in an iteration."""
SKIPPED = 1
"""Iterations at the beginning that do not count: worker processes start there."""


def pair(scale: Scale, seed: int, iterations: int) -> dict[str, Any]:
    """Train both recipes; seconds of each iteration."""
    start = Run(
        scale.folder / f"start-seed{seed}",
        ("configs/molecules/sft.yaml",),
        ("--seed_everything", str(seed), "--trainer.max_epochs", "1", *scale.flags, *scale.sft),
        threads=1,
    )
    start.fit()
    found: dict[str, Any] = {"seed": seed, "iterations": iterations}
    for label, recipe in RECIPES.items():
        flags = (
            *("--seed_everything", str(seed), "--model.init_from", shown(start.checkpoint)),
            *("--trainer.max_epochs", str(iterations), "--trainer.limit_val_batches", "0", "--trainer.num_sanity_val_steps", "0"),
            *(*scale.flags, *scale.ppo),
        )
        run = Run(scale.folder / f"{recipe}-seed{seed}", (f"configs/molecules/{recipe}.yaml",), flags, threads=1)
        curves = run.fit()["curves"]
        found[label] = {
            "command": run.command("fit"),
            "iteration": iteration_seconds(curves),
            **{part: curves[f"time/{part}_seconds"] for part in PARTS},
            **{name: curves[f"train/{name}"] for name in ANSWERS},
        }
    return found


def report(scale: Scale) -> str:
    """The table of the pairs that are there."""
    pairs = [json.loads(path.read_text()) for path in sorted(scale.results.glob("*.json"))]
    rows = []
    for part in ("iteration", *PARTS):
        seconds = {label: [statistics.median(each[label][part][SKIPPED:]) for each in pairs] for label in RECIPES}
        one, four = seconds.values()
        ratios = [theirs / ours if ours else 1.0 for ours, theirs in zip(one, four, strict=True)]
        rows.append((f"{part}, s", mean_and_spread(one, 2), mean_and_spread(four, 2), mean_and_spread(ratios, 2)))
    for name, label in ANSWERS.items():
        answers = [
            [statistics.mean(each[recipe][name][SKIPPED:]) for each in pairs if name in each[recipe]] for recipe in RECIPES
        ]
        rows.append((label, *(mean_and_spread(values, 3) if values else "" for values in answers), ""))
    versions = pairs[0]["environment"] if pairs else environment()
    return "\n".join(
        [
            "# What three more tools cost",
            "",
            "`python benchmarks/three_tools.py`. Seconds of an iteration (256 answers) with the molecule's own tool alone, and with those for",
            "syntax, valence and functional groups as three more reward callbacks beside it; medians of a run's iterations but the first, mean",
            f"over pairs of runs (seeds {', '.join(str(each['seed']) for each in pairs)}), lowest and highest in brackets. Verifying is what is",
            "left to wait for when the last answer is sampled: worker processes certify the others meanwhile, on the second core. Length and",
            "end rate (share that ends by itself): of the answers sampled in these iterations, empty where they were not kept.",
            "",
            table(("of an iteration", "one tool", "four tools", "ratio"), rows),
            "",
            f"Versions: {', '.join(f'{k} {v}' for k, v in versions.items())}.",
            "",
        ]
    )


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--report", action="store_true", help="write the table only")
    parser.add_argument("--quick", type=Path, help="a folder: run a very small version there, to see that all of it works")
    arguments = parser.parse_args()
    scale = Scale.of("three_tools", arguments.quick)
    if not arguments.report:
        cells = (
            (scale.results / f"seed{seed}.json", functools.partial(pair, scale, seed, arguments.iterations))
            for seed in arguments.seeds
        )
        run_cells(cells, side_by_side=1)
    scale.write(report(scale))


if __name__ == "__main__":
    main()
