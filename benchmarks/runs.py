"""Runs of train.py as cells of a table: each finished cell is a small JSON file, and what is there is not run again."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "loky")


@dataclass(frozen=True)
class Run:
    """One call of ``train.py fit`` and the evaluation of its last checkpoint on the test split.

    Args:
        folder: Where it writes; an interrupted run is resumed there.
        configs: Config files, relative to the repository.
        flags: Further flags.
        threads: Threads of torch.
    """

    folder: Path
    configs: tuple[str, ...]
    flags: tuple[str, ...]
    threads: int

    @property
    def checkpoint(self) -> Path:
        """Its checkpoint after the last finished iteration."""
        return self.folder / "checkpoints" / "last.ckpt"

    def command(self, subcommand: str) -> list[str]:
        """The command line, without the interpreter."""
        configs = [part for config in self.configs for part in ("--config", config)]
        places = ["--trainer.default_root_dir", shown(self.folder), "--threads", str(self.threads)]
        return ["train.py", subcommand, *configs, *places, *self.flags]

    def fit(self) -> dict[str, Any]:
        """Train, or finish what was interrupted; returns the learning curves and the wall seconds."""
        done = self.folder / "done.json"
        # A longer run continues a shorter one in the same folder, whose mark does not count then.
        if not done.exists() or json.loads(done.read_text()).get("command") != self.command("fit"):
            resume = ("--ckpt_path", shown(self.checkpoint)) if self.checkpoint.exists() else ()
            since = time.monotonic()
            self._call([*self.command("fit"), *resume], "fit")
            result = {"wall_seconds": time.monotonic() - since, "resumed": bool(resume), "command": self.command("fit")}
            write_json(done, result)
        return {**json.loads(done.read_text()), "curves": curves(self.folder)}

    def test(self, flags: Sequence[str] = ()) -> dict[str, float]:
        """Evaluate the last checkpoint on the test split."""
        return self.evaluate("test", flags)

    def evaluate(self, subcommand: Literal["validate", "test"], flags: Sequence[str] = ()) -> dict[str, float]:
        """Evaluate the last checkpoint on the validation or the test split; the metrics without the split's name."""
        before = set(metric_files(self.folder))
        self._call([*self.command(subcommand), "--ckpt_path", shown(self.checkpoint), *flags], subcommand)
        written = sorted(set(metric_files(self.folder)) - before)
        with written[-1].open() as file:
            row = list(csv.DictReader(file))[-1]
        prefix = "val/" if subcommand == "validate" else "test/"
        return {name.removeprefix(prefix): float(value) for name, value in row.items() if name.startswith(prefix) and value}

    def _call(self, command: Sequence[str], label: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "WANDB_MODE": "disabled"}
        with (self.folder / f"{label}.log").open("a") as log:
            code = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)
        if code.returncode:
            tail = (self.folder / f"{label}.log").read_text()[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with {code.returncode}:\n{tail}")


@dataclass(frozen=True)
class Scale:
    """Where a benchmark works and how large it is.

    Args:
        results: Folder of the finished cells; the table stands beside it.
        folder: Folder of the runs.
        flags: Flags of every run.
        sft: Flags of supervised runs.
        ppo: Flags of PPO runs.
    """

    results: Path
    folder: Path
    flags: tuple[str, ...] = ()
    sft: tuple[str, ...] = ()
    ppo: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, quick: Path | None) -> Scale:
        """The committed results of benchmark ``name``; or, under a folder ``quick``, a few seconds' worth of it."""
        if quick is None:
            return cls(ROOT / "benchmarks" / "results" / name, ROOT / "runs" / "benchmarks" / name)
        small = ("--model.policy.hidden_size", "16", "--model.policy.layers", "1", "--model.policy.heads", "2")
        few = ("--data.test_limit", "2", "--data.validation_limit", "2")
        return cls(
            quick / "results" / name,
            quick / "runs" / name,
            flags=(*small, *few, "--model.policy.intermediate_size", "16"),
            sft=("--model.demonstrations", "64", "--trainer.max_epochs", "1"),
            ppo=("--model.problems", "2", "--model.samples", "2"),
        )

    def write(self, report: str) -> None:
        """Write the table beside the cells."""
        self.results.mkdir(parents=True, exist_ok=True)
        self.results.with_suffix(".md").write_text(report)


