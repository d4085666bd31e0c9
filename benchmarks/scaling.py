"""How the cost of an iteration grows when rollouts, answer length or model width double.

    python benchmarks/scaling.py            # about 5 minutes on two idle cores; writes benchmarks/results/scaling.md
    python benchmarks/scaling.py --quick    # seconds; small, prints only

One of the three is changed at a time around the base point, in the recipe of benchmarks/iteration.py with a value head: so many
prompts x 8 answers, none of which ends early, 2 passes in minibatches of 64, a KL to a reference. An exponent of 1 is growth in
proportion, 2 that of a square. It is fitted by least squares to the logarithms of all measured iterations, with its standard error.

Each finished cell (a point with a seed) is a file under benchmarks/results/scaling/ and is not run again:
delete the folder to measure anew.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from lightning import Trainer

from peers.ours import Arm, Shape, fit
from peers.phases import OUTSIDE, WORK, PhaseClock
from peers.turns import Stopped
from runs import ROOT, environment, table, write_json

RESULTS = ROOT / "benchmarks" / "results" / "scaling"
OUTSIDE_PHASE = "outside"
PHASES = (*WORK, OUTSIDE_PHASE)
WHOLE = "iteration"

Seconds = dict[str, float]


@dataclass(frozen=True)
class Axis:
    """What is doubled.

    Args:
        name: As the table calls it.
        sizes: Its values.
        field: The field of :class:`Shape` that holds it.
        per: How much of ``sizes`` one unit of the field is: eight answers a prompt.
    """

    name: str
    sizes: tuple[int, ...]
    field: str
    per: int = 1

    def shapes(self, base: Shape) -> dict[int, Shape]:
        """The work at each size, all else as at the base point."""
        return {size: replace(base, **{self.field: size // self.per}) for size in self.sizes}


BASE = Shape(prompts=8, max_new_tokens=32)
AXES = (
    Axis("rollouts", (64, 128, 256, 512), "prompts", per=BASE.samples),
    Axis("new tokens of each answer", (16, 32, 64, 128), "max_new_tokens"),
    Axis("width of the model", (96, 192, 384, 768), "hidden_size"),
)
QUICK_BASE = Shape(prompts=1, samples=2, max_new_tokens=2, minibatch_rows=2, hidden_size=24, layers=1)
QUICK_AXES = (
    Axis("rollouts", (2, 4), "prompts", per=QUICK_BASE.samples),
    Axis("new tokens of each answer", (2, 4), "max_new_tokens"),
    Axis("width of the model", (24, 48), "hidden_size"),
)


def measure(shape: Shape, seed: int, iterations: int) -> list[Seconds]:
    """Seconds of each phase of some iterations; one more, before them, warms up.

    Example of a row: ``{"sampling": 0.4, "verifying": 0.0, "evaluating": 0.2, "learning": 0.9, "outside": 0.1, "iteration": 1.6}``.
    """
    clock = PhaseClock()
    rows: list[Seconds] = []

    def begin(_: Trainer) -> None:
        causes = clock.cut()
        phases = {name: causes.get(name, 0.0) for name in WORK}
        phases[OUTSIDE_PHASE] = sum(causes.get(name, 0.0) for name in OUTSIDE)
        rows.append({**phases, WHOLE: sum(phases.values())})
        # The first is what came before the first iteration, the second warmed up.
        if len(rows) == iterations + 2:
            raise Stopped

    try:
        fit(Arm(), shape, seed, begin, clock)
    except Stopped:
        return rows[2:]
    raise RuntimeError("the training ended by itself")


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Slope of the logarithm of ``seconds`` over that of ``sizes`` by least squares, and its standard error (NaN for 2 points).

    Example:
        >>> exponent([1, 2, 4], [3, 12, 48])
        (2.0, 0.0)
    """
    x, y = [math.log2(size) for size in sizes], [math.log2(second) for second in seconds]
    spread = sum((a - fmean(x)) ** 2 for a in x)
    slope = sum((a - fmean(x)) * (b - fmean(y)) for a, b in zip(x, y, strict=True)) / spread
    residuals = [b - fmean(y) - slope * (a - fmean(x)) for a, b in zip(x, y, strict=True)]
    freedom = len(x) - 2
    error = math.sqrt(sum(r * r for r in residuals) / freedom / spread) if freedom else math.nan
    return slope, error


