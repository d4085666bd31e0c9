"""One iteration of reinforcement learning: ours with a critic, TRL's GRPOTrainer without one, and the bare work of both.

    python benchmarks/iteration.py                  # about 11 minutes on two idle cores; writes benchmarks/results/iteration.md
    python benchmarks/iteration.py --variants       # autocast and compilation against the recipe only, 5 minutes
    python benchmarks/iteration.py --report         # measures nothing: writes the tables from the cells that are there
    python benchmarks/iteration.py --quick          # a minute at most; small, prints only, TRL only where it is installed

An iteration is 32 prompts x 8 answers of 30 tokens, none of which ends early, and 2 passes over them in minibatches of 64, with a
KL to a reference. All contestants start from the same random weights. Each is a process that does one iteration when it is told
to; they take turns, in an order that turns, so that what else the machine does hits all alike, and a ratio is taken within a
repetition. TRL runs in a virtual environment of its own (``runs/peers/trl``), which is made on the first run and kept.

Each finished cell (a seed with a number of threads) is a file under benchmarks/results/iteration/ and is not run again: delete the
folder to measure anew. Where other programs use the cores, set OMP_WAIT_POLICY=PASSIVE and look at the processor seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from peers import environments
from peers.bare import DECODE, FORWARD, LEARN, PRODUCTS, bound
from peers.ours import ARMS, VARIANTS, Shape, save_start
from peers.phases import OUTSIDE, WORK
from peers.turns import Contestant
from runs import ROOT, environment, table, write_json

RESULTS = ROOT / "benchmarks" / "results" / "iteration"
REQUIREMENTS = ["trl>=1.16"]
TRL, BARE = "TRL, GRPOTrainer (no critic), AdamW", "bare"
RECIPE, ADAMW = list(ARMS)[:2]
DEFAULTS = next(name for name, arm in ARMS.items() if arm.defaults)
QUICK = Shape(prompts=2, samples=2, max_new_tokens=4, minibatch_rows=2, hidden_size=24, layers=1)
TARGET_BOUND, TARGET_OUTSIDE = 1.25, 0.05

Turn = dict[str, Any]
Cell = dict[str, Any]


class Field:
    """The contestants of a run, each a process that starts when it is first needed.

    Args:
        shape: Work of an iteration.
        folder: Where models to start from and logs are kept.
        trl: The interpreter of TRL's environment, None if there is none.
        alone: All of ours share one process, one after the other: starts sooner, for a test.
    """

    def __init__(self, shape: Shape, folder: Path, trl: Path | None, alone: bool) -> None:
        self.shape = shape
        self.folder = folder
        self.trl = trl
        self.alone = alone
        self._processes: dict[str, Contestant] = {}
        self._training: dict[str, int] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Field:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def train(self, names: Iterable[str], seed: int, threads: int, repetitions: int) -> None:
        """Let contestants train from the weights of a seed, and do an iteration to warm up; those that do already go on."""
        start = self.folder / f"start-seed{seed}"
        if not (start / "prompts.json").exists():
            save_start(start, self.shape, seed)
        fresh = [name for name in names if name != BARE and self._training.get(name) != seed]
        self.stop([name for name in fresh if name in self._training])
        for name in fresh:
            order: dict[str, Any] = {"threads": threads, "seed": seed, "start": str(start)}
            if name == TRL:
                order |= {**asdict(self.shape), "kl": 0.05, "learning_rate": 3e-4}
            else:
                # The first is to warm up, then come the repetitions, then one with a validation.
                order |= {"arm": name, "shape": asdict(self.shape), "validate_after": repetitions + 2}
            self._process(name).begin("train", **order)
            self._training[name] = seed
        for name in fresh:
            self._process(name).answer()
        for name in fresh:
            self.turn(name)
        for name in names:
            if name != BARE:
                self._process(name).ask("threads", threads=threads)

    def turn(self, name: str) -> Turn:
        """One iteration of a contestant; seconds of its process and of those that this started are counted."""
        if name == BARE:
            return self._process(RECIPE).ask("bare")
        process = self._process(name)
        before = _processor_seconds(process)
        figures = process.ask("iteration")
        return {**figures, "processor": _processor_seconds(process) - before}

    def stop(self, names: Iterable[str]) -> None:
        """Let contestants end their training; their processes stay."""
        for name in names:
            if name != BARE and name in self._training:
                self._process(name).ask("stop")
                del self._training[name]

    def _process(self, name: str) -> Contestant:
        key = TRL if name == TRL else "ours" if self.alone else name
        if key not in self._processes:
            python, module = (str(self.trl), "peers.trl_grpo") if name == TRL else (sys.executable, "peers.ours")
            log = self.folder / f"{len(self._processes)}.log"
            self._processes[key] = self._stack.enter_context(Contestant(python, module, log))
        return self._processes[key]


def _processor_seconds(contestant: Contestant) -> float:
    process = psutil.Process(contestant.process.pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def measure(field: Field, names: Sequence[str], seed: int, threads: int, repetitions: int) -> Cell:
    """The turns of every contestant, and one iteration with a validation of the one that has what train.py turns on."""
    groups = [list(names)]
    if field.alone:
        groups = [[RECIPE, BARE], *([name] for name in names if name not in (RECIPE, BARE))]
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    validated: Turn | None = None
    for group in groups:
        field.train(group, seed, threads, repetitions)
        if BARE in group:
            field.turn(BARE)  # warms up
        for repetition in range(repetitions):
            first = repetition % len(group)
            for name in group[first:] + group[:first]:
                turns[name].append(field.turn(name))
        if DEFAULTS in group:
            validated = field.turn(DEFAULTS)
        if field.alone:
            field.stop(group)
    return {"turns": turns, "validated": validated, "load": os.getloadavg()[0], "environment": environment()}


# ---------------------------------------------------------------- tables


def columns(cells: Sequence[Cell], name: str, key: str) -> list[float]:
    """A figure of every repetition of a contestant, over all seeds."""
    return [turn[key] for cell in cells for turn in cell["turns"].get(name, [])]


def bounds(cells: Sequence[Cell], key: str, networks: int = 1, decode: str = DECODE) -> list[float]:
    """The bound in every repetition."""
    return [bound(turn[key], networks, decode) for cell in cells for turn in cell["turns"][BARE]]


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> str:
    """Median and range of the quotients, repetition by repetition; a dash where there is nothing to divide by."""
    if not denominators:
        return "-"
    quotients = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return f"{median(quotients):.2f} ({min(quotients):.2f} to {max(quotients):.2f})"


def contest(cells: Sequence[Cell]) -> str:
    """Seconds of every contestant, over the bound and over TRL."""
    trl = {key: columns(cells, TRL, key) for key in ("seconds", "processor")}
    rows = []
    for name in (name for name in cells[0]["turns"] if name != BARE and name not in VARIANTS):
        wall, processor = columns(cells, name, "seconds"), columns(cells, name, "processor")
        networks = ARMS[name].networks if name in ARMS else 1
        rows.append(
            [
                name,
                f"{median(wall):.2f} ({min(wall):.2f})",
                f"{median(processor):.2f}",
                f"{cells[0]['turns'][name][0]['steps']}",
                ratio(wall, bounds(cells, "seconds")),
                ratio(wall, bounds(cells, "seconds", networks)) if networks > 1 else "the same",
                ratio(wall, trl["seconds"]),
                ratio(processor, bounds(cells, "processor")),
                ratio(processor, trl["processor"]),
            ]
        )
    header = ["", "seconds, median (least)", "processor seconds", "optimizer steps", "/ bound", "/ bound with a critic's passes"]
    return table([*header, "/ TRL", "processor / bound", "processor / TRL"], rows)


def variants(cells: Sequence[Cell]) -> list[str]:
    """What autocast and compilation do to the recipe's seconds."""
    own = {key: columns(cells, RECIPE, key) for key in ("seconds", "processor")}
    rows, told = [], []
    for name in (name for name in (RECIPE, *VARIANTS) if name in cells[0]["turns"]):
        wall, processor = columns(cells, name, "seconds"), columns(cells, name, "processor")
        row = ["the recipe" if name == RECIPE else name, f"{median(wall):.2f} ({min(wall):.2f})", f"{median(processor):.2f}"]
        rows.append([*row, ratio(wall, own["seconds"]), ratio(processor, own["processor"])])
        if name != RECIPE:
            quotients = [a / b for a, b in zip(processor, own["processor"], strict=True)]
            found = "faster" if max(quotients) < 1 else "no clear difference" if median(quotients) < 1 else "not faster"
            told.append(f"{name}: {found}, {median(quotients):.2f} of the recipe's processor seconds.")
    return [
        table(["", "seconds, median (least)", "processor seconds", "/ recipe", "processor / recipe"], rows),
        "",
        " ".join(told),
    ]