def shown(path: Path) -> str:
    """A path as a command or a result names it: relative to the repository, where runs are started."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def metric_files(folder: Path) -> list[Path]:
    """The CSV logger's files under a run's folder, oldest first."""
    return sorted(folder.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime)


def curves(folder: Path) -> dict[str, list[float]]:
    """Per-iteration columns of a run's training logs, by name; a resumed run's later rows replace its earlier ones."""
    rows: dict[int, dict[str, float]] = {}
    for file in metric_files(folder):
        with file.open() as lines:
            for row in csv.DictReader(lines):
                if row.get("epoch") and any(
                    name.startswith(("train/", "time/", "verify/")) and value for name, value in row.items()
                ):
                    values = {name: float(value) for name, value in row.items() if value and name != "step"}
                    rows.setdefault(int(float(row["epoch"])), {}).update(values)
    names = sorted({name for row in rows.values() for name in row if name.startswith(("train/", "time/", "verify/"))})
    return {name: [round(rows[i].get(name, math.nan), 5) for i in sorted(rows)] for name in names}


def course(curves: dict[str, list[float]]) -> str:
    """A learning curve in words: training success and, in brackets, KL in nats, means over ten iterations.

    Example:
        >>> course({"train/success_rate": [0.1] * 10 + [0.3] * 10, "train/kl": [1.0] * 20})
        '10: 0.100 (1.0), 20: 0.300 (1.0)'
    """
    success, kl = curves["train/success_rate"], curves["train/kl"]
    return ", ".join(
        f"{end}: {statistics.mean(success[end - 10 : end]):.3f} ({statistics.mean(kl[end - 10 : end]):.1f})"
        for end in range(10, len(success) + 1, 10)
    )


def iteration_seconds(curves: dict[str, list[float]]) -> list[float]:
    """Seconds of each iteration: sampling, verifying, evaluating and learning, as far as a module has them."""
    names = ("time/sampling_seconds", "time/verifying_seconds", "time/evaluating_seconds", "time/learning_seconds")
    return [sum(values) for values in zip(*(curves[name] for name in names if name in curves), strict=True)]


def run_cells(cells: Iterable[tuple[Path, Callable[[], dict[str, Any]]]], side_by_side: int) -> None:
    """Run the cells whose files are missing, some side by side, and write each file when its cell is done."""

    def run(cell: tuple[Path, Callable[[], dict[str, Any]]]) -> None:
        path, work = cell
        if path.exists():
            return
        print(f"{time.strftime('%H:%M:%S')} {path.stem} …", flush=True)
        result = {**work(), "environment": environment()}
        write_json(path, result)
        print(f"{time.strftime('%H:%M:%S')} {path.stem} done", flush=True)

    with ThreadPoolExecutor(side_by_side) as pool:
        for future in [pool.submit(run, cell) for cell in cells]:
            future.result()


def write_json(path: Path, content: Any) -> None:
    """Write a file that is there whole or not at all, wherever the process is killed: every later call reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content) + "\n")
    partial.replace(path)


def environment() -> dict[str, str]:
    """Versions and machine, for the foot of a table."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, no GPU"
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}, "machine": machine}


def mean_and_spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean, and the lowest and highest of the seeds.

    Example:
        >>> mean_and_spread([0.1, 0.3])
        '0.200 [0.100, 0.300]'
    """
    if not values:
        return "not run"
    shown = f"{statistics.mean(values):.{digits}f}"
    return shown if len(values) == 1 else f"{shown} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def held_out(cells: Iterable[dict[str, Any]], name: str, digits: int = 3) -> str:
    """A measure of the test split over the cells that hold it; empty if none does, as cells from before it was measured."""
    values = [cell["test"][name] for cell in cells if name in cell["test"]]
    return mean_and_spread(values, digits) if values else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