def growth(axis: Axis, cells: dict[tuple[Shape, int], list[Seconds]], base: Shape) -> str:
    """Seconds of each phase at each size, and how they grow."""
    points = {
        size: [row for (at, _), rows in cells.items() if at == shape for row in rows] for size, shape in axis.shapes(base).items()
    }
    lines = []
    for phase in (WHOLE, *PHASES):
        own = {size: [row[phase] for row in rows] for size, rows in points.items()}
        pairs = [(size, seconds) for size, values in own.items() for seconds in values if seconds > 0]
        slope, error = exponent(*zip(*pairs, strict=True)) if len({size for size, _ in pairs}) > 1 else (math.nan, math.nan)
        last, before = (median(own[size]) for size in reversed(axis.sizes[-2:]))
        lines.append(
            [
                phase,
                *(f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})" for values in own.values()),
                f"{slope:.2f} ± {error:.2f}",
                f"x {last / before:.2f}" if before else "-",
            ]
        )
    return table([axis.name, *(f"{size}" for size in axis.sizes), "exponent ± standard error", "last doubling"], lines)


def report(axes: Iterable[Axis], base: Shape, cells: dict[tuple[Shape, int], list[Seconds]], threads: int, notes: Any) -> str:
    """The three tables."""
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    seeds = sorted({seed for _, seed in cells})
    count = len(next(iter(cells.values())))
    lines = [
        "# How the cost of an iteration grows",
        "",
        f"    {policy and f'OMP_WAIT_POLICY={policy} '}python benchmarks/scaling.py {' '.join(sys.argv[1:])}".rstrip(),
        "",
        f"PPO with a value head on the tiny Llama ({base.layers} layers), base point {base.rows} rollouts ({base.prompts} prompts x "
        f"{base.samples} answers) of {base.max_new_tokens} tokens (none ends early) at width {base.hidden_size}; {base.epochs} passes in "
        f"minibatches of {base.minibatch_rows}, KL to a reference, Muon, float32, the Game of 24's verifier; no bar, log file or checkpoint. "
        f"{threads} thread{'s' if threads > 1 else ''}. Seeds {', '.join(map(str, seeds))} (weights, problems, sampling), {count} iterations "
        "each after one that warms up. Seconds: median (least to largest). The exponent is the slope, by least squares, of the logarithm "
        "of the seconds over the logarithm of the size, over all iterations; beside it how much the last doubling costs.",
        "",
        f"{', '.join(f'{name} {version}' for name, version in notes['environment'].items())}; load average at the end of the cells "
        f"{min(notes['loads']):.1f} to {max(notes['loads']):.1f}, the benchmark itself included.",
    ]
    for axis in axes:
        lines += ["", growth(axis, cells, base)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=2, help="measured at each point with each seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small and once, written nowhere")
    arguments = parser.parse_args()
    base, axes = (QUICK_BASE, QUICK_AXES) if arguments.quick else (BASE, AXES)
    if arguments.quick:
        arguments.iterations, arguments.seeds, arguments.threads = 1, [0], 1
    torch.set_num_threads(arguments.threads)
    shapes = dict.fromkeys(shape for axis in axes for shape in axis.shapes(base).values())
    found: dict[tuple[Shape, int], dict[str, Any]] = {}
    for seed in arguments.seeds:  # the outer loop: what is interrupted has all points with fewer seeds
        for shape in shapes:
            name = f"rollouts{shape.rows}-tokens{shape.max_new_tokens}-width{shape.hidden_size}-threads{arguments.threads}-seed{seed}"
            path: Path = RESULTS / f"{name}.json"
            cell = json.loads(path.read_text()) if path.exists() and not arguments.quick else {"rows": []}
            if len(cell["rows"]) >= arguments.iterations:
                found[shape, seed] = cell
                continue
            rows = measure(shape, seed, arguments.iterations)
            found[shape, seed] = {"rows": rows, "load": os.getloadavg()[0], "shape": asdict(shape), "environment": environment()}
            if not arguments.quick:
                write_json(path, found[shape, seed])
                print(f"{name} done", file=sys.stderr, flush=True)
    cells = {key: cell["rows"] for key, cell in found.items()}
    notes = {"environment": next(iter(found.values()))["environment"], "loads": [cell["load"] for cell in found.values()]}
    text = report(axes, base, cells, arguments.threads, notes)
    print(text)
    if not arguments.quick:
        RESULTS.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
