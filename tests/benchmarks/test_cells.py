import json
import math
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lit_symbolic.cli import SymbolicCLI
from tiny import ROOT

RunScript = Callable[..., str]
SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", ROOT.parent / "shared" / "data"))


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
    chosen = ("--sources", "molecules-generator", "--arms", "token", "--trials", "gae", "--seeds", "4")
    run_script("rlsf", "--quick", str(tmp_path), *chosen, "--iterations", "2", "--side-by-side", "1")
    assert len(runs_made) == 4  # two are trained, two evaluated
    results = tmp_path / "results" / "rlsf"
    assert {path.stem for path in results.glob("*.json")} == {
        "molecules-generator-start-seed4",
        "molecules-generator-token-seed4",
    }
    cell = json.loads((results / "molecules-generator-token-seed4.json").read_text())
    assert len(cell["curves"]["train/success_rate"]) == 2
    assert {"pass@1", "mean_length", "end_rate", "validity"} <= cell["test"].keys()
    text = (tmp_path / "results" / "rlsf.md").read_text()
    assert "| + token reward | 4 (not run: 5, 6) | 2 (too short) | gae |" in text
    assert "| + Boolean reward | not run |" in text


@pytest.mark.skipif(not (SHARED / "spoc").exists(), reason=f"needs the public data: spoc in {SHARED}")
def test_the_report_says_how_many_programs_its_cut_leaves_out(tmp_path: Path) -> None:
    from lit_symbolic.tasks.pseudocode import PseudocodeToCpp
    from rlsf_sources import SOURCES

    flags = next(source.flags for source in SOURCES if source.name == "pseudocode-spoc")
    longest = int(flags[flags.index("--data.task.max_characters") + 1])
    sizes = []
    for max_characters in (None, longest):
        task = PseudocodeToCpp(data=SHARED / "spoc", cut_by_hash=True, max_characters=max_characters)
        sizes.append(sum(len(task.problems(split)) for split in ("train", "validation", "test")))
    said = f"at most {longest} characters of pseudo-code and code, which leaves out {sizes[0] - sizes[1]:,} of its {sizes[0]:,} programs"
    assert said in report_of(tmp_path, [])


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
    assert "| iteration, s | " in text
    lengths = [statistics.mean(pair[label]["mean_length"][1:]) for label in ("one tool", "four tools")]
    assert f"| mean length, tokens | {lengths[0]:.3f} | {lengths[1]:.3f} |" in text
    assert "| end rate | " in text


def test_a_short_version_of_the_decodings_runs_from_the_shared_start(
    run_script: RunScript, runs_made: list[SymbolicCLI], tmp_path: Path
) -> None:
    chosen = ("plain", "search, tool, 5 proposals, keep 1", "2 attempts")
    run_script("decoding", "--quick", str(tmp_path), "--seeds", "0", "--decodings", *chosen)
    assert len(runs_made) == 4  # start, three evaluations
    settings = [made.model.evaluation for made in runs_made[1:]]
    assert [each.samples for each in settings] == [40, 1, 4]
    assert (settings[1].search.judge, settings[1].search.proposals, settings[1].search.keep) == ("tool", 5, 1)
    assert settings[2].attempts == 2
    results = tmp_path / "results"
    tests = {
        name: json.loads((results / "decoding" / f"{name}-seed0.json").read_text())["test"] for name in ("plain", "2-attempts")
    }
    assert {"pass@1", "pass@40", "mean_length", "end_rate"} <= tests["plain"].keys()
    assert {"pass@1", "spent/tokens", "spent/tool_calls", "mean_length", "end_rate"} <= tests["2-attempts"].keys()
    text = (results / "decoding.md").read_text()
    assert "| search, tool, 5 proposals, keep 1 | 0 |" in text
    assert "| greedy | not run |" in text


def test_a_decoding_is_compared_with_as_many_plain_answers_as_it_cost(tmp_path: Path) -> None:
    import decoding
    from runs import Scale

    scale = Scale.of("decoding", tmp_path)
    scale.results.mkdir(parents=True)
    plain = {"pass@1": 0.1, "pass@2": 0.19, "pass@3": 0.25, "pass@4": 0.3, "mean_length": 30.0, "end_rate": 1.0}
    search = {"pass@1": 0.5, "mean_length": 29.0, "end_rate": 0.9, "spent/tokens": 61.0, "spent/tool_calls": 3.2}
    wide = {**search, "spent/tokens": 900.0, "spent/tool_calls": 4.0}
    for name, test in (
        ("plain", plain),
        ("search, tool, 5 proposals, keep 1", search),
        ("search, tool, 10 proposals, keep 5", wide),
    ):
        each = {"decoding": name, "seed": 0, "environment": {"python": "3"}, "test": test}
        (scale.results / f"{decoding.cell_name(name, 0)}.json").write_text(json.dumps(each))
    text = decoding.report(scale)
    # 61 tokens are two answers of 30 and a bit, 3.2 tool calls three answers and a bit
    assert "| search, tool, 5 proposals, keep 1 | 0 | 0.500 | 0.250 (k = 3) | 0.300 (k = 4) | 29.0 | 0.900 | 61 | 3.2 |" in text
    assert "| search, tool, 10 proposals, keep 5 | 0 | 0.500 |  | 0.300 (k = 4) | 29.0 | 0.900 | 900 | 4.0 |" in text
    assert "| plain | 0 | 0.100 |  |  | 30.0 | 1.000 | 30 |" in text


