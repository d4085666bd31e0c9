"""The symbolic tools: how fast they are, whether they certify the gold answers, and whether their findings hit the fault.

    python benchmarks/verifiers.py                  # all tools; writes benchmarks/results/verifiers.md
    python benchmarks/verifiers.py --tools cpp      # one tool; the others' parts of the table stay
    python benchmarks/verifiers.py --quick          # a few answers of each, written nowhere

Real answers come from a folder of public data sets beside the project; what is not there is left out of the table.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from shutil import which
from subprocess import run

from runs import ROOT
from verifier_tables import faults_table, gold_table, speed_table

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


def part(tool: str, quick: bool) -> str:
    """The tables of one tool."""
    module = importlib.import_module(f"verifier_{tool}")
    lines = [f"## {TOOLS[tool]}", ""]
    tables = {"speed": speed_table, "gold": gold_table, "faults": faults_table}
    for name, made_into_table in tables.items():
        if hasattr(module, name):
            rows = getattr(module, name)(quick)
            lines += [made_into_table(rows), ""] if rows else [f"No data for `{name}` on this machine.", ""]
    lines += [f"`python benchmarks/verifiers.py --tools {tool}`, {time.strftime('%Y-%m-%d')}; {environment()}.", ""]
    return "\n".join(lines)


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
        path = RESULTS / f"{tool}.md"
        lines.append(path.read_text() if path.exists() else f"## {TOOLS[tool]}\n\nNot measured.\n")
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument("--quick", action="store_true", help="a few answers of each, written nowhere")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    for tool in arguments.tools:
        text = part(tool, arguments.quick)
        print(text, flush=True)
        if not arguments.quick:
            RESULTS.mkdir(parents=True, exist_ok=True)
            (RESULTS / f"{tool}.md").write_text(text)
            RESULTS.with_suffix(".md").write_text(report())


if __name__ == "__main__":
    main()
