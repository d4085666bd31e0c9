"""What do errors of the tools cost? Two tools that contradict each other about the same tokens, against noise in a Boolean reward.

    python benchmarks/tool_noise.py            # runs what is missing, two cells side by side, then writes the table
    python benchmarks/tool_noise.py --report   # writes the table from the cells that are there

Token arms have two reward callbacks: the game's own tool, which is primary, and beside it one that contradicts it about a share of the
answers (a finding on a word that is right, and one finding less), under each rule for combining them. The Boolean arm has one tool,
which calls the same share of the answers right for wrong and wrong for right. All arms of a seed start from one supervised policy.

Only training sees the noise: what is correct on held-out puzzles is said by the game's own tool. In the token arms it is the primary
one throughout. In the Boolean arm nothing is validated while it trains, and the test takes the task's own tool.

With ``until_error`` the rules ``minimum`` and ``first_to_object`` are one training: both count the tokens up to the earlier fault, and pay
for that fault there (``tests/test_rewards.py``). So the second is run where it is asked for, and was on seed 0.

Each cell (arm, rate, seed) is a file under ``benchmarks/results/tool_noise/``.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from pathlib import Path
from typing import Any

from game24 import sft_start
from runs import Run, Scale, course, held_out, mean_and_spread, run_cells, shown, table
from runs import environment as versions

RATES = (0.0, 0.1, 0.3)
RULES = ("sum", "minimum", "first_to_object")
ARMS = (*RULES, "boolean")
RUN_BY_DEFAULT = ("sum", "minimum", "boolean")
UNVALIDATED = ("--trainer.limit_val_batches", "0", "--trainer.num_sanity_val_steps", "0")
TRUE_TOOL = ("--reward.verifier", "null")


def noisy(kind: str, rate: float, seed: int) -> dict[str, Any]:
    """The game's tool, erring; as a config names it. Each seed of a run has errors of its own."""
    tool = {"class_path": "lit_symbolic.verifiers.game24.Game24Verifier"}
    settings = {"verifier": tool, "rate": rate, "kind": kind, "seed": seed}
    return {"class_path": "lit_symbolic.verifiers.noisy.NoisyVerifier", "init_args": settings}


def run_of(scale: Scale, arm: str, rate: float, seed: int, iterations: int) -> Run:
    """The training run of one cell."""
    if arm == "boolean":
        recipe, flags = "ppo_boolean", ("--reward.verifier", json.dumps(noisy("outcome", rate, seed)))
    else:
        reward = {"scheme": "until_error", "failure_reward": -1.0, "verifier": noisy("contradict", rate, seed)}
        second = {"class_path": "VerifierReward", "init_args": {"name": "second", "primary": False, "workers": 1, **reward}}
        recipe, flags = "ppo_token", ("--model.combine_rewards", arm, "--trainer.callbacks", json.dumps([second]))
    return Run(
        scale.folder / cell_name(arm, rate, seed),
        (f"configs/game24/{recipe}.yaml",),
        (
            *flags,
            *("--seed_everything", str(seed), "--model.init_from", shown(sft_start(seed, scale).checkpoint)),
            *("--trainer.max_epochs", str(iterations), *UNVALIDATED),
            *scale.flags,
            *scale.ppo,
        ),
        threads=1,
    )


def cell(scale: Scale, arm: str, rate: float, seed: int, iterations: int) -> dict[str, Any]:
    """Train one arm at one rate and evaluate it on the test puzzles, by the true tool."""
    run = run_of(scale, arm, rate, seed, iterations)
    trained = run.fit()
    return {
        "arm": arm,
        "rate": rate,
        "seed": seed,
        "iterations": iterations,
        "command": run.command("fit"),
        **trained,
        "test": run.test(TRUE_TOOL),
    }


def cell_name(arm: str, rate: float, seed: int) -> str:
    """Name of a cell's file and folder."""
    return f"{arm}-rate{rate:g}-seed{seed}"


