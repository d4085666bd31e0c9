from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"

TOY = """
from peers.turns import Orders

def train(order):
    print("what a library prints is no answer")
    done = []
    while True:
        orders.next_iteration(lambda: {"done": len(done)}, {"double": lambda asked: {"doubled": 2 * asked["number"]}})
        if order["fails"]:
            raise OSError("the disk is full")
        done.append(None)

orders = Orders()
orders.serve(train)
"""


def test_a_quick_run_has_a_row_for_every_contestant_and_charges_the_whole_iteration(tmp_path: Path) -> None:
    results = BENCHMARKS / "results" / "iteration.md"
    before = results.read_bytes() if results.exists() else None
    run = subprocess.run(
        [sys.executable, "benchmarks/iteration.py", "--quick", "--peers", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    rows = {
        name.strip(): [cell.strip() for cell in rest.split("|")]
        for name, rest in re.findall(r"^\| ([^|]+) \|(.+)\|$", run.stdout, re.M)
    }
    for name in ("value head, Muon (the recipe)", "value head, AdamW", "own-network critic, Muon"):
        assert float(rows[name][0].split()[0]) > 0
        assert rows[name][2] == "4"  # optimizer steps: two minibatches, two passes
    assert float(rows["value head, Muon, autocast to bfloat16"][0].split()[0]) > 0
    # The parts of the bound add up to it: forward counts twice.
    decode, _, forward, learn, bound = (
        float(cells[0].split()[0]) for name, cells in rows.items() if name.startswith(("decode", "forward", "**bound"))
    )
    assert bound == pytest.approx(decode + 2 * forward + learn, abs=0.03)
    # The shares of all causes are the whole.
    work_and_outside = ("sampling", "verifying", "evaluating", "learning", "all that is outside")
    assert sum(float(rows[name][1]) for name in work_and_outside) == pytest.approx(100, abs=0.1)
    assert float(rows["checkpoint"][0]) > 0
    assert "TRL: **not measured**" in run.stdout
    assert (results.read_bytes() if results.exists() else None) == before  # a quick run is no result


def test_a_contestant_does_an_iteration_an_order_and_tells_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peers.turns import Contestant

    (tmp_path / "toy.py").write_text(TOY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Contestant(sys.executable, "toy", tmp_path / "log") as contestant:
        assert contestant.ask("train", fails=False) == {"done": 0}
        assert contestant.ask("double", number=4) == {"doubled": 8}
        first = contestant.ask("iteration")
        assert first["done"] == 1
        assert first["seconds"] >= 0
        assert contestant.ask("iteration")["done"] == 2
        assert contestant.ask("stop") == {}
        assert contestant.ask("train", fails=True) == {"done": 0}
        with pytest.raises(RuntimeError, match="the disk is full"):
            contestant.ask("iteration")
    assert "what a library prints" in (tmp_path / "log").read_text()
    assert contestant.process.poll() is not None


def test_an_environment_counts_as_installed_only_when_made_to_its_end_for_the_same_requirements(tmp_path: Path) -> None:
    from peers import environments

    assert environments.installed("peer", ["trl>=1"], tmp_path) is None
    (tmp_path / "peer").mkdir()
    assert environments.installed("peer", ["trl>=1"], tmp_path) is None
    (tmp_path / "peer" / "requirements.txt").write_text("trl>=1\n")
    assert environments.installed("peer", ["trl>=1"], tmp_path) == environments.install("peer", ["trl>=1"], tmp_path)
    assert environments.installed("peer", ["trl>=2"], tmp_path) is None


def test_each_moment_is_charged_to_the_innermost_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    from peers import phases

    now = [0.0]
    monkeypatch.setattr(phases, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    clock = phases.PhaseClock()

    def spend(seconds: float, *actions: str) -> None:
        for action in actions:
            clock.start(action)
        now[0] += seconds
        for action in reversed(actions):
            clock.stop(action)

    spend(1.0)
    spend(2.0, "[LightningDataModule]SymbolicDataModule.train_dataloader")
    spend(4.0, "[LightningDataModule]SymbolicDataModule.train_dataloader", "time/sampling_seconds")
    spend(8.0, "time/sampling_seconds", "[Callback]IterationProgressBar.on_phase")
    spend(16.0, "[Strategy]SingleDeviceStrategy.training_step", phases.LOGGING)
    spend(32.0, "[LightningModule]FullLengthPPO.optimizer_step", "[Strategy]SingleDeviceStrategy.backward")
    spend(
        64.0, "[Callback]IterationCheckpoint{'every_n_epochs': 1}.on_train_epoch_end", "[Callback]HtmlReport.on_save_checkpoint"
    )
    spend(128.0, "run_training_batch", "[Callback]VerifierReward.on_train_batch_start")
    assert clock.cut() == {
        phases.LOOP: 1.0,
        phases.CUTTING: 2.0,
        phases.SAMPLING: 4.0,
        phases.BAR: 8.0,
        phases.LOGGING: 16.0,
        phases.LEARNING: 32.0,
        phases.CHECKPOINT: 64.0,
        phases.CALLBACKS: 128.0,
    }
    assert json.dumps(clock.cut()) == json.dumps({phases.LOOP: 0.0})
