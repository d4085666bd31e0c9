import doctest
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(*arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / "verifiers.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def assert_faults_are_hit(out: str) -> None:
    """At least 90 % of the faults, by findings over at most 30 % of the answer."""
    total = next(line for line in out.splitlines() if line.startswith("| **all but those in parentheses**"))
    _, _, count, overlapped, covered, _ = (cell.strip() for cell in total.split("|"))
    assert int(count) > 0
    assert float(overlapped.rstrip("%")) >= 90
    assert float(covered.rstrip("%")) <= 30


def test_a_quick_run_prints_the_tables_of_a_tool_and_its_faults_are_found():
    out = run("--quick", "--tools", "game24")
    assert "## Game of 24" in out
    gold = next(line for line in out.splitlines() if line.startswith("| 4nums") or "generator" in line)
    answers, correct = (int(cell) for cell in gold.split("|")[2:4])
    assert answers == correct > 0
    assert_faults_are_hit(out)


# Those of C++ and chemistry have tests beside the verifiers' own.
@pytest.mark.parametrize(("tool", "needed"), [("logic", "proofwriter"), ("fol", "folio"), ("python", "gsmhard")])
def test_faults_are_found_by_the_other_tools_too(tool: str, needed: str) -> None:
    data = Path(os.environ.get("LIT_SYMBOLIC_DATA", BENCHMARKS.parents[1] / "shared/data"))
    if not (data / needed).exists():
        pytest.skip(f"needs the public data: {needed} in {data}")
    assert_faults_are_hit(run("--quick", "--tools", tool, "--tables", "faults"))


def test_the_committed_table_is_the_one_that_its_cells_give(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import verifiers

    committed = verifiers.RESULTS.with_suffix(".md")
    if not list(verifiers.RESULTS.glob("*.json")):
        pytest.fail("no cell is committed: run benchmarks/verifiers.py")
    assert committed.read_text() == verifiers.report()
    for path in verifiers.RESULTS.glob("*.json"):
        assert json.loads(path.read_text())["rows"], path.name


def test_the_tables_are_made_as_their_docstrings_show(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import verifier_tables

    outcome = doctest.testmod(verifier_tables, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted > 0
    assert outcome.failed == 0
