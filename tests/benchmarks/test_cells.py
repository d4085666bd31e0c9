import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, BENCHMARKS / script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_short_version_of_the_training_tables_runs_and_a_finished_cell_is_not_run_again(tmp_path: Path) -> None:
    quick = ("--quick", str(tmp_path), "--seeds", "0", "--side-by-side", "1")
    run("credit_assignment.py", *quick, "--schemes", "token", "--iterations", "2")
    cell = tmp_path / "results" / "credit_assignment" / "token-seed0.json"
    result = json.loads(cell.read_text())
    assert len(result["curves"]["train/success_rate"]) == 2
    assert 0.0 <= result["test"]["pass@1"] <= 1.0
    text = (tmp_path / "results" / "credit_assignment.md").read_text()
    assert "| `token` | 0 | 2 |" in text
    assert "| `boolean` | not run |" in text
    written = cell.stat().st_mtime_ns
    run("credit_assignment.py", *quick, "--schemes", "token", "--iterations", "2")
    assert cell.stat().st_mtime_ns == written

    run("game24.py", *quick, "--arms", "sft")  # the start is shared: only its evaluation runs
    text = (tmp_path / "results" / "game24.md").read_text()
    assert "| supervised start | 0 |" in text
    assert "| + PPO as in `make demo` | - |" in text
