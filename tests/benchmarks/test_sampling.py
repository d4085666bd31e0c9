from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_sampling_benchmark_prints_a_column_for_every_contestant(run_script: Callable[..., str]) -> None:
    results = ROOT / "benchmarks" / "results"
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    out = run_script("sampling", "--quick")
    rows = [[entry.strip() for entry in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("| ")]
    headers = [row for row in rows if row[0] == "answers"]
    assert len(headers) == 3
    engines = {"native", "native, bfloat16", "native, generic decoder", "hf", "continuous batching"}
    assert all(engines <= set(header) for header in headers)
    figures = [row for row in rows if row[:2] in (["1", "game24"], ["16", "16"])]
    assert len(figures) == 6
    assert all(float(entry.split()[0]) > 0 for row in figures for entry in row[2:] if entry != "-")
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before  # a quick run is no result
