"""How many different problems each task's generator has.

    python benchmarks/generators.py            # counts what is missing, then writes the table
    python benchmarks/generators.py --report   # writes the table from the counts that are there

Problems are drawn with the settings of ``benchmarks/rlsf.py`` until so many different ones are seen, told apart by their normal form:
what two problems share that are the same to a person. Each count is a file under ``benchmarks/results/generators/``.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any, get_args

from lit_symbolic.tasks.base import Split
from lit_symbolic.tasks.game24 import Game24
from lit_symbolic.tasks.molecules import MoleculeGeneration
from lit_symbolic.tasks.pseudocode import PseudocodeToCpp
from lit_symbolic.tasks.reactions import ForwardSynthesis, Retrosynthesis
from lit_symbolic.tasks.splitting import ProblemGenerator, split_of
from rlsf_sources import GAME24_CARDS, GAME24_MAX_CARD
from runs import Scale, environment, run_cells, table

WANTED, QUICK = 100_000, 1_000
TASKS = {
    "game24": ("target and cards", lambda: Game24(generator_cards=GAME24_CARDS, generator_max_card=GAME24_MAX_CARD)),
    "pseudocode": ("the code, whatever its names", PseudocodeToCpp),
    "molecules": ("groups, heavy atoms and rings that are asked for", MoleculeGeneration),
    "forward_synthesis": ("reactants and product", ForwardSynthesis),
    "retrosynthesis": ("the product", Retrosynthesis),
}
"""What a problem's normal form is, and the task."""


def count(name: str, wanted: int) -> dict[str, Any]:
    """Draw until so many different problems are seen; how many draws that took, and how many of them are in each split."""
    generator: ProblemGenerator[Any] = TASKS[name][1]().generator
    rng, seen, draws = random.Random(0), set[str](), 0
    while len(seen) < wanted:
        draws += 1
        seen.add(generator.key_of(generator.draw(rng)))
    splits = Counter(split_of(key, generator.seed) for key in seen)
    listed = {split: set(map(generator.key_of, islice(generator.split(split), 100))) for split in get_args(Split)}
    return {
        "different": len(seen),
        "draws": draws,
        "splits": dict(splits),
        "in_two_splits": sum(len(listed[one] & listed[other]) for one in listed for other in listed if one < other),
    }


def report(cells: dict[str, dict[str, Any]]) -> str:
    """The table of the counts that are there."""
    rows = [
        (name, normal, *(_shown(cells[name]) if name in cells else ("not run", "", "", "", "")))
        for name, (normal, _) in TASKS.items()
    ]
    header = (
        "task",
        "two are one that share",
        "different",
        "draws",
        "train / validation / test",
        "there are about",
        "in two splits",
    )
    versions = next((cell["environment"] for cell in cells.values()), environment())
    return "\n".join(
        [
            "# Problems of the generators",
            "",
            "`python benchmarks/generators.py`. Drawn with the settings of `benchmarks/rlsf.py`, seed 0, until so many different ones were seen.",
            "The split of a problem is a hash of its normal form: none can be in two; the first 100 of each were compared. There are about:",
            "as many as would give so many repetitions if all were equally likely; as they are not, there are more.",
            "",
            table(header, rows),
            "",
            f"Versions: {', '.join(f'{key} {value}' for key, value in versions.items())}.",
            "",
        ]
    )


def _shown(cell: dict[str, Any]) -> tuple[str, ...]:
    population = float(f"{_population(cell['different'], cell['draws']):.2g}")
    return (
        f"{cell['different']:,}",
        f"{cell['draws']:,}",
        " / ".join(f"{cell['splits'].get(split, 0):,}" for split in ("train", "validation", "test")),
        f"{population:,.0f}" if cell["draws"] > cell["different"] else "",
        str(cell["in_two_splits"]),
    )


def _population(different: int, draws: int) -> float:
    """The number of equally likely problems of which so many draws give so many different ones, by bisection."""
    low, high = float(different), 1e12
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        expected = middle * (1 - (1 - 1 / middle) ** draws)
        low, high = (middle, high) if expected < different else (low, middle)
    return low


def main() -> None:
    """Count what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="write the table only")
    parser.add_argument("--quick", type=Path, help="a folder: count a thousand of each there, to see that all of it works")
    arguments = parser.parse_args()
    scale, wanted = Scale.of("generators", arguments.quick), QUICK if arguments.quick else WANTED
    if not arguments.report:
        run_cells(
            ((scale.results / f"{name}.json", functools.partial(count, name, wanted)) for name in TASKS),
            arguments.side_by_side,
        )
    found = {path.stem: json.loads(path.read_text()) for path in sorted(scale.results.glob("*.json"))}
    scale.write(report(found))


if __name__ == "__main__":
    main()
