import doctest
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

RunScript = Callable[..., str]


def assert_faults_are_hit(out: str) -> None:
    """At least 90 % of the faults, by findings over at most 30 % of the answer."""
    total = next(line for line in out.splitlines() if line.startswith("| **all but those in parentheses**"))
    _, _, count, overlapped, covered, _ = (cell.strip() for cell in total.split("|"))
    assert int(count) > 0
    assert float(overlapped.rstrip("%")) >= 90
    assert float(covered.rstrip("%")) <= 30


def test_a_quick_run_prints_the_tables_of_a_tool_and_its_faults_are_found(run_script: RunScript) -> None:
    out = run_script("verifiers", "--quick", "--tools", "game24")
    assert "## Game of 24" in out
    gold = next(line for line in out.splitlines() if line.startswith("| 4nums") or "generator" in line)
    answers, correct = (int(cell) for cell in gold.split("|")[2:4])
    assert answers == correct > 0
    assert_faults_are_hit(out)


# Those of C++ and chemistry have tests beside the verifiers' own.
@pytest.mark.parametrize(("tool", "needed"), [("logic", "proofwriter"), ("fol", "folio"), ("python", "gsmhard")])
def test_faults_are_found_by_the_other_tools_too(tool: str, needed: str, run_script: RunScript) -> None:
    data = Path(os.environ.get("LIT_SYMBOLIC_DATA", BENCHMARKS.parents[1] / "shared/data"))
    if not (data / needed).exists():
        pytest.skip(f"needs the public data: {needed} in {data}")
    assert_faults_are_hit(run_script("verifiers", "--quick", "--tools", tool, "--tables", "faults"))


def test_the_committed_table_is_the_one_that_its_cells_give() -> None:
    import verifiers

    committed = verifiers.RESULTS.with_suffix(".md")
    if not list(verifiers.RESULTS.glob("*.json")):
        pytest.fail("no cell is committed: run benchmarks/verifiers.py")
    assert committed.read_text() == verifiers.report()
    for path in verifiers.RESULTS.glob("*.json"):
        assert json.loads(path.read_text())["rows"], path.name


def test_the_tables_are_made_as_their_docstrings_show() -> None:
    import verifier_tables

    outcome = doctest.testmod(verifier_tables, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted > 0
    assert outcome.failed == 0
