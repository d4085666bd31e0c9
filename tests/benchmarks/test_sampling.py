from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_sampling_benchmark_prints_a_column_for_every_contestant() -> None:
    results = ROOT / "benchmarks" / "results"
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    run = subprocess.run(
        [sys.executable, "benchmarks/sampling.py", "--quick"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    rows = [[entry.strip() for entry in line.strip("|").split("|")] for line in run.stdout.splitlines() if line.startswith("| ")]
    headers = [row for row in rows if row[0] == "answers"]
    assert len(headers) == 3
    engines = {"native", "native, bfloat16", "native, generic decoder", "hf", "continuous batching"}
    assert all(engines <= set(header) for header in headers)
    figures = [row for row in rows if row[:2] in (["1", "game24"], ["16", "16"])]
    assert len(figures) == 6
    assert all(float(entry.split()[0]) > 0 for row in figures for entry in row[2:] if entry != "-")
    assert {path: path.stat().st_mtime_ns for path in results.rglob("*")} == before  # a quick run is no result
