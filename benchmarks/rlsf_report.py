"""The table of ``benchmarks/rlsf.py`` from the cells that are there."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from chart import chart
from runs import course, environment, held_out, iteration_seconds, mean_and_spread, table

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
START_RANGE = (0.03, 0.30)
"""Share of the held-out problems that a generator's supervised start is to solve: room to learn, and something to learn from."""
ENOUGH_SEEDS = 3
"""Seeds of both arms from which on it is said whether one is above the other beyond the spread."""
COMMON = {"success_rate", "mean_length", "end_rate", "error_token_fraction", "no_evidence_count"}
"""Measures that have a column or no place in the list of a task's own."""


class About(Protocol):
    """What the report reads of a source."""

    task: str
    data: str
    files: str | None
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """For files and tables."""

    @property
    def missing(self) -> bool:
        """Whether its files are not there."""


def report(
    results: Path,
    sources: Sequence[About],
    iterations: int,
    is_current: Callable[[Cell], bool],
    controls: Mapping[str, str],
) -> str:
    """The whole page.

    Args:
        results: Folder of the cells.
        sources: What the benchmark runs.
        iterations: A cell of fewer is marked as too short.
        is_current: Whether a cell was run with the recipes of now; others are marked.
        controls: What each control asks.
    """
    cells = [{**cell, "older": not is_current(cell)} for cell in _read(results)]
    reported = [cell for cell in cells if "trial" not in cell or "test" in cell]
    trials = [cell for cell in cells if "trial" in cell and "test" not in cell]
    some = cells[0]["environment"] if cells else environment()
    parts = [
        "# RLSF on its five tasks",
        "",
        "`python benchmarks/rlsf.py`. Models from scratch, one thread each, two runs side by side. All arms of a task, data set and seed",
        "start from one supervised policy and get the same number of answers. Held-out problems, sampled at temperature 1; mean over seeds,",
        "lowest and highest in brackets. The estimator of each arm of reinforcement learning (GAE with a critic, or RLOO) is the better of the",
        "same trials on seed 100; for real files it is taken from the trials of that task's generator. The trials vary the estimator only: the",
        "token form (`until_error`: failing is paid on the first wrong token; for molecules the less, the more of what was asked for is there), its",
        "discount and its score weight were tried on seed 100 beforehand and then fixed, without a counterpart for the Boolean arm",
        "([docs/training.md](../../docs/training.md)). *Shuffled*: the token reward, but failing is paid on a random token of the answer: what the",
        "token arm is above it is what the place is worth. Rollouts to Boolean's end: share of the answers after which the token arm's training",
        f"success (mean of {WINDOW} iterations) is what the Boolean arm's is at its end, only where it gets there; behind it the share after which",
        "the Boolean arm was there first itself, as the curves are noisy. SFT continued: on the start's kind of demonstrations, of which many only",
        "show the form (`solution_share`, `operators_kept`), for about the seconds of the token arm (minutes below): few iterations by design.",
        "",
        "The shuffled token is drawn evenly from the answer; faults stand early, so it lies later on average, and more tokens count in its loss.",
        "Sources and starts were set on seed 100 and on first runs of seed 1, for all arms alike. For molecules the token form itself (its score",
        "weight) was changed after seed 1 of an easier start had been seen, where it lost: so that source reports seeds that were run once only.",
        "",
        f"Marks: *too short*: an arm of fewer than {iterations} iterations; *older recipe*: run with recipes or flags that have changed since;",
        "*one seed*: real files, which are run with one seed. Length in tokens; end rate: share of the answers that end by themselves.",
        "",
        "SPoC is cut to programs of at most 400 characters of pseudo-code and code, which leaves out 2,140 of its 3,035 programs, and is trained",
        "from its validation file, as the training file is not there. Half of its start's lessons are excerpts of training programs, long ones",
        "too, and the names of one letter are drawn anew each time.",
        "",
        "## Token against Boolean reward",
        "",
        _summary(reported, sources, iterations),
        "",
        "Mean length and end rate: of the five arms, in the order of their columns.",
        "",
        *_verdict(reported, sources, iterations),
        "",
        "## Controls",
        "",
        *_controls(reported, sources, controls),
        "",
        "## The starts",
        "",
        *_starts(reported, sources),
        "",
        "## Wall time",
        "",
        _wall_time(cells),
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


def _summary(cells: Sequence[Cell], sources: Sequence[About], iterations: int) -> str:
    rows = []
    for source in sources:
        by_arm = {arm: _of(cells, source, arm) for arm in LABELS}
        both = sorted(by_arm["token"].keys() & by_arm["boolean"].keys())
        reached, own = _shares(by_arm["token"], by_arm["boolean"])
        seeds = ["one seed"] if len(source.seeds) == 1 else [f"{len(both)} of {len(source.seeds)} seeds"] if both else []
        rows.append(
            (
                source.name,
                *(mean_and_spread([c["test"]["pass@1"] for c in by_arm[arm].values()]) for arm in LABELS),
                *(_points_above(by_arm["token"], by_arm[arm]) for arm in ("boolean", "shuffled")),
                f"{mean_and_spread(reached, 2)} ({len(reached)} of {len(own)} seeds); {mean_and_spread(own, 2)}"
                if reached
                else "",
                *(_side_by_side(by_arm, name, digits) for name, digits in (("mean_length", 1), ("end_rate", 3))),
                "; ".join((*seeds, *_marks(by_arm, iterations))),
            )
        )
    header = (
        *("task, data", "start", "SFT continued", "Boolean", "token", "shuffled"),
        *("token less Boolean, points", "token less shuffled, points", "rollouts to Boolean's end; its own"),
        *("mean length", "end rate", "marks"),
    )
    return table(header, rows)


def _side_by_side(by_arm: Mapping[str, Mapping[int, Cell]], name: str, digits: int) -> str:
    """The mean of a held-out measure for each arm."""
    values = [[c["test"][name] for c in mine.values() if name in c["test"]] for mine in by_arm.values()]
    shown = [f"{statistics.mean(each):.{digits}f}" if each else "-" for each in values]
    return " / ".join(shown) if any(values) else ""


def _marks(by_arm: Mapping[str, Mapping[int, Cell]], iterations: int) -> list[str]:
    """What must be known before some arms are compared."""
    cells = [c for mine in by_arm.values() for c in mine.values()]
    found = {"too short": [c for c in cells if _too_short(c, iterations)], "older recipe": [c for c in cells if c["older"]]}
    return [f"{mark}: {', '.join(dict.fromkeys(c['arm'] for c in marked))}" for mark, marked in found.items() if marked]


def _too_short(cell: Cell, iterations: int) -> bool:
    return cell["arm"] not in ("start", "continued") and cell["iterations"] < iterations


def _points_above(ours: dict[int, Cell], theirs: dict[int, Cell]) -> str:
    """How many points of pass@1 one arm is above another, over the seeds of both."""
    both = ours.keys() & theirs.keys()
    points = [100 * (ours[seed]["test"]["pass@1"] - theirs[seed]["test"]["pass@1"]) for seed in both]
    return mean_and_spread(points, 1) if points else ""


def _verdict(cells: Sequence[Cell], sources: Sequence[About], iterations: int) -> list[str]:
    """In words: each source that has both arms, then those whose seeds are enough to judge by."""
    lines = []
    judged: dict[str, list[str]] = {"above": [], "below": [], "overlapping": [], "paired": [], "halved": []}
    for source in sources:
        token, boolean = _of(cells, source, "token"), _of(cells, source, "boolean")
        both = sorted(token.keys() & boolean.keys())
        if not both:
            continue
        marks = _marks({"token": token, "boolean": boolean}, iterations)
        name = source.name + (f" ({'; '.join(marks)})" if marks else "")
        ours, theirs = ([arm[seed]["test"]["pass@1"] for seed in both] for arm in (token, boolean))
        above = sum(our > their for our, their in zip(ours, theirs, strict=True))
        if len(both) == 1:
            said = f"one seed: no spread; token {_compared(token[both[0]], boolean[both[0]])}"
        elif len(both) < ENOUGH_SEEDS:
            said = f"{len(both)} seeds: token above Boolean in {above} of them; beyond the spread is judged from {ENOUGH_SEEDS} seeds on"
        else:
            which = "above" if min(ours) > max(theirs) else "below" if max(ours) < min(theirs) else "overlapping"
            judged[which].append(name)
            ranges = (
                "the ranges of both arms overlap" if which == "overlapping" else f"every token seed {which} every Boolean one"
            )
            if above == len(both):
                judged["paired"].append(name)
            said = f"{len(both)} seeds: {ranges}; from the same start token is above in {above} of them"
        reached, own = _shares(token, boolean)
        half = sum(share <= 0.5 for share in reached)
        if half == len(both) >= ENOUGH_SEEDS:
            judged["halved"].append(name)
        lines.append(
            f"- {name}: {said}. Boolean's end reached with at most half of the rollouts: {half} of {len(both)}"
            + (f"; Boolean itself first came there with {mean_and_spread(own, 2)} of them." if own else ".")
        )
    if not any(judged.values()):
        return [*lines, *([""] if lines else []), "No source has three seeds of both arms yet."]
    return [
        *lines,
        "",
        f"Every seed of the token arm above every seed of the Boolean one: {_listed(judged['above'])}; below: {_listed(judged['below'])}; "
        f"ranges that overlap: {_listed(judged['overlapping'])}. Token above Boolean from the same start in every seed: "
        f"{_listed(judged['paired'])}. At most half of the rollouts in every seed: {_listed(judged['halved'])}.",
    ]


def _controls(cells: Sequence[Cell], sources: Sequence[About], controls: Mapping[str, str]) -> list[str]:
    """Arms with one setting changed, beside what they vary and the other arm, from the same start."""
    rows = []
    for name in controls:
        for source in sources:
            for seed, cell in _of(cells, source, name).items():
                others = [_of(cells, source, arm).get(seed) for arm in ("start", "boolean", "token")]
                rows.append(
                    (
                        f"`{name}`",
                        source.name,
                        str(seed),
                        *(f"{other['test']['pass@1']:.3f}" if other else "not run" for other in others),
                        f"{cell['test']['pass@1']:.3f} [{cell['test']['pass@1_low']:.3f}, {cell['test']['pass@1_high']:.3f}]",
                        f"{last(cell, 'train/kl'):.1f}",
                        f"{cell['test']['mean_length']:.1f}",
                        f"{cell['test']['end_rate']:.3f}",
                        "older recipe" if cell["older"] else "",
                    )
                )
    header = (
        "control",
        "task, data",
        "seed",
        "start",
        "Boolean",
        "token",
        "control",
        "KL, nats",
        "mean length",
        "end rate",
        "marks",
    )
    return [
        "One setting changed, one seed (95 % interval of the problems in brackets). `python benchmarks/rlsf.py --arms NAME` runs one:",
        "",
        *(f"- `{name}`: {asks}" for name, asks in controls.items()),
        "",
        table(header, rows) if rows else "None is run yet.",
    ]


def _compared(ours: Cell, theirs: Cell) -> str:
    """One run against another, where the problems are all there is to tell chance from."""
    our, their = ours["test"], theirs["test"]
    points = 100 * (our["pass@1"] - their["pass@1"])
    apart = our["pass@1_low"] > their["pass@1_high"] or our["pass@1_high"] < their["pass@1_low"]
    shown = " and ".join(f"[{test['pass@1_low']:.3f}, {test['pass@1_high']:.3f}]" for test in (our, their))
    overlap = "do not overlap" if apart else "overlap"
    return f"{abs(points):.1f} points {'below' if points < 0 else 'above'} Boolean, 95 % intervals of the problems {overlap} ({shown})"


def _starts(cells: Sequence[Cell], sources: Sequence[About]) -> list[str]:
    """What each generator's start solves, and whether that is what it should."""
    low, high = START_RANGE
    lines = [f"Held-out pass@1 of the starts on generated problems, which should be {100 * low:.0f} to {100 * high:.0f} %:", ""]
    for source in sources:
        if source.files is None:
            starts = sorted(_of(cells, source, "start").items())
            solved = [f"{_in_range(start['test']['pass@1'])} (seed {seed})" for seed, start in starts]
            lines.append(f"- {source.name}: {', '.join(solved) or 'not run'}")
    return lines


def _in_range(share: float) -> str:
    low, high = START_RANGE
    return f"{100 * share:.2f} %" + (", below the range" if share < low else ", above the range" if share > high else "")


def _wall_time(cells: Sequence[Cell]) -> str:
    """Hours of training, over all pieces of runs that were interrupted as far as they are known."""
    seconds = [max(cell["wall_seconds"], sum(iteration_seconds(cell["curves"]))) for cell in cells]
    resumed = sum(cell["resumed"] for cell in cells)
    return (
        f"Training took {sum(seconds) / 3600:.1f} hours of one thread, over {len(cells)} cells and trials. Of those that went on after an "
        f"interruption ({resumed}) only the last piece's wall time was kept: the seconds of all their iterations count where they are more. Not "
        "counted: evaluations, the starts of the trials, and runs that were replaced."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _details(cells: Sequence[Cell], source: About, iterations: int) -> str:
    own = sorted({name for c in cells for name in c["test"] if name not in COMMON and not name.startswith(("pass@", "attempt"))})
    largest = max(
        (int(name[5:]) for c in cells for name in c["test"] if name[5:].isdigit() and name.startswith("pass@")), default=1
    )
    several = [f"pass@{largest}"] if largest > 1 else []
    rows = []
    for arm, label in LABELS.items():
        mine = list(_of(cells, source, arm).values())
        missing = [str(seed) for seed in source.seeds if seed not in {c["seed"] for c in mine}]
        if not mine:
            rows.append((label, "not run", *[""] * (8 + len(several) + len(own))))
            continue
        older = [str(c["seed"]) for c in mine if c["older"]]
        ran = "/".join(map(str, sorted({c["iterations"] for c in mine if "iterations" in c})))
        rows.append(
            (
                label,
                ", ".join(str(c["seed"]) for c in mine)
                + (f" (not run: {', '.join(missing)})" if missing else "")
                + (f" (older recipe: {', '.join(older)})" if older else ""),
                ran + (" (too short)" if any(_too_short(c, iterations) for c in mine) else ""),
                "/".join(sorted({c["trial"] for c in mine if "trial" in c})),
                mean_and_spread([sum(iteration_seconds(c["curves"])) / 60 for c in mine], 1),
                mean_and_spread([c["test"]["pass@1"] for c in mine]),
                *(held_out(mine, name) for name in several),
                "" if arm in ("start", "continued") else mean_and_spread([last(c, "train/kl") for c in mine], 1),
                held_out(mine, "mean_length", 1),
                held_out(mine, "end_rate"),
                held_out(mine, "no_evidence_count", 0),
                *(held_out(mine, name) for name in own),
            )
        )
    header = (
        "arm",
        "seeds",
        "iterations",
        "estimator",
        "minutes",
        "pass@1",
        *several,
        "KL, nats",
        "mean length",
        "end rate",
        "no evidence",
    )
    return table((*header, *own), rows)


def _curves(cells: Sequence[Cell], source: About, results: Path) -> list[str]:
    learned = [cell for cell in cells if cell["arm"] not in ("start", "continued") and cell["curves"].get("train/success_rate")]
    lines = [f"- {cell['arm']}, seed {cell['seed']}: {course(cell['curves'])}" for cell in learned]
    if not lines:
        return []
    picture = f"![Training success of the arms over the iterations]({results.name}/{source.name}.svg)"
    return [picture, "", "Training success (KL in nats), means over ten iterations:", "", *lines]


def _trials(cells: Sequence[Cell]) -> str:
    rows = [
        (
            f"{c['task']}, {c['data']}",
            c["arm"],
            c["trial"] + (" (older recipe)" if c["older"] else ""),
            str(c["iterations"]),
            f"{last(c, 'train/success_rate'):.3f}",
            *(
                f"{last(c, name):.{digits}f}" if name in c["curves"] else ""
                for name, digits in (("train/mean_length", 1), ("train/end_rate", 3))
            ),
        )
        for c in sorted(cells, key=lambda c: (c["task"], c["arm"], c["trial"]))
    ]
    header = (
        "task, data",
        "arm",
        "estimator",
        "iterations",
        f"success on training problems, last {WINDOW}",
        "mean length then",
        "end rate then",
    )
    return table(header, rows)


def last(cell: Cell, name: str) -> float:
    """Mean of a curve's last iterations."""
    return statistics.mean(cell["curves"][name][-WINDOW:])


def _shares(token: Mapping[int, Cell], boolean: Mapping[int, Cell]) -> tuple[list[float], list[float]]:
    """Shares of the rollouts after which the token arm is where the Boolean one ends, and after which that one first was there itself."""
    both = sorted(token.keys() & boolean.keys())
    reached = [share for seed in both if (share := _rollouts_to_reach(token[seed], boolean[seed])) is not None]
    own = [share for seed in both if (share := _rollouts_to_reach(boolean[seed], boolean[seed])) is not None]
    return reached, own


def _rollouts_to_reach(cell: Cell, other: Cell) -> float | None:
    """Share of a run after which its training success is that of another run's end; None if never."""
    wanted = last(other, "train/success_rate")
    values = cell["curves"]["train/success_rate"]
    for i in range(WINDOW, len(values) + 1):
        if statistics.mean(values[i - WINDOW : i]) >= wanted:
            return i / len(other["curves"]["train/success_rate"])
    return None