def cell(arm: str, seed: int, passed: float, success: list[float], **more: object) -> dict[str, Any]:
    curves = {"train/success_rate": success, "train/kl": [1.0] * len(success), "time/learning_seconds": [2.0] * len(success)}
    interval = {"pass@1_low": passed - 0.02, "pass@1_high": passed + 0.02}
    test = {"pass@1": passed, "pass@8": passed, **interval, "mean_length": 9.0, "end_rate": 1.0}
    about = {"task": "game24", "data": "generator", "arm": arm, "seed": seed, "iterations": len(success)}
    ran = {"wall_seconds": 3.0 * len(success), "resumed": False, "environment": {"python": "3"}}
    return {**about, "curves": curves, "test": test, **ran, **more}


def report_of(folder: Path, cells: list[dict[str, Any]], is_current: Callable[[dict[str, Any]], bool] = lambda cell: True) -> str:
    import rlsf
    import rlsf_report

    for i, each in enumerate(cells):
        (folder / f"{i}.json").write_text(json.dumps(each))
    return rlsf_report.report(folder, rlsf.SOURCES, 60, is_current, {"boolean_half_kl": "half the weight of the KL"})


def row_of(text: str, begins: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(begins))


def test_the_comparison_counts_seeds_beyond_the_spread_and_the_rollouts_that_were_needed(tmp_path: Path) -> None:
    import rlsf
    import rlsf_report

    cells = []
    for seed in (1, 2, 3):
        rising = [0.1 + 0.01 * i for i in range(60)]
        halves = [value / 2 for value in rising]
        arms = {"boolean": (0.2, halves), "token": (0.2 + 0.01 * seed, rising), "shuffled": (0.25, halves)}
        cells += [cell(arm, seed, passed, success) for arm, (passed, success) in arms.items()]
    text = report_of(tmp_path, cells)
    assert (
        "- game24-generator: 3 seeds: every token seed above every Boolean one; from the same start token is above in 3 of them."
        in text
    )
    assert "Every seed of the token arm above every seed of the Boolean one: game24-generator;" in text
    # Boolean's last ten are 0.3225 on average; the mean of ten of 0.1 + 0.01 i is there first at i = 18 to 27.
    assert "| 2.0 [1.0, 3.0] | -3.0 [-4.0, -2.0] | 0.47 [0.47, 0.47] (3 of 3 seeds); 1.00 [1.00, 1.00] |" in text
    assert "At most half of the rollouts in every seed: game24-generator." in text
    drawn = rlsf_report.pictures(tmp_path, rlsf.SOURCES)
    assert drawn.keys() == {"game24-generator"}
    assert "(" + tmp_path.name + "/game24-generator.svg)" in text
    # The means of the first ten and the last: 0.145 and 0.645, Boolean's half as large; a line has a point for each window.
    assert "token: 0.645" in drawn["game24-generator"]
    assert "boolean: 0.323" in drawn["game24-generator"]
    assert {line.count(",") for line in drawn["game24-generator"].splitlines() if "polyline" in line} == {51}


def test_what_a_row_of_the_comparison_cannot_be_read_without_is_marked_in_it(tmp_path: Path) -> None:
    long, short = [0.1] * 60, [0.1] * 20
    cells = [
        cell("token", 1, 0.3, short),
        cell("token", 2, 0.3, long),
        cell("boolean", 1, 0.2, long),
        cell("continued", 1, 0.2, short),
    ]
    del cells[2]["test"]["pass@8"]
    trial = {key: value for key, value in cell("shuffled", 100, 0.0, short, trial="gae").items() if key != "test"}
    trial["curves"]["train/mean_length"] = [7.5] * 20
    text = report_of(tmp_path, [*cells, trial], lambda cell: cell["arm"] not in ("boolean", "shuffled"))
    assert row_of(text, "| game24-generator |").endswith(
        "| - / 9.0 / 9.0 / 9.0 / - | - / 1.000 / 1.000 / 1.000 / - | 1 of 3 seeds; too short: token; older recipe: boolean |"
    )
    assert row_of(text, "| retrosynthesis-uspto50k |").endswith("| one seed |")
    assert "| + token reward | 1, 2 (not run: 3) | 20/60 (too short) |" in text
    assert "| + Boolean reward | 1 (not run: 2, 3) (older recipe: 1) | 60 |" in text
    assert "seconds | 1 (not run: 2, 3) | 20 |" in text, "as many as the token arm's seconds allow"
    assert "| game24, generator | shuffled | gae (older recipe) | 20 | 0.100 | 7.5 |  |" in text
    assert "- game24-generator (too short: token; older recipe: boolean): one seed: no spread;" in text