def parts(cells: Sequence[Cell]) -> str:
    """What the bound is the sum of."""

    def row(name: str, wall: Sequence[float], processor: Sequence[float]) -> list[str]:
        return [name, f"{median(wall):.2f} ({min(wall):.2f})", f"{median(processor):.2f}"]

    def part(name: str) -> list[list[float]]:
        return [[turn[key][name] for cell in cells for turn in cell["turns"][BARE]] for key in ("seconds", "processor")]

    def whole(**options: Any) -> list[list[float]]:
        return [bounds(cells, key, **options) for key in ("seconds", "processor")]

    rows = [
        row("decode: a plain loop of the model with a static cache, a prompt read once", *part(DECODE)),
        row("decode's bare matrix products, the floor of `sampling.py`", *part(PRODUCTS)),
        row("forward: all answers, once, without gradients", *part(FORWARD)),
        row("forward and backward: all answers, in all passes", *part(LEARN)),
        row("**bound**: decode + 2 forward (policy, reference) + forward and backward", *whole()),
        row("bound with a critic's passes: forward and backward of two networks", *whole(networks=2)),
        row("bound with decode's bare products in the place of decode", *whole(decode=PRODUCTS)),
    ]
    return table(["bare work", "seconds, median (least)", "processor seconds"], rows)


