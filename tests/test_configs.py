"""Every shipped config parses against the signatures, and every recipe runs."""

import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_symbolic.cli import SymbolicCLI
from tiny import CONFIGS, ROOT, tiny_args

RECIPES = sorted((CONFIGS / "game24").glob("*.yaml"))
OVERLAYS = sorted((CONFIGS / "models").glob("*.yaml"))
SWEEPS = sorted((CONFIGS / "sweeps").glob("*.yaml"))

ANSWERS = {"success_rate", "pass@1", "pass@8", "step_validity", "mean_length", "error_token_fraction", "no_evidence_count"}
LEARNING = {"approx_kl", "clipfrac", "explained_variance", "entropy", "ratio_max", "kl_reward", "task_reward", "kl"}

RunCLI = Callable[[list[str]], SymbolicCLI]
Parse = Callable[..., dict[str, Any]]


@pytest.fixture
def parse(run_cli: RunCLI, capsys: pytest.CaptureFixture[str]) -> Parse:
    """The config that a command line gives, as it would be printed."""

    def parsed(*args: str) -> dict[str, Any]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            run_cli(["fit", *args, "--print_config"])
        output = capsys.readouterr()
        assert ending.value.code == 0, output.err
        return yaml.safe_load(output.out)

    return parsed


def flat(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted paths of a config, ``init_args`` left out, as a command line writes them."""
    if not isinstance(node, dict) or not node:
        yield path, node
        return
    for key, value in node.items():
        yield from flat(value, path if key == "init_args" else f"{path}.{key}" if path else key)


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def test_there_are_the_recipes_and_overlays_that_the_readme_promises() -> None:
    assert {"sft", "ppo_token", "ppo_boolean"} <= set(names(RECIPES))
    assert {"tiny", "qlora"} <= set(names(OVERLAYS))
    assert "game24" in names(SWEEPS)


@pytest.mark.parametrize("recipe", RECIPES, ids=names(RECIPES))
def test_a_recipe_parses_and_each_of_its_keys_arrives(recipe: Path, parse: Parse) -> None:
    parsed = dict(flat(parse(f"--config={recipe}")))
    for key, value in flat(yaml.safe_load(recipe.read_text())):
        assert str(parsed[key]).endswith(str(value)), key


@pytest.mark.parametrize("overlay", OVERLAYS, ids=names(OVERLAYS))
@pytest.mark.parametrize("recipe", RECIPES, ids=names(RECIPES))
def test_an_overlay_parses_over_every_recipe_and_wins(recipe: Path, overlay: Path, parse: Parse) -> None:
    parsed = dict(flat(parse(f"--config={recipe}", f"--config={overlay}")))
    for key, value in flat(yaml.safe_load(overlay.read_text())):
        assert str(parsed[key]).endswith(str(value)), key


SWEPT = [
    (sweep, key, value)
    for sweep in SWEEPS
    for key, settings in yaml.safe_load(sweep.read_text())["parameters"].items()
    for value in settings.get("values", [settings.get("value")])
]


@pytest.mark.parametrize(("sweep", "key", "value"), SWEPT, ids=[f"{s.stem}-{k}-{v}" for s, k, v in SWEPT])
def test_a_value_of_a_sweep_arrives_from_the_command_line(sweep: Path, key: str, value: Any, parse: Parse) -> None:
    content = yaml.safe_load(sweep.read_text())
    assert (ROOT / content["program"]).is_file()
    command = [part for part in content["command"] if not part.startswith("${")]
    assert command[0] == "fit"
    fixed = [str(ROOT / part) if part.endswith(".yaml") else part for part in command[1:]]
    parsed = dict(flat(parse(*fixed, f"--{key}={value}")))
    assert parsed[key] == value
    assert parsed["trainer.logger.class_path"].endswith("WandbLogger")


def test_a_sweep_turns_scheme_kl_and_learning_rate_and_reads_a_metric_that_is_logged(ppo_run: SymbolicCLI) -> None:
    content = yaml.safe_load(SWEEPS[0].read_text())
    turned = {"reward.scheme", "model.advantage.gamma", "model.kl.coefficient", "model.optimization.learning_rate"}
    assert set(content["parameters"]) == turned
    assert content["metric"]["name"] in ppo_run.trainer.callback_metrics


@pytest.mark.parametrize("recipe", names(RECIPES))
def test_a_recipe_runs_and_logs_what_it_measures(
    recipe: str, run_cli: RunCLI, sft_run: SymbolicCLI, ppo_run: SymbolicCLI, sft_checkpoint: Path, tmp_path: Path
) -> None:
    done = {"sft": sft_run, "ppo_token": ppo_run}
    cli = done.get(recipe) or run_cli(tiny_args(recipe, tmp_path, start=sft_checkpoint))
    assert cli.trainer.current_epoch == 2
    metrics = {name: float(value) for name, value in cli.trainer.callback_metrics.items()}
    assert {f"val/{name}" for name in ANSWERS} | {"val/pass@1_low", "val/pass@1_high"} <= metrics.keys()
    assert {"time/sampling_seconds", "time/learning_seconds"} <= metrics.keys()
    if recipe == "sft":
        assert 0 < metrics["train/loss"] < 10
    else:
        assert {f"train/{name}" for name in ANSWERS | LEARNING} <= metrics.keys()
        assert {"verify/seconds_hidden", "verify/seconds_waited", "train/policy_loss", "train/value_loss"} <= metrics.keys()
        assert metrics["verify/seconds_hidden"] + metrics["verify/seconds_waited"] > 0
    assert [name for name, value in metrics.items() if not math.isfinite(value)] == []

    folder = Path(cli.trainer.default_root_dir)
    report = (folder / "report.html").read_text()
    assert "before training" in report
    assert "success" in report
    log = next(folder.glob("**/metrics.csv"))
    rows = list(csv.DictReader(log.open()))
    validated = [row for row in rows if row["val/pass@1"]]
    assert len(validated) == 3, "one before training and one after each iteration"
    assert next(folder.glob("**/config.yaml")).is_file()


def test_the_iterations_of_a_run_differ_but_two_runs_do_not(run_cli: RunCLI, sft_run: SymbolicCLI, tmp_path: Path) -> None:
    losses = []
    for cli in (sft_run, run_cli(tiny_args("sft", tmp_path))):
        log = next(Path(cli.trainer.default_root_dir).glob("**/metrics.csv"))
        losses.append([row["train/loss"] for row in csv.DictReader(log.open()) if row["train/loss"]])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 2
