"""What search and second attempts at test time solve, and what they cost, on the Game of 24.

    python benchmarks/decoding.py            # runs what is missing, one cell at a time, then writes the table
    python benchmarks/decoding.py --report   # writes the table from the cells that are there

Every decoding of a seed evaluates the same supervised policy on the same test puzzles. Each cell (decoding, seed) is a file under
``benchmarks/results/decoding/``.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from game24 import sft_start
from runs import Scale, environment, held_out, mean_and_spread, run_cells, table

PLAIN_ANSWERS = 40
ATTEMPTS_ANSWERS = 4
ONE = ("--model.evaluation.samples", "1", "--model.evaluation.pass_at", "[1]")
JUDGES = ("tool", "model", "both")
WIDTHS = ((5, 1), (5, 3), (10, 5))


def searching(judge: str, proposals: int, keep: int) -> tuple[str, ...]:
    """Flags of a search."""
    settings = {"proposals": proposals, "keep": keep, "judge": judge}
    return (*ONE, *(part for name, value in settings.items() for part in (f"--model.evaluation.search.{name}", str(value))))


DECODINGS: dict[str, tuple[str, ...]] = {
    "plain": (
        *("--model.evaluation.samples", str(PLAIN_ANSWERS)),
        *("--model.evaluation.pass_at", json.dumps(list(range(1, PLAIN_ANSWERS + 1)))),
    ),
    "greedy": (*ONE, "--model.evaluation.temperature", "0"),
    **{
        f"search, {judge}, {proposals} proposals, keep {keep}": searching(judge, proposals, keep)
        for judge in JUDGES
        for proposals, keep in WIDTHS
    },
    **{
        f"{number} attempts": (
            *("--model.evaluation.samples", str(ATTEMPTS_ANSWERS), "--model.evaluation.pass_at", "[1]"),
            *("--model.evaluation.attempts", str(number)),
        )
        for number in (2, 3)
    },
}
"""Flags of each decoding, beside those of the recipe."""


def cell(scale: Scale, decoding: str, seed: int) -> dict[str, Any]:
    """Evaluate one decoding of the supervised start of a seed."""
    flags, start = DECODINGS[decoding], sft_start(seed, scale)
    return {"decoding": decoding, "seed": seed, "command": [*start.command("test"), *flags], "test": start.test(flags)}


def cell_name(decoding: str, seed: int) -> str:
    """Name of a cell's file."""
    return f"{decoding.replace(',', '').replace(' ', '-')}-seed{seed}"


def report(scale: Scale) -> str:
    """The table of the cells that are there."""
    cells = [json.loads(path.read_text()) for path in sorted(scale.results.glob("*.json"))]
    plain = {each["seed"]: each["test"] for each in cells if each["decoding"] == "plain"}
    rows = []
    for decoding in DECODINGS:
        mine = [each for each in cells if each["decoding"] == decoding]
        if not mine:
            rows.append((decoding, "not run", *[""] * 8))
            continue
        rows.append(
            (
                decoding,
                ", ".join(str(each["seed"]) for each in mine),
                held_out(mine, "pass@1"),
                _at_equal_cost(mine, plain, lambda test, one: _tokens(test) / _tokens(one)),
                _at_equal_cost(mine, plain, lambda test, one: test.get("spent/tool_calls", 0.0)),
                held_out(mine, "mean_length", 1),
                held_out(mine, "end_rate"),
                mean_and_spread([_tokens(each["test"]) for each in mine], 0),
                held_out(mine, "spent/tool_calls", 1),
                held_out(mine, "spent/dead_ends"),
            )
        )
    header = (
        *("decoding", "seeds", "solved", "plain pass@k at as many tokens", "plain pass@k at as many tool calls"),
        *("mean length", "end rate", "tokens sampled", "tool calls", "dead ends"),
    )
    versions = cells[0]["environment"] if cells else environment()
    return "\n".join(
        [
            "# Search and second attempts at test time",
            "",
            "`python benchmarks/decoding.py`. The supervised start of the Game of 24 (`configs/game24/sft.yaml`), its 300 test puzzles,",
            "temperature 1; mean over seeds, lowest and highest in brackets. A seed is a start of its own; all draw alike. Per answer:",
            "length and end rate (share that ends by itself) of the answer that stands, and tokens sampled, tool calls and dead ends",
            "(searches whose every proposal was discarded) to find it. Plain pass@k is what k sampled answers reach if the verifier",
            f"chooses among them, estimated from {PLAIN_ANSWERS} answers to each puzzle: for as many answers as cost at least the tokens of the",
            "search, or as many as it asked the tool; empty where those are more than were sampled, or none.",
            "",
            table(header, rows),
            "",
            f"Versions: {', '.join(f'{k} {v}' for k, v in versions.items())}.",
            "",
        ]
    )


def _tokens(test: dict[str, float]) -> float:
    return test.get("spent/tokens", test["mean_length"])


def _at_equal_cost(
    cells: list[dict[str, Any]],
    plain: dict[int, dict[str, float]],
    answers: Callable[[dict[str, float], dict[str, float]], float],
) -> str:
    """Plain pass@k of the same seeds at a cost, and the k."""
    found = []
    for each in cells:
        if each["decoding"] in ("plain", "greedy") or each["seed"] not in plain:
            continue
        k = math.ceil(answers(each["test"], plain[each["seed"]]))
        if f"pass@{k}" in plain[each["seed"]]:
            found.append((k, plain[each["seed"]][f"pass@{k}"]))
    if not found:
        return ""
    return f"{mean_and_spread([value for _, value in found])} (k = {'/'.join(str(k) for k in sorted({k for k, _ in found}))})"


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--decodings", nargs="+", choices=DECODINGS, default=list(DECODINGS))
    parser.add_argument("--report", action="store_true", help="write the table only")
    parser.add_argument("--quick", type=Path, help="a folder: run a very small version there, to see that all of it works")
    arguments = parser.parse_args()
    scale = Scale.of("decoding", arguments.quick)
    for seed in [] if arguments.report else arguments.seeds:
        sft_start(seed, scale).fit()
        cells = [
            (
                scale.results / f"{cell_name(decoding, seed)}.json",
                functools.partial(cell, scale, decoding, seed),
            )
            for decoding in arguments.decodings
        ]
        run_cells(cells, side_by_side=1)  # they evaluate in one folder
        scale.write(report(scale))
    scale.write(report(scale))


if __name__ == "__main__":
    main()