def report(scale: Scale) -> str:
    """The table and the curves of the cells that are there."""
    cells = [json.loads(path.read_text()) for path in sorted(scale.results.glob("*.json"))]
    rows, lines = [], []
    for arm in ARMS:
        for rate in RATES:
            mine = [c for c in cells if (c["arm"], c["rate"]) == (arm, rate)]
            label = "Boolean" if arm == "boolean" else f"token, `{arm}`"
            if not mine:
                rows.append((label, f"{rate:g}", "not run", *[""] * 8))
                continue
            curves = [c["curves"] for c in mine]
            rows.append(
                (
                    label,
                    f"{rate:g}",
                    ", ".join(str(c["seed"]) for c in mine),
                    "/".join(map(str, sorted({c["iterations"] for c in mine}))),
                    mean_and_spread([c["test"]["pass@1"] for c in mine]),
                    _lost(cells, mine),
                    mean_and_spread([c["test"]["pass@8"] for c in mine if "pass@8" in c["test"]]),
                    mean_and_spread([statistics.mean(curve["train/success_rate"][-10:]) for curve in curves]),
                    mean_and_spread([statistics.mean(curve["train/kl"][-10:]) for curve in curves], 1),
                    held_out(mine, "mean_length", 1),
                    held_out(mine, "end_rate"),
                )
            )
            lines += [f"- {label}, rate {rate:g}, seed {c['seed']}: {course(c['curves'])}" for c in mine]
    header = (
        *("reward", "rate of errors", "seeds", "iterations", "held-out pass@1", "points lost to noise", "pass@8"),
        *("training success, last 10, as the primary tool says", "KL then, nats", "mean length", "end rate"),
    )
    return "\n".join(
        [
            "# What errors of the tools cost",
            "",
            "`python benchmarks/tool_noise.py`. Mean over seeds, lowest and highest in brackets. Each iteration is 32 puzzles x 8",
            "answers, one thread. Held-out: 300 test puzzles x 8 answers at temperature 1, judged by the game's own tool. All arms of a",
            "seed start from the same supervised policy. End rate: share of the answers that end by themselves.",
            "",
            "Token: `configs/game24/ppo_token.yaml` with a second reward callback beside its own, which contradicts it about this share",
            "of the answers: a finding on a word that is right, before the first fault where it can, and one finding less; the row says by",
            "which rule the two are combined. The recipe's own tool stays exact, and it alone says which answers are correct: no error of the",
            "other calls a wrong answer right. In the Boolean arm the tool that errs is the only one.",
            "At rate 0 both say the same: `minimum` is then the recipe itself, `sum` pays each fault twice. With `until_error` the rules",
            "`minimum` and `first_to_object` train alike, whatever the tools say: both count the tokens up to the earlier fault, and pay for",
            "that fault there. The second was run on seed 0 to see that.",
            "Boolean: `configs/game24/ppo_boolean.yaml`, its outcome exchanged for this share of the answers. Where few answers are",
            "right, most of those errors call a wrong answer right, and its training success counts them. Points lost: against the same",
            "reward and seeds at rate 0.",
            "",
            table(header, rows),
            "",
            "## Learning curves: training success as the primary tool says (KL in nats), means over ten iterations",
            "",
            *lines,
            "",
            f"Versions: {', '.join(f'{k} {v}' for k, v in (cells[0]['environment'] if cells else versions()).items())}.",
            "",
        ]
    )


def _lost(cells: list[dict[str, Any]], mine: list[dict[str, Any]]) -> str:
    """Points of pass@1 below the same arm and seed without errors."""
    clean = {(c["arm"], c["seed"]): c["test"]["pass@1"] for c in cells if c["rate"] == 0}
    lost = [100 * (clean[at] - c["test"]["pass@1"]) for c in mine if c["rate"] and (at := (c["arm"], c["seed"])) in clean]
    return mean_and_spread(lost, 1) if lost else ""


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(RUN_BY_DEFAULT))
    parser.add_argument("--rates", type=float, nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="write the table only")
    parser.add_argument("--quick", type=Path, help="a folder: run a very small version there, to see that all of it works")
    arguments = parser.parse_args()
    scale = Scale.of("tool_noise", arguments.quick)
    for seed in [] if arguments.report else arguments.seeds:  # one seed of everything first: the table is useful early
        sft_start(seed, scale).fit()
        for rate in arguments.rates:
            cells = [
                (
                    scale.results / f"{cell_name(arm, rate, seed)}.json",
                    functools.partial(cell, scale, arm, rate, seed, arguments.iterations),
                )
                for arm in arguments.arms
            ]
            run_cells(cells, arguments.side_by_side)
            scale.write(report(scale))
    scale.write(report(scale))


if __name__ == "__main__":
    main()
