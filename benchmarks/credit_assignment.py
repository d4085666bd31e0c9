"""Does it matter where the reward stands? Credit schemes from the same starts, at equal rollouts.

    python benchmarks/credit_assignment.py            # runs what is missing, two cells side by side, then writes the table
    python benchmarks/credit_assignment.py --report   # writes the table from the cells that are there

Each cell (scheme, seed) is a file under ``benchmarks/results/credit_assignment/``. The seeds of one scheme start from
three different supervised starts; all schemes share them.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

from chart import chart
from game24 import sft_start
from lit_symbolic.reporting.curves import trailing_mean
from runs import Run, Scale, course, held_out, iteration_seconds, mean_and_spread, run_cells, shown, table
from runs import environment as versions

KL_NATS = 2.0
AT_THE_END = ("--model.advantage.gamma", "1", "--reward.failure_reward", "0")
SCHEMES: dict[str, tuple[str, ...]] = {
    "until_error, near": ("--reward.scheme", "until_error"),
    "until_error": ("--reward.scheme", "until_error", *AT_THE_END),
    "until_error, share": ("--reward.scheme", "until_error", "--reward.prefix_weight", "0.5", *AT_THE_END),
    "boolean": ("--reward.scheme", "boolean", *AT_THE_END),
    "token": ("--reward.scheme", "token", *AT_THE_END),
    "token_penalty": ("--reward.scheme", "token_penalty", *AT_THE_END),
    "token_sum_at_end": ("--reward.scheme", "token_sum_at_end", *AT_THE_END),
    "token_shuffled": ("--reward.scheme", "token_shuffled", *AT_THE_END),
    **{
        f"until_error, near, {estimator}": ("--reward.scheme", "until_error", "--model.advantage.estimator", estimator)
        for estimator in ("rloo", "grpo", "reinforce++")
    },
}
"""Flags of each arm. The first is the recipe: -1 on the first wrong token, and a discount of 0.7 per token, which makes the
tokens near it answer for it. The third also pays half a point for the share of right tokens. The others differ in the scheme; the
last three are the recipe without a critic."""


def cell(scale: Scale, scheme: str, seed: int, iterations: int) -> dict[str, Any]:
    """Train one scheme from one start and evaluate it on the test puzzles."""
    run = Run(
        scale.folder / cell_name(scheme, seed),
        ("configs/game24/ppo_token.yaml",),
        (
            *SCHEMES[scheme],
            *("--seed_everything", str(seed), "--model.init_from", shown(sft_start(seed, scale).checkpoint)),
            *("--trainer.max_epochs", str(iterations), "--trainer.check_val_every_n_epoch", "20"),
            *scale.flags,
            *scale.ppo,
        ),
        threads=1,
    )
    trained = run.fit()
    return {
        "scheme": scheme,
        "seed": seed,
        "iterations": iterations,
        "command": run.command("fit"),
        **trained,
        "test": run.test(),
    }


def cell_name(scheme: str, seed: int) -> str:
    """Name of a cell's file and folder."""
    return f"{scheme.replace(', ', '_')}-seed{seed}"


def report(scale: Scale) -> str:
    """The table and the curves of the cells that are there."""
    cells = [json.loads(path.read_text()) for path in sorted(scale.results.glob("*.json"))]
    rows, lines = [], []
    for scheme in SCHEMES:
        mine = [c for c in cells if c["scheme"] == scheme]
        if not mine:
            rows.append((f"`{scheme}`", "not run", *[""] * 8))
            continue
        iterations = sorted({c["iterations"] for c in mine})
        curves = [c["curves"] for c in mine]
        seconds = [statistics.median(iteration_seconds(curve)) for curve in curves]
        rows.append(
            (
                f"`{scheme}`",
                ", ".join(str(c["seed"]) for c in mine),
                "/".join(map(str, iterations)),
                mean_and_spread([c["test"]["pass@1"] for c in mine]),
                mean_and_spread([c["test"]["pass@8"] for c in mine]),
                mean_and_spread([statistics.mean(curve["train/success_rate"][-10:]) for curve in curves]),
                mean_and_spread([statistics.mean(curve["train/kl"][-10:]) for curve in curves], 1),
                held_out(mine, "mean_length", 1),
                held_out(mine, "end_rate"),
                mean_and_spread(seconds, 1),
            )
        )
        lines += [f"- `{scheme}`, seed {c['seed']}: {course(c['curves'])}" for c in mine]
    header = (
        *("scheme", "seeds", "iterations", "held-out pass@1", "pass@8", "training success, last 10", "KL then, nats"),
        *("mean length", "end rate", "s per iteration"),
    )
    return "\n".join(
        [
            "# Where the reward stands: credit schemes",
            "",
            "`python benchmarks/credit_assignment.py`. Mean over seeds, lowest and highest in brackets. Each iteration is 32",
            "puzzles x 8 answers, one thread, two runs side by side on a shared machine (so seconds vary). Held-out: 300 test",
            "puzzles x 8 answers at temperature 1. All arms of a seed start from the same supervised policy and share every other",
            "setting, which were chosen on `until_error, share`, seed 0, in short trials; the discount and the -1 of the first arm",
            "in six trials of another seed (100), by training success and validation puzzles, against one trial of `boolean` at twice",
            "the learning rate (no better). Training success counts answers to training puzzles before they are learned from; each of",
            "the 962 is seen about twice in 60 iterations. Length in tokens; end rate: share of the answers that end by themselves.",
            "",
            table(header, rows),
            "",
            *_at_equal_seconds_and_kl(cells),
            "",
            "## Learning curves: training success (KL in nats), means over ten iterations",
            "",
            f"![Training success of each scheme over the iterations]({scale.results.name}.svg)",
            "",
            *lines,
            "",
            f"Versions: {', '.join(f'{k} {v}' for k, v in (cells[0]['environment'] if cells else versions()).items())}.",
            "",
        ]
    )