def outside(cells: Sequence[Cell], judged: bool) -> list[str]:
    """Where the time goes of an iteration with what train.py turns on."""
    turns = [turn["causes"] for cell in cells for turn in cell["turns"][DEFAULTS]]
    whole = [sum(causes.values()) for causes in turns]
    shares = [sum(causes.get(name, 0.0) for name in OUTSIDE) / total for causes, total in zip(turns, whole, strict=True)]
    validated = [cell["validated"]["causes"] for cell in cells]
    rows = []
    for name in (*WORK, *OUTSIDE, "all that is outside"):
        summed = OUTSIDE if name == "all that is outside" else (name,)
        own, there = ([sum(causes.get(each, 0.0) for each in summed) for causes in those] for those in (turns, validated))
        share = median(100 * seconds / total for seconds, total in zip(own, whole, strict=True))
        rows.append([name, f"{1000 * median(own):.1f}", f"{share:.2f}", f"{1000 * median(there):.1f}"])
    header = ["", "ms, median", "% of the iteration, median", "ms in an iteration that ends with a validation"]
    found = f"{100 * median(shares):.1f} % ({100 * min(shares):.1f} to {100 * max(shares):.1f})"
    told = "met" if median(shares) < TARGET_OUTSIDE else "missed"
    judgement = f" Target: under {100 * TARGET_OUTSIDE:.0f} %, {told}." if judged else ""
    return [table(header, rows), "", f"Outside: {found} of the iteration.{judgement}"]


