from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PHASES = ("sampling", "verifying", "evaluating", "learning", "outside")


def test_a_quick_run_prints_how_each_phase_grows_and_the_phases_are_the_iteration(run_script: Callable[..., str]) -> None:
    results = ROOT / "benchmarks" / "results" / "scaling.md"
    before = results.read_bytes() if results.exists() else None
    out = run_script("scaling", "--quick")
    tables = re.findall(r"^\| (rollouts|new tokens of each answer|width of the model) \|.*\n(?:\|.*\n)+", out, re.M)
    assert tables == ["rollouts", "new tokens of each answer", "width of the model"]
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \(.*\| (-?[\d.]+|nan) ± (?:[\d.]+|nan) \|", out, re.M)
    assert [name for name, _, _ in rows] == ["iteration", *PHASES] * 3
    for first in range(0, len(rows), len(PHASES) + 1):
        whole, *parts = (float(seconds) for _, seconds, _ in rows[first : first + len(PHASES) + 1])
        assert whole > 0
        assert sum(parts) == pytest.approx(whole, abs=0.004)  # each is rounded to milliseconds
    assert (results.read_bytes() if results.exists() else None) == before  # a quick run is no result


def test_the_exponent_and_its_standard_error_are_those_of_a_linear_regression() -> None:
    from scaling import exponent

    generator = np.random.default_rng(0)
    sizes = np.repeat([64, 128, 256, 512], 3)
    seconds = 0.01 * sizes**1.3 * np.exp(0.2 * generator.standard_normal(len(sizes)))
    slope, error = exponent(sizes.tolist(), seconds.tolist())
    (expected, _), covariance = np.polyfit(np.log(sizes), np.log(seconds), 1, cov=True)
    assert slope == pytest.approx(expected)
    assert error == pytest.approx(np.sqrt(covariance[0, 0]))
    assert abs(slope - 1.3) < 3 * error
