"""The symbolic tools: how fast they are, whether they certify the gold answers, and whether their findings hit the fault.

    python benchmarks/verifiers.py                  # measures what is missing; writes benchmarks/results/verifiers.md
    python benchmarks/verifiers.py --tools cpp      # one tool
    python benchmarks/verifiers.py --tables speed --again   # one table of each tool anew, on a quiet machine for instance
    python benchmarks/verifiers.py --quick          # a few answers of each, written nowhere

Each table of each tool is a cell, a file of its own under benchmarks/results/verifiers/.

Real answers come from a folder of public data sets beside the project; what is not there is left out of the table.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which
from subprocess import run
from typing import Any

from runs import ROOT
from verifier_tables import Faults, FaultShares, Gold, Speed, faults_table, gold_table, speed_table

RESULTS = ROOT / "benchmarks" / "results" / "verifiers"
TOOLS = {
    "sandbox": "Sandbox",
    "cpp": "C++",
    "chemistry": "Chemistry",
    "python": "Python programs",
    "logic": "Logic programs",
    "fol": "First-order logic",
    "game24": "Game of 24",
    "pool": "Pool",
}
PACKAGES = ("rdkit", "z3-solver", "selfies", "loky")


TABLES: dict[str, tuple[type, Callable[[list[Any]], str]]] = {
    "speed": (Speed, speed_table),
    "gold": (Gold, gold_table),
    "faults": (FaultShares, faults_table),
}


def measured(tool: str, kind: str, quick: bool) -> dict[str, Any] | None:
    """One cell: the rows of one table of one tool, and where they were taken; None if the tool has no such table."""
    module = importlib.import_module(f"verifier_{tool}")
    if not hasattr(module, kind):
        return None
    place = environment()  # the load before the run
    rows = [row.shares() if isinstance(row, Faults) else row for row in getattr(module, kind)(quick)]
    return {"rows": [asdict(row) for row in rows], "date": time.strftime("%Y-%m-%d"), "environment": place}


def shown(tool: str, cells: dict[str, dict[str, Any]]) -> str:
    """The tables of one tool."""
    lines = [f"## {TOOLS[tool]}", ""]
    for kind, cell in cells.items():
        of, made_into_table = TABLES[kind]
        rows = [of(**row) for row in cell["rows"]]
        lines += [made_into_table(rows) if rows else f"No data for `{kind}` on that machine.", ""]
        lines += [f"{kind.capitalize()}: {cell['date']}; {cell['environment']}.", ""]
    return "\n".join(lines if cells else [*lines, "Not measured.", ""])


def environment() -> str:
    """Versions and machine."""
    packages = []
    for name in PACKAGES:
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            packages.append(f"{name} not installed")
    compiler = run(["g++", "--version"], capture_output=True, text=True, check=False).stdout if which("g++") else "no g++"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    return ", ".join([f"Python {platform.python_version()}", *packages, compiler.splitlines()[0], machine])


def report() -> str:
    """All parts that were measured."""
    lines = [
        "# The symbolic tools, measured",
        "",
        "`python benchmarks/verifiers.py`. Speeds: median over repetitions and their range; what is compared ran in turn in one",
        "process. Gold: answers of public sets (or of the task's generator) that the verifier must certify correct. Faults: gold",
        "answers with one injected fault each at a known place; a finding must overlap it, and findings should cover little.",
        "",
    ]
    for tool in TOOLS:
        found = {kind: RESULTS / f"{tool}-{kind}.json" for kind in TABLES}
        lines.append(shown(tool, {kind: json.loads(path.read_text()) for kind, path in found.items() if path.exists()}))
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--quick", action="store_true", help="a few answers of each, written nowhere")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--report", action="store_true", help="write the tables of the cells that are there, measure nothing")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    RESULTS.mkdir(parents=True, exist_ok=True)
    for tool in [] if arguments.report else arguments.tools:
        cells = {}
        for kind in arguments.tables:
            path = RESULTS / f"{tool}-{kind}.json"
            if path.exists() and not arguments.again and not arguments.quick:
                continue
            cell = measured(tool, kind, arguments.quick)
            if cell is not None:
                cells[kind] = cell
                if not arguments.quick:
                    path.write_text(json.dumps(cell, indent=1, ensure_ascii=False) + "\n")
        print(shown(tool, cells) if cells else f"{tool}: nothing is missing", flush=True)
    if not arguments.quick:
        RESULTS.with_suffix(".md").write_text(report())


if __name__ == "__main__":
    main()