def targets(cells: Sequence[Cell]) -> list[str]:
    """Whether each row is where it should be, and why the recipe is not where it is not."""
    trl = columns(cells, TRL, "seconds")
    rows, behind = [], []
    for name in (name for name in ARMS if columns(cells, name, "seconds")):
        wall = columns(cells, name, "seconds")
        over_bound = median(a / b for a, b in zip(wall, bounds(cells, "seconds", ARMS[name].networks), strict=True))
        row = [name, f"{over_bound:.2f}: {'met' if over_bound <= TARGET_BOUND else 'missed'}"]
        if trl:
            quotients = [a / b for a, b in zip(wall, trl, strict=True)]
            below = "met" if max(quotients) < 1 else "met in the median" if median(quotients) < 1 else "missed"
            row.append(f"{median(quotients):.2f}: {below}")
            if below != "met" and ARMS[name].networks == 1 and ARMS[name].optimizer == "muon":
                behind.append(name)
        rows.append(row)
    header = [
        "target",
        f"at most {TARGET_BOUND} of the bound with its critic's passes",
        *(["clearly under TRL's time"] if trl else []),
    ]
    lines = [table(header, rows)]
    if trl:
        possible = median(a / b for a, b in zip(bounds(cells, "seconds"), trl, strict=True))
        told = f"Half of TRL's time where the bound allows it: it does not, the bound itself is {possible:.2f} of it."
        if behind and columns(cells, ADAMW, "seconds"):
            pairs = zip(columns(cells, RECIPE, "seconds"), columns(cells, ADAMW, "seconds"), strict=True)
            told += (
                f" The rows with a value head that are not clearly under TRL's time have Muon, which takes {median(a - b for a, b in pairs):.2f} "
                "s more than AdamW in those 8 steps (products of small matrices, which a second thread does not hasten); the second row has "
                "AdamW, as TRL has, and is under it."
            )
        if any(ARMS[name].networks > 1 for name, *_ in rows):
            told += (
                " A critic that is a network of its own doubles the passes, and TRL has none. Above the bound with its passes stand Muon's "
                "products for twice the matrices, and under LoRA two further products beside each of the model's, which the bound has not "
                "(neither was measured apart)."
            )
        lines += ["", told]
    return lines