def test_a_column_is_there_only_if_a_cell_has_what_it_shows(tmp_path: Path) -> None:
    made = cell("token", 1, 0.3, [0.1] * 60)
    del made["test"]["pass@8"]
    assert "| minutes | pass@1 | KL, nats |" in report_of(tmp_path, [made])
    made["test"]["pass@4"] = 0.4
    assert "| minutes | pass@1 | pass@4 | KL, nats |" in report_of(tmp_path, [made])


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ({1: 0.23}, "one seed: no spread; token 3.0 points above Boolean, 95 % intervals of the problems overlap"),
        ({1: 0.15}, "one seed: no spread; token 5.0 points below Boolean, 95 % intervals of the problems do not overlap"),
        ({1: 0.30, 2: 0.19}, "2 seeds: token above Boolean in 1 of them; beyond the spread is judged from 3 seeds on"),
        ({1: 0.10, 2: 0.11, 3: 0.12}, "3 seeds: every token seed below every Boolean one"),
        (
            {1: 0.10, 2: 0.11, 3: 0.30},
            "3 seeds: the ranges of both arms overlap; from the same start token is above in 1 of them",
        ),
    ],
)
def test_the_verdict_says_on_how_many_seeds_it_rests(token: dict[int, float], said: str, tmp_path: Path) -> None:
    cells = [cell(arm, seed, passed, [0.1] * 60) for seed in token for arm, passed in (("token", token[seed]), ("boolean", 0.2))]
    text = report_of(tmp_path, cells)
    assert f"- game24-generator: {said}" in text
    assert ("No source has three seeds of both arms yet." in text) == (len(token) < 3)


def test_a_start_that_solves_too_little_or_too_much_is_told(tmp_path: Path) -> None:
    text = report_of(tmp_path, [cell("start", seed, passed, []) for seed, passed in ((1, 0.0292), (2, 0.03), (3, 0.31))])
    assert "- game24-generator: 2.92 %, below the range (seed 1), 3.00 % (seed 2), 31.00 %, above the range (seed 3)" in text
    assert "- molecules-generator: not run" in text
    assert "- molecules-zinc" not in text, "only generators can be made harder or easier"


def test_the_hours_count_all_pieces_of_a_run_that_was_interrupted(tmp_path: Path) -> None:
    one_piece, last_piece = cell("token", 1, 0.3, [0.1] * 1200), cell("boolean", 1, 0.2, [0.1] * 1800)
    last_piece.update(wall_seconds=10.0, resumed=True)
    text = report_of(tmp_path, [one_piece, last_piece])  # an hour, and 1800 iterations of two seconds
    assert (
        "Training took 2.0 hours of one thread, over 2 cells and trials. Of those that went on after an interruption (1) only"
        in text
    )


def test_a_cell_is_run_again_if_its_iterations_its_trial_or_its_recipes_are_others_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import rlsf
    from runs import Scale

    ran: list[str] = []
    successes = {"gae": 0.1, "rloo": 0.2}

    def start_cell(bench: rlsf.Bench, source: rlsf.Source, seed: int) -> dict[str, Any]:
        ran.append("start")
        return cell("start", seed, 0.1, [])

    def trial(bench: rlsf.Bench, source: rlsf.Source, arm: str, trial: str) -> dict[str, Any]:
        ran.append(f"{arm}, {trial}")
        made = cell(arm, 100, 0.0, [successes[trial]] * bench.tuning_iterations, trial=trial)
        return {key: value for key, value in made.items() if key != "test"}

    def arm_cell(bench: rlsf.Bench, source: rlsf.Source, arm: str, seed: int, trial: str) -> dict[str, Any]:
        ran.append(f"{arm}, {trial}, {bench.iterations}")
        return cell(arm, seed, 0.2, [0.1] * bench.iterations, trial=trial)

    def continued_cell(bench: rlsf.Bench, source: rlsf.Source, seed: int, seconds: float) -> dict[str, Any]:
        ran.append(f"continued, {seconds:g} s")
        return cell("continued", seed, 0.2, [], token_seconds=seconds)

    for stand_in in (start_cell, trial, arm_cell, continued_cell):
        monkeypatch.setattr(rlsf.Bench, stand_in.__name__, stand_in)

    def group(iterations: int, tuning_iterations: int = 10, arms: tuple[str, ...] = ("token", "continued")) -> list[str]:
        ran.clear()
        bench = rlsf.Bench(Scale.of("rlsf", tmp_path), iterations, tuning_iterations, math.inf)
        bench.group(rlsf.SOURCES[0], 1, arms)
        return list(ran)

    trials = ["token, gae", "token, rloo"]
    assert group(20) == [*trials, "start", "token, rloo, 20", "continued, 40 s"]
    assert group(20) == []
    assert group(60) == ["token, rloo, 60", "continued, 120 s"]
    successes["gae"] = 0.3
    assert group(60) == [], "the trials are there"
    assert group(60, 15) == [*trials, "token, gae, 60"], "the token arm took as long"
    monkeypatch.setattr(rlsf, "digest_of", lambda source, recipe: "another")
    assert group(60, 15) == [*trials, "start", "token, gae, 60", "continued, 120 s"]

    path = tmp_path / "results" / "rlsf" / "game24-generator-token-seed1.json"
    found = json.loads(path.read_text())
    assert rlsf.is_current(found)
    assert not rlsf.is_current({**found, "recipes": "this"})


