import json
import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lit_symbolic.cli import SymbolicCLI

RunScript = Callable[..., str]


def test_a_run_is_a_process_of_its_own_whose_last_words_are_told_if_it_fails(tmp_path: Path) -> None:
    from runs import Run

    class Failing(Run):
        def command(self, subcommand: str) -> list[str]:
            return ["-c", f"import os; print(os.getpid(), {subcommand!r}, os.environ['OMP_NUM_THREADS'], flush=True); exit(3)"]

    run = Failing(tmp_path / "run", (), (), threads=1)
    with pytest.raises(RuntimeError, match=r"ended with 3:\n[0-9]+ fit 1") as told:
        run.fit()
    assert f"\n{os.getpid()} " not in str(told.value)
    assert not (run.folder / "done.json").exists()


def test_a_short_version_of_the_training_tables_runs_and_a_finished_cell_is_not_run_again(
    run_script: RunScript, runs_made: list[SymbolicCLI], tmp_path: Path
) -> None:
    quick = ("--quick", str(tmp_path), "--seeds", "0", "--side-by-side", "1")
    run_script("credit_assignment", *quick, "--schemes", "token", "--iterations", "2")
    cell = tmp_path / "results" / "credit_assignment" / "token-seed0.json"
    result = json.loads(cell.read_text())
    assert len(result["curves"]["train/success_rate"]) == 2
    assert 0.0 <= result["test"]["pass@1"] <= 1.0
    text = (tmp_path / "results" / "credit_assignment.md").read_text()
    assert "| `token` | 0 | 2 |" in text
    assert "| `boolean` | not run |" in text
    assert "(credit_assignment.svg)" in text
    picture = ElementTree.parse(tmp_path / "results" / "credit_assignment.svg").getroot()
    assert [len(line.attrib["points"].split()) for line in picture.findall("{*}polyline")] == [2]
    assert len(runs_made) == 3  # start, token rewards, evaluation
    written = cell.stat().st_mtime_ns
    run_script("credit_assignment", *quick, "--schemes", "token", "--iterations", "2")
    assert len(runs_made) == 3
    assert cell.stat().st_mtime_ns == written

    run_script("game24", *quick, "--arms", "sft")  # the start is shared: only its evaluation runs
    assert len(runs_made) == 4
    text = (tmp_path / "results" / "game24.md").read_text()
    assert "| supervised start | 0 |" in text
    assert "| + PPO as in `make demo` | - |" in text


def test_a_short_version_of_rlsfs_comparison_runs_and_says_what_it_did_not_run(
    run_script: RunScript, runs_made: list[SymbolicCLI], tmp_path: Path
) -> None:
    chosen = ("--sources", "molecules-generator", "--arms", "token", "--trials", "gae", "--seeds", "1")
    run_script("rlsf", "--quick", str(tmp_path), *chosen, "--iterations", "2", "--side-by-side", "1")
    assert len(runs_made) == 4  # two are trained, two evaluated
    results = tmp_path / "results" / "rlsf"
    assert {path.stem for path in results.glob("*.json")} == {
        "molecules-generator-start-seed1",
        "molecules-generator-token-seed1",
    }
    cell = json.loads((results / "molecules-generator-token-seed1.json").read_text())
    assert len(cell["curves"]["train/success_rate"]) == 2
    assert {"pass@1", "mean_length", "end_rate", "validity"} <= cell["test"].keys()
    text = (tmp_path / "results" / "rlsf.md").read_text()
    assert "| + token reward | 1 (not run: 2, 3) | 2 (too short) | gae |" in text
    assert "| + Boolean reward | not run |" in text


def test_a_short_version_of_the_three_tools_cost_runs(
    run_script: RunScript, runs_made: list[SymbolicCLI], tmp_path: Path
) -> None:
    run_script("three_tools", "--quick", str(tmp_path), "--seeds", "4", "--iterations", "2")
    assert len(runs_made) == 3
    pair = json.loads((tmp_path / "results" / "three_tools" / "seed4.json").read_text())
    for label in ("one tool", "four tools"):
        parts = [pair[label][part] for part in ("sampling", "verifying", "evaluating", "learning")]
        assert pair[label]["iteration"] == [sum(seconds) for seconds in zip(*parts, strict=True)]
        assert len(pair[label]["iteration"]) == 2
    text = (tmp_path / "results" / "three_tools.md").read_text()
    assert "(seeds 4)" in text
    assert "| iteration | " in text


def cell(arm: str, seed: int, passed: float, success: list[float]) -> dict[str, object]:
    curves = {"train/success_rate": success, "train/kl": [1.0] * len(success), "time/learning_seconds": [2.0] * len(success)}
    test = {"pass@1": passed, "pass@8": passed, "mean_length": 9.0, "end_rate": 1.0}
    about = {"task": "game24", "data": "generator", "arm": arm, "seed": seed, "iterations": len(success)}
    return {**about, "curves": curves, "test": test, "environment": {"python": "3"}}


def test_the_comparison_counts_seeds_beyond_the_spread_and_the_rollouts_that_were_needed(tmp_path: Path) -> None:
    import rlsf
    import rlsf_report

    for seed in (1, 2, 3):
        rising = [0.1 + 0.01 * i for i in range(60)]
        halves = [value / 2 for value in rising]
        arms = {"boolean": (0.2, halves), "token": (0.2 + 0.01 * seed, rising), "shuffled": (0.25, halves)}
        for arm, (passed, success) in arms.items():
            (tmp_path / f"{arm}{seed}.json").write_text(json.dumps(cell(arm, seed, passed, success)))
    text = rlsf_report.report(tmp_path, rlsf.SOURCES, 60)
    assert "Every seed of the token arm above every seed of the Boolean one: game24-generator;" in text
    # Boolean's last ten are 0.3225 on average; the mean of ten of 0.1 + 0.01 i is there first at i = 18 to 27.
    assert "| 2.0 [1.0, 3.0] | -3.0 [-4.0, -2.0] | 0.47 [0.47, 0.47] (3 of 3 seeds) |" in text
    assert "At most half of the rollouts in every seed: game24-generator." in text
    drawn = rlsf_report.pictures(tmp_path, rlsf.SOURCES)
    assert drawn.keys() == {"game24-generator"}
    assert "(" + tmp_path.name + "/game24-generator.svg)" in text
    # The means of the first ten and the last: 0.145 and 0.645, Boolean's half as large; a line has a point for each window.
    assert "token: 0.645" in drawn["game24-generator"]
    assert "boolean: 0.323" in drawn["game24-generator"]
    assert {line.count(",") for line in drawn["game24-generator"].splitlines() if "polyline" in line} == {51}
