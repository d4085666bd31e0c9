from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
# What a bare machine with torch, transformers, peft, lightning, bitsandbytes and jsonargparse does not have.
ABSENT = ("rdkit", "wandb", "loky", "diskcache", "rapidfuzz", "sacrebleu", "selfies", "z3", "ray", "trl")


def test_the_tiny_shape_runs_without_what_a_gpu_machine_lacks_and_prints_all_rows(tmp_path: Path) -> None:
    results = ROOT / "benchmarks" / "results" / "gpu_7b.md"
    before = results.read_bytes() if results.exists() else None
    program = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT!r})); "
        f"sys.argv = ['gpu_7b.py', '--shape', 'tiny', '--peers', {str(tmp_path)!r}]; sys.path.insert(0, 'benchmarks'); "
        "runpy.run_path('benchmarks/gpu_7b.py', run_name='__main__')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    rows = {line.split("|")[1].strip(): line.split("|")[2:] for line in run.stdout.splitlines() if line.startswith("| ")}
    assert float(rows["PPO, critic head, reference adapter"][0]) > 0
    assert float(rows["SFT"][0]) > 0
    assert "TRL is not installed" in rows["TRL GRPOTrainer"][0]
    assert (results.read_bytes() if results.exists() else None) == before  # the tiny shape is no result


def test_rows_are_written_as_they_come_and_none_is_begun_that_would_last_too_long() -> None:
    from gpu_7b import in_time

    now = [0.0]
    written: list[list[str]] = []

    def lasting(seconds: float) -> Any:
        def measure() -> dict[str, str]:
            now[0] += seconds
            return {"name": f"{seconds:g} s"}

        return measure

    work = {"first": lasting(40.0), "second": lasting(10.0), "third": lasting(1.0)}
    rows = in_time(work, lambda: 85.0 - now[0], lambda rows: written.append([row["name"] for row in rows]))
    assert rows == [{"name": "40 s"}, {"name": "10 s"}, {"name": "third", "missing": "out of time"}]
    assert written == [["40 s"], ["40 s", "10 s"], ["40 s", "10 s", "third"]]


def test_trl_s_row_is_measured_where_trl_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="needs trl (the optional extra trl)")
    from gpu_7b import trl_row
    from gpu_work import SHAPES, write_model

    write_model(tmp_path, SHAPES["tiny"], torch.device("cpu"))
    row = trl_row(tmp_path, SHAPES["tiny"], sys.executable, 300.0)
    assert "missing" not in row, row
    assert row["seconds"]["whole"] > 0
