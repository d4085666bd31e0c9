"""The table of ``benchmarks/rlsf.py`` from the cells that are there."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from chart import chart
from runs import course, environment, iteration_seconds, mean_and_spread, table

Cell = dict[str, Any]
LABELS = {
    "start": "supervised start",
    "continued": "+ supervised fine-tuning for the token arm's seconds",
    "boolean": "+ Boolean reward",
    "token": "+ token reward",
    "shuffled": "+ token reward shuffled",
}
WINDOW = 10
"""Iterations of a trailing mean."""
COMMON = {"success_rate", "mean_length", "end_rate", "error_token_fraction", "no_evidence_count"}
"""Measures that have a column or no place in the list of a task's own."""


class About(Protocol):
    """What the report reads of a source."""

    task: str
    data: str
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """For files and tables."""

    @property
    def missing(self) -> bool:
        """Whether its files are not there."""


def report(results: Path, sources: Sequence[About], iterations: int) -> str:
    """The whole page.

    Args:
        results: Folder of the cells.
        sources: What the benchmark runs.
        iterations: A cell of fewer is marked as too short.
    """
    cells = _read(results)
    reported = [cell for cell in cells if "trial" not in cell or "test" in cell]
    trials = [cell for cell in cells if "trial" in cell and "test" not in cell]
    some = cells[0]["environment"] if cells else environment()
    parts = [
        "# RLSF on its five tasks",
        "",
        "`python benchmarks/rlsf.py`. Models from scratch, one thread each, two runs side by side. All arms of a task, data set and seed",
        "start from one supervised policy and get the same number of answers. Held-out problems, sampled at temperature 1; mean over seeds,",
        "lowest and highest in brackets. The estimator of each arm of reinforcement learning (GAE with a critic, or RLOO) is the better of the",
        "same trials on seed 100; the token form (`until_error`: failing is paid on the first wrong token; for molecules the less, the more of what",
        "was asked for is there) was fixed before. *Shuffled*: the same, but failing is paid on a random token of the answer: what the token arm",
        "is above it is what the place is worth. What was tried, and why: [docs/training.md](../../docs/training.md). Rollouts to Boolean's end:",
        f"share of the answers after which the token arm's training success (mean of {WINDOW} iterations) is what the Boolean arm's is at its end;",
        "only where it gets there. SFT continued: on the start's kind of demonstrations, of which many only show the form (`solution_share`,",
        "`operators_kept`).",
        "",
        "## Token against Boolean reward",
        "",
        _summary(reported, sources),
        "",
        _verdict(reported, sources),
        "",
    ]
    for source in sources:
        mine = [cell for cell in reported if (cell["task"], cell["data"]) == (source.task, source.data)]
        parts += [f"## {source.task}, {source.data}", ""]
        if not mine:
            why = "its files are not there" if source.missing else "no cell is run yet"
            parts += [f"Not run: {why}.", ""]
            continue
        parts += [_details(mine, source, iterations), "", *_curves(mine, source, results), ""]
    parts += ["## Trials", "", _trials(trials), "", f"Versions: {', '.join(f'{k} {v}' for k, v in some.items())}.", ""]
    return "\n".join(parts)


def _read(results: Path) -> list[Cell]:
    return [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]


def pictures(results: Path, sources: Sequence[About]) -> dict[str, str]:
    """Learning curves of each source that has any, as SVG: training success, mean over seeds of a trailing mean.

    Args:
        results: Folder of the cells.
        sources: What the benchmark runs.
    """
    cells = _read(results)
    reported = [cell for cell in cells if "test" in cell]
    drawn = {}
    for source in sources:
        curves = {arm: _trailing(list(_of(reported, source, arm).values())) for arm in ("boolean", "token", "shuffled")}
        if any(curves.values()):
            title = f"{source.task}, {source.data}: training success, mean over {WINDOW} iterations"
            drawn[source.name] = chart(title, "iteration", curves)
    return drawn


def _trailing(cells: Sequence[Cell]) -> list[tuple[float, float]]:
    runs = [cell["curves"]["train/success_rate"] for cell in cells]
    ends = range(WINDOW, min(map(len, runs), default=0) + 1)
    return [(float(end), statistics.mean(statistics.mean(run[end - WINDOW : end]) for run in runs)) for end in ends]


def _of(cells: Sequence[Cell], source: About, arm: str) -> dict[int, Cell]:
    return {c["seed"]: c for c in cells if (c["task"], c["data"], c["arm"]) == (source.task, source.data, arm)}


def _summary(cells: Sequence[Cell], sources: Sequence[About]) -> str:
    rows = []
    for source in sources:
        by_arm = {arm: _of(cells, source, arm) for arm in LABELS}
        both = sorted(by_arm["token"].keys() & by_arm["boolean"].keys())
        shares = [_rollouts_to_reach(by_arm["token"][seed], by_arm["boolean"][seed]) for seed in both]
        reached = [share for share in shares if share is not None]
        rows.append(
            (
                source.name,
                *(mean_and_spread([c["test"]["pass@1"] for c in by_arm[arm].values()]) for arm in LABELS),
                *(_points_above(by_arm["token"], by_arm[arm]) for arm in ("boolean", "shuffled")),
                f"{mean_and_spread(reached, 2)} ({len(reached)} of {len(shares)} seeds)" if reached else "",
            )
        )
    header = (
        *("task, data", "start", "SFT continued", "Boolean", "token", "shuffled"),
        *("token less Boolean, points", "token less shuffled, points", "rollouts to Boolean's end"),
    )
    return table(header, rows)


