from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_memory_benchmark_shows_a_peak_that_is_flat_in_the_vocabulary(run_script: Callable[..., str]) -> None:
    results = ROOT / "benchmarks" / "results" / "memory.md"
    before = results.read_bytes() if results.exists() else None
    out = run_script("memory", "--quick")
    rows = [
        [column.strip() for column in line.strip("|").split("|")]
        for line in out.splitlines()
        if re.match(r"\| \d+ x \d+ \|", line)
    ]
    growth = {(shape, name): float(largest_over_smallest) for shape, name, _, _, largest_over_smallest, *_ in rows}
    assert {shape for shape, _ in growth} == {"1 x 36", "2 x 36"}
    for (_, name), factor in growth.items():
        if name.startswith("`token_logprobs`"):
            assert factor < 1.1
        elif name.startswith("plain"):
            assert factor > 1.9  # twice the words
    assert re.search(r"160\.0 MiB at its peak, was read as 160\.\d", out)
    assert (results.read_bytes() if results.exists() else None) == before  # a quick run is no result