def picture(scale: Scale) -> str:
    """Training success of each scheme over the iterations: the seeds' mean of trailing means over ten."""
    cells = [json.loads(path.read_text()) for path in sorted(scale.results.glob("*.json"))]
    curves = {}
    for scheme in SCHEMES:
        seeds = [c["curves"]["train/success_rate"] for c in cells if c["scheme"] == scheme]
        means = [statistics.mean(values) for values in zip(*seeds, strict=False)]
        curves[scheme] = trailing_mean([(float(i), value) for i, value in enumerate(means, start=1)], 10)
    return chart("Training success, mean of the seeds and of the last ten iterations", "iteration", curves)


def _at_equal_seconds_and_kl(cells: list[dict[str, Any]]) -> list[str]:
    """Training success at the seconds that the fastest arm needed for all its iterations, and where the KL first passes 2 nats."""
    if not cells:
        return []
    budget = min(sum(iteration_seconds(c["curves"])) for c in cells)
    rows = []
    for scheme in SCHEMES:
        mine = [c for c in cells if c["scheme"] == scheme]
        at_seconds, lengths, ends, at_kl = [], [], [], []
        for c in mine:
            success = _trailing(c["curves"]["train/success_rate"])
            spent = list(itertools.accumulate(iteration_seconds(c["curves"])))
            then = max(0, sum(s <= budget for s in spent) - 1)
            at_seconds.append(success[then])
            lengths.append(_trailing(c["curves"]["train/mean_length"])[then])
            if "train/end_rate" in c["curves"]:
                ends.append(_trailing(c["curves"]["train/end_rate"])[then])
            kl = _trailing(c["curves"]["train/kl"])
            passed = next((i for i, value in enumerate(kl) if value > KL_NATS), None)
            if passed is not None:
                at_kl.append(success[passed])
        shown = mean_and_spread(at_kl) + (f" ({len(at_kl)} of {len(mine)} seeds)" if mine else "")
        length, end = mean_and_spread(lengths, 1) if lengths else "", mean_and_spread(ends) if ends else ""
        rows.append((f"`{scheme}`", mean_and_spread(at_seconds), length, end, shown))
    header = (
        *("scheme", f"training success after {budget:.0f} s", "mean length then", "end rate then"),
        f"training success where the KL passes {KL_NATS:g} nats",
    )
    return [table(header, rows)]


def _trailing(values: list[float], width: int = 10) -> list[float]:
    return [statistics.mean(values[max(0, i + 1 - width) : i + 1]) for i in range(len(values))]


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--schemes", nargs="+", choices=list(SCHEMES), default=list(SCHEMES))
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="write the table only")
    parser.add_argument("--quick", type=Path, help="a folder: run a very small version there, to see that all of it works")
    arguments = parser.parse_args()
    scale = Scale.of("credit_assignment", arguments.quick)
    for seed in [] if arguments.report else arguments.seeds:  # one seed of everything first: the table is useful early
        sft_start(seed, scale).fit()
        cells = [
            (
                scale.results / f"{cell_name(scheme, seed)}.json",
                functools.partial(cell, scale, scheme, seed, arguments.iterations),
            )
            for scheme in arguments.schemes
        ]
        run_cells(cells, arguments.side_by_side)
        write(scale)
    write(scale)


def write(scale: Scale) -> None:
    """Write the table and its picture."""
    scale.write(report(scale))
    scale.results.with_suffix(".svg").write_text(picture(scale))


if __name__ == "__main__":
    main()
