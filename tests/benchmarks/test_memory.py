from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_memory_benchmark_shows_a_peak_that_is_flat_in_the_vocabulary() -> None:
    results = ROOT / "benchmarks" / "results" / "memory.md"
    before = results.read_bytes() if results.exists() else None
    run = subprocess.run(
        [sys.executable, "benchmarks/memory.py", "--quick"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    rows = [
        [column.strip() for column in line.strip("|").split("|")]
        for line in run.stdout.splitlines()
        if re.match(r"\| \d+ x \d+ \|", line)
    ]
    growth = {(shape, name): float(largest_over_smallest) for shape, name, _, _, largest_over_smallest, *_ in rows}
    assert {shape for shape, _ in growth} == {"1 x 36", "2 x 36"}
    for (_, name), factor in growth.items():
        if name.startswith("`token_logprobs`"):
            assert factor < 1.1
        elif name.startswith("plain"):
            assert factor > 1.9  # twice the words
    assert re.search(r"160\.0 MiB at its peak, was read as 160\.\d", run.stdout)
    assert (results.read_bytes() if results.exists() else None) == before  # a quick run is no result
