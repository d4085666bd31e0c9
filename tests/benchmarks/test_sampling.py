from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_sampling_benchmark_prints_a_row_for_every_contestant() -> None:
    results = ROOT / "benchmarks" / "results" / "sampling.md"
    before = results.read_bytes() if results.exists() else None
    run = subprocess.run(
        [sys.executable, "benchmarks/sampling.py", "--quick"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", run.stdout, flags=re.MULTILINE))
    for name in ("engine, fused decoder", "engine, generic decoder", "model.generate, its defaults", "floor: all products"):
        assert float(rows[name].split()[0]) > 0
    for answers in ("1", "8"):
        assert float(rows[answers].split()[0]) > 0
    assert (results.read_bytes() if results.exists() else None) == before  # a quick run is no result