def report(cells: dict[tuple[int, int], Cell], varied: dict[tuple[int, int], Cell], shape: Shape, judged: bool) -> str:
    """The tables of all cells, which are named by seed and threads, ``varied`` those of the variants; targets are for the full size."""
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    command = f"{policy and f'OMP_WAIT_POLICY={policy} '}python benchmarks/iteration.py{' --quick' * (not judged)}"
    some = next(iter(cells.values()))
    versions = ", ".join(f"{name} {version}" for name, version in some["environment"].items())
    peer = next((turn["versions"] for turn in some["turns"].get(TRL, [])), {})
    seeds, threads = (sorted({key[index] for key in cells}) for index in (0, 1))
    repetitions = len(columns([cell for key, cell in cells.items() if key[1] == threads[-1]], RECIPE, "seconds"))
    loads = [cell["load"] for cell in cells.values()]
    lines = [
        "# An iteration of reinforcement learning",
        "",
        f"    {command}",
        "",
        f"{shape.prompts} prompts x {shape.samples} answers of {shape.max_new_tokens} tokens (none ends early), {shape.epochs} passes in "
        f"minibatches of {shape.minibatch_rows}, KL to a reference, float32, gradients clipped at norm 1; the tiny Llama, "
        f"{shape.layers} layers of width {shape.hidden_size}, with the Game of 24's words. Ours has the Game of 24's verifier (in worker "
        "processes, which the processor seconds count) and a critic; TRL has a reward that takes no time, no critic, no vLLM, no "
        "gradient checkpointing, no bfloat16. Nobody draws a bar, logs to a file or saves, but for the row that says so.",
        "",
        f"Seeds {', '.join(map(str, seeds))} (weights, prompts, sampling), {repetitions} repetitions over them, and before that an iteration of "
        "each seed to warm up. Contestants take turns, in "
        "an order that turns; ratios are taken within a repetition: median (least to largest). The bound is the sum of the bare "
        "model's passes for the same work, measured in the process of the first row (see the table of its parts).",
        "",
        f"{versions}. TRL's environment: {', '.join(f'{name} {version}' for name, version in peer.items())}. "
        if peer
        else f"{versions}. TRL: **not measured**, its environment is not there; a run without --quick makes it.",
        f"Load average at the end of the cells {min(loads):.1f} to {max(loads):.1f}, the contestants themselves included.",
    ]
    for count in threads:
        chosen = [cells[key] for key in sorted(cells) if key[1] == count]
        lines += ["", f"## {count} thread{'s' if count > 1 else ''}", "", contest(chosen), ""]
        lines += [*([*targets(chosen), ""] if judged else []), parts(chosen)]
    last = [cells[key] for key in sorted(cells) if key[1] == threads[-1]]
    lines += [
        "",
        "## Outside sampling, verifying, evaluating and learning",
        "",
        f'The row "{DEFAULTS}", {threads[-1]} thread{"s" if threads[-1] > 1 else ""}: each moment between two starts of an iteration '
        "is charged to one cause. Learning is the training step without what it logs, the backward pass, clipping and the optimizer. "
        "The bar is drawn as in a terminal, the report written after a validation (24 problems here; the recipe has one every 20 "
        "iterations), the checkpoint after every iteration.",
        "",
        *outside(last, judged),
    ]
    for count in sorted({key[1] for key in varied}):
        chosen = [varied[key] for key in sorted(varied) if key[1] == count]
        measured = f"seed{'s' * (len(chosen) > 1)} {', '.join(str(key[0]) for key in sorted(varied) if key[1] == count)}"
        lines += [
            "",
            f"## Autocast and compilation, {count} thread{'s' if count > 1 else ''}",
            "",
            f"In turns of their own with the recipe (`--variants`; {measured}, {len(columns(chosen, RECIPE, 'seconds'))} repetitions, load "
            f"average at their end {max(cell['load'] for cell in chosen):.1f}, {_bfloat16()}). Compiling itself is not counted.",
            "",
            *variants(chosen),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repetitions", type=int, default=7, help="of each contestant and number of threads, spread over the seeds"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="the last has all rows, the others the first two and TRL"
    )
    parser.add_argument("--peers", type=Path, default=environments.FOLDER, help="where virtual environments of peers are kept")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--variants", action="store_true", help="measure autocast and compilation against the recipe, nothing else")
    only.add_argument("--report", action="store_true", help="measure nothing")
    only.add_argument(
        "--quick",
        action="store_true",
        help="a small model, once, written nowhere; TRL only where it is installed, nothing compiled",
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repetitions, arguments.seeds, arguments.threads = 1, [0], [1]
    find = environments.installed if arguments.quick else environments.install
    trl = None if arguments.variants or arguments.report else find("trl", REQUIREMENTS, arguments.peers)
    shape = QUICK if arguments.quick else Shape()
    quick: dict[tuple[int, int], Cell] = {}
    with tempfile.TemporaryDirectory() as folder, Field(shape, Path(folder), trl, alone=arguments.quick) as field:
        for index, seed in enumerate([] if arguments.report else arguments.seeds):
            # Seeds share the repetitions as evenly as they can.
            share = len(range(index, arguments.repetitions, len(arguments.seeds)))
            for threads in arguments.threads if share else []:
                if arguments.quick:
                    autocast = [name for name, arm in VARIANTS.items() if not arm.compiled]
                    quick[seed, threads] = measure(field, [*ARMS, *autocast, *([TRL] if trl else []), BARE], seed, threads, share)
                    continue
                names = [*(ARMS if threads == arguments.threads[-1] else (RECIPE, ADAMW)), *([TRL] if trl else []), BARE]
                if arguments.variants:
                    names = [RECIPE, *VARIANTS]
                path = RESULTS / f"{'variants-' * arguments.variants}seed{seed}-threads{threads}.json"
                cell = json.loads(path.read_text()) if path.exists() else {"turns": {}}
                if all(len(cell["turns"].get(name, [])) >= share for name in names):
                    continue
                write_json(path, measure(field, names, seed, threads, share))
                print(f"{path.stem} done", file=sys.stderr, flush=True)
    text = report(quick or finished(""), quick or finished("variants-"), shape, judged=not arguments.quick)
    print(text)
    if not arguments.quick:
        RESULTS.with_suffix(".md").write_text(text)


def finished(kind: str) -> dict[tuple[int, int], Cell]:
    """The cells that are there, by seed and threads."""
    found = {}
    for path in sorted(RESULTS.glob(f"{kind}seed*-threads*.json")):
        seed, threads = path.stem.removeprefix(kind).split("-")
        found[int(seed.removeprefix("seed")), int(threads.removeprefix("threads"))] = json.loads(path.read_text())
    return found


def _bfloat16() -> str:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [name for name in ("avx512_bf16", "amx_bf16") if name in flags.split()]
    return f"a processor with {' and '.join(names)}" if names else "a processor without bfloat16 products"


if __name__ == "__main__":
    main()