def test_a_control_is_its_arms_run_with_one_setting_changed_and_shown_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import rlsf
    from runs import Scale

    source = next(each for each in rlsf.SOURCES if each.name == "retrosynthesis-generator")
    bench = rlsf.Bench(Scale.of("rlsf", tmp_path), 60, 15, math.inf, ("rloo",))
    made = []
    monkeypatch.setattr(rlsf.Bench, "start_cell", lambda *about: cell("start", 1, 0.1, []))
    monkeypatch.setattr(
        rlsf.Bench, "arm_cell", lambda bench, source, *about: made.append(about) or cell(about[0], 1, 0.2, [0.1] * 60)
    )
    bench.group(source, 1, ("boolean_half_kl", "token_plain"))  # the latter is one of molecules
    bench.group(source, 2, ("boolean_half_kl",))
    assert made == [("boolean_half_kl", 1, "rloo")]
    control, arm = (bench.trained(source, name, 1, 60, "rloo") for name in ("boolean_half_kl", "boolean"))
    assert control.configs == arm.configs
    assert control.folder != arm.folder
    changed = ("--model.kl.coefficient", "0.005")
    assert [each for each in control.flags if each not in changed] == list(arm.flags)
    assert changed in zip(control.flags, control.flags[1:], strict=False)

    low_high = {"pass@1_low": 0.15, "pass@1_high": 0.25}
    cells = [cell("boolean", 1, 0.21, [0.1] * 60), cell("boolean_half_kl", 1, 0.2, [0.1] * 60)]
    cells[1]["test"] |= low_high
    text = report_of(tmp_path, cells)
    assert "| `boolean_half_kl` | game24-generator | 1 | not run | 0.210 | not run | 0.200 [0.150, 0.250] |" in text
    assert "- boolean_half_kl, seed 1: 10: 0.100" in text


def test_a_run_of_another_estimator_or_length_has_a_folder_of_its_own(tmp_path: Path) -> None:
    import rlsf
    from runs import Scale

    bench = rlsf.Bench(Scale.of("rlsf", tmp_path), 60, 15, math.inf)
    ways = [(seed, iterations, trial) for seed in (1, 100) for iterations in (15, 60) for trial in ("gae", "rloo")]
    runs = [bench.trained(rlsf.SOURCES[0], "token", *way) for way in ways]
    assert len({run.folder for run in runs}) == len(ways)


def test_a_cell_that_is_killed_while_it_is_written_is_not_there_or_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import rlsf
    from runs import Scale, run_cells

    def killed(path: Path, text: str) -> None:
        with path.open("w") as file:
            file.write(text[: len(text) // 2])
        raise KeyboardInterrupt

    path = tmp_path / "results" / "rlsf" / "made.json"
    bench = rlsf.Bench(Scale.of("rlsf", tmp_path), 60, 15, math.inf)
    made = cell("token", 1, 0.2, [0.1] * 60)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            run_cells([(path, lambda: made)], 1)
        assert not path.exists()
    run_cells([(path, lambda: made)], 1)
    before = path.read_text()
    assert json.loads(before)["seed"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.cell("made", rlsf.SOURCES[0], "token", lambda: {**made, "seed": 2})
    assert path.read_text() == before
    assert "game24-generator" in report_of(path.parent, [])
    assert bench.cell("made", rlsf.SOURCES[0], "token", lambda: {**made, "seed": 2}) is not None
    assert [(file.name, json.loads(file.read_text())["seed"]) for file in path.parent.iterdir()] == [("made.json", 2)]