def _points_above(ours: dict[int, Cell], theirs: dict[int, Cell]) -> str:
    """How many points of pass@1 one arm is above another, over the seeds of both."""
    both = ours.keys() & theirs.keys()
    points = [100 * (ours[seed]["test"]["pass@1"] - theirs[seed]["test"]["pass@1"]) for seed in both]
    return mean_and_spread(points, 1) if points else ""


def _verdict(cells: Sequence[Cell], sources: Sequence[About]) -> str:
    """In words, for the sources with three seeds or more of both arms."""
    beyond, worse, open_, halved = [], [], [], []
    for source in sources:
        token, boolean = _of(cells, source, "token"), _of(cells, source, "boolean")
        both = sorted(token.keys() & boolean.keys())
        if len(both) < 3:
            continue
        ours, theirs = ([arm[seed]["test"]["pass@1"] for seed in both] for arm in (token, boolean))
        (beyond if min(ours) > max(theirs) else worse if max(ours) < min(theirs) else open_).append(source.name)
        shares = [_rollouts_to_reach(token[seed], boolean[seed]) for seed in both]
        if all(share is not None and share <= 0.5 for share in shares):
            halved.append(source.name)
    if not beyond + worse + open_:
        return "No source has three seeds of both arms yet."
    return (
        f"Every seed of the token arm above every seed of the Boolean one: {_listed(beyond)}; below: {_listed(worse)}; ranges that "
        f"overlap: {_listed(open_)}. At most half of the rollouts in every seed: {_listed(halved)}."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _details(cells: Sequence[Cell], source: About, iterations: int) -> str:
    own = sorted({name for c in cells for name in c["test"] if name not in COMMON and not name.startswith(("pass@", "attempt"))})
    largest = max(
        (int(name[5:]) for c in cells for name in c["test"] if name[5:].isdigit() and name.startswith("pass@")), default=1
    )
    rows = []
    for arm, label in LABELS.items():
        mine = list(_of(cells, source, arm).values())
        missing = [str(seed) for seed in source.seeds if seed not in {c["seed"] for c in mine}]
        if not mine:
            rows.append((label, "not run", *[""] * (9 + len(own))))
            continue
        short = arm not in ("start", "continued") and min(c["iterations"] for c in mine) < iterations
        ran = "/".join(sorted({str(c.get("iterations", "")) for c in mine}))
        rows.append(
            (
                label,
                ", ".join(str(c["seed"]) for c in mine) + (f" (not run: {', '.join(missing)})" if missing else ""),
                ran + (" (too short)" if short else ""),
                "/".join(sorted({c["trial"] for c in mine if "trial" in c})),
                mean_and_spread([sum(iteration_seconds(c["curves"])) / 60 for c in mine], 1),
                mean_and_spread([c["test"]["pass@1"] for c in mine]),
                _mean(mine, f"pass@{largest}") if largest > 1 else "",
                "" if arm in ("start", "continued") else mean_and_spread([last(c, "train/kl") for c in mine], 1),
                _mean(mine, "mean_length", 1),
                _mean(mine, "end_rate"),
                _mean(mine, "no_evidence_count", 0),
                *(_mean(mine, name) for name in own),
            )
        )
    header = (
        "arm",
        "seeds",
        "iterations",
        "estimator",
        "minutes",
        "pass@1",
        f"pass@{largest}",
        "KL, nats",
        "mean length",
        "end rate",
        "no evidence",
    )
    return table((*header, *own), rows)


def _mean(cells: Sequence[Cell], name: str, digits: int = 3) -> str:
    values = [c["test"][name] for c in cells if name in c["test"]]
    return mean_and_spread(values, digits) if values else ""


def _curves(cells: Sequence[Cell], source: About, results: Path) -> list[str]:
    learned = [cell for cell in cells if cell["arm"] not in ("start", "continued") and cell["curves"].get("train/success_rate")]
    lines = [f"- {cell['arm']}, seed {cell['seed']}: {course(cell['curves'])}" for cell in learned]
    if not lines:
        return []
    picture = f"![Training success of the arms over the iterations]({results.name}/{source.name}.svg)"
    return [picture, "", "Training success (KL in nats), means over ten iterations:", "", *lines]


def _trials(cells: Sequence[Cell]) -> str:
    rows = [
        (f"{c['task']}, {c['data']}", c["arm"], c["trial"], str(c["iterations"]), f"{last(c, 'train/success_rate'):.3f}")
        for c in sorted(cells, key=lambda c: (c["task"], c["arm"], c["trial"]))
    ]
    return table(("task, data", "arm", "estimator", "iterations", f"success on training problems, last {WINDOW}"), rows)


def last(cell: Cell, name: str) -> float:
    """Mean of a curve's last iterations."""
    return statistics.mean(cell["curves"][name][-WINDOW:])


def _rollouts_to_reach(cell: Cell, other: Cell) -> float | None:
    """Share of a run after which its training success is that of another run's end; None if never."""
    wanted = last(other, "train/success_rate")
    values = cell["curves"]["train/success_rate"]
    for i in range(WINDOW, len(values) + 1):
        if statistics.mean(values[i - WINDOW : i]) >= wanted:
            return i / len(other["curves"]["train/success_rate"])
    return None
