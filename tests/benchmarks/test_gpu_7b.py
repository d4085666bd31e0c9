from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a bare machine with torch, transformers, peft, lightning, bitsandbytes and jsonargparse does not have.
ABSENT = ("rdkit", "wandb", "loky", "diskcache", "rapidfuzz", "sacrebleu", "selfies", "z3", "ray", "trl")


def test_the_tiny_shape_runs_without_what_a_gpu_machine_lacks_and_prints_all_rows() -> None:
    results = ROOT / "benchmarks" / "results" / "gpu_7b.md"
    before = results.read_bytes() if results.exists() else None
    program = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({ABSENT!r})); "
        "sys.argv = ['gpu_7b.py', '--shape', 'tiny']; sys.path.insert(0, 'benchmarks'); "
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
