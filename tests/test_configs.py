"""Every shipped config parses against the signatures, and every recipe runs."""

import csv
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lit_symbolic.cli import SymbolicCLI
from tiny import CONFIGS, ROOT, tiny_args

OVERLAYS = sorted((CONFIGS / "models").glob("*.yaml"))
SWEEPS = sorted((CONFIGS / "sweeps").glob("*.yaml"))
RECIPES = sorted(set(CONFIGS.glob("*/*.yaml")) - {*OVERLAYS, *SWEEPS})
GAME24 = [recipe for recipe in RECIPES if recipe.parent.name == "game24"]
TASKS = {"game24", "pseudocode", "molecules", "forward_synthesis", "retrosynthesis"}

STEPS = [
    *((recipe, CONFIGS / "models" / "tiny.yaml") for recipe in RECIPES),
    *(
        (CONFIGS / "game24" / f"{name}.yaml", overlay)
        for name in ("sft", "ppo_token")
        for overlay in OVERLAYS
        if overlay.stem != "tiny"
    ),
    *(
        (CONFIGS / task / f"{name}.yaml", CONFIGS / "models" / f"{overlay}.yaml")
        for task, name, overlay in (
            ("pseudocode", "ppo_token", "codegemma_2b"),
            ("molecules", "ppo_three_tools", "galactica_1.3b"),
            ("forward_synthesis", "ppo_token", "galactica_1.3b"),
            ("retrosynthesis", "ppo_boolean", "llama2_7b"),
        )
    ),
]
"""Every recipe with the tiny model, both modules under every overlay, and every task under one that its paper names."""

ANSWERS = {
    "success_rate",
    "pass@1",
    "pass@8",
    "step_validity",
    "mean_length",
    "end_rate",
    "error_token_fraction",
    "no_evidence_count",
}
LEARNING = {"approx_kl", "clipfrac", "entropy", "ratio_max", "kl_reward", "task_reward", "kl"}

# The class of each overlay's model, by its name in tests/support/architectures.py.
CLASSES = {
    "llama2_7b": "llama",
    "mistral_7b": "mistral",
    "codegemma_2b": "gemma",
    "galactica_1.3b": "opt",
    "qwen2.5_7b": "qwen2",
    "llama3.1_8b": "llama",
}

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


def holds(found: Any, wanted: Any) -> bool:
    """Whether a parsed value is the one that a config asks for: classes by their short name, what is not given filled in."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(holds(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(holds, found, wanted))
    return str(found).endswith(str(wanted))


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def label(recipe: Path) -> str:
    return f"{recipe.parent.name}/{recipe.stem}"


def test_there_are_the_recipes_and_overlays_that_the_readme_promises() -> None:
    assert {f"{task}/{name}" for task in TASKS for name in ("sft", "ppo_token", "ppo_boolean")} <= set(map(label, RECIPES))
    assert {"tiny", "qlora", *CLASSES} == set(names(OVERLAYS))
    assert "game24" in names(SWEEPS)


@pytest.mark.parametrize("recipe", RECIPES, ids=label)
def test_a_recipe_parses_and_each_of_its_keys_arrives(recipe: Path, parse: Parse) -> None:
    parsed = dict(flat(parse(f"--config={recipe}")))
    for key, value in flat(yaml.safe_load(recipe.read_text())):
        assert holds(parsed[key], value), key


@pytest.mark.parametrize("overlay", OVERLAYS, ids=names(OVERLAYS))
@pytest.mark.parametrize("recipe", RECIPES, ids=label)
def test_an_overlay_parses_over_every_recipe_and_wins(recipe: Path, overlay: Path, parse: Parse) -> None:
    parsed = dict(flat(parse(f"--config={recipe}", f"--config={overlay}")))
    for key, value in flat(yaml.safe_load(overlay.read_text())):
        assert holds(parsed[key], value), key


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of the class of each overlay, with the game's words and, where the overlay asks for it, a chat template."""
    from architectures import save_architecture
    from lit_symbolic.policies.tiny import tiny_tokenizer
    from lit_symbolic.tasks.game24 import Game24

    tokenizer = tiny_tokenizer(Game24(max_value=50).vocabulary())
    folder = tmp_path_factory.mktemp("stand_ins")
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 1024}
    tokenizer.chat_template = "{{ bos_token }}{{ messages[0]['content'] }}"
    return {name: save_architecture(name, folder, tokenizer, **sizes) for name in {*CLASSES.values(), "llama"}}


@pytest.mark.parametrize(("recipe", "overlay"), STEPS, ids=[f"{label(recipe)}-{overlay.stem}" for recipe, overlay in STEPS])
def test_every_recipe_and_every_overlay_takes_a_step_with_a_tiny_model_of_its_class(
    recipe: Path, overlay: Path, run_cli: RunCLI, stand_ins: dict[str, Path], tmp_path: Path
) -> None:
    if recipe.parent.name == "pseudocode" and shutil.which("g++") is None:
        pytest.skip("needs g++")
    name = CLASSES.get(overlay.stem, "llama")
    small = (
        [f"--model.policy.init_args.{size}" for size in ("hidden_size=16", "layers=1", "heads=2", "intermediate_size=32")]
        if overlay.stem == "tiny"
        else [f"--model.policy.init_args.name={stand_ins[name]}"]
    )
    sampled = ["problems=1", "samples=2", "epochs=1", "max_new_tokens=6", "init_from=null", "critic_warmup_iterations=0"]
    # Answers of random weights all fail alike: where only the last token is paid, entropy is what there is to learn.
    sampled += ["entropy_coefficient=0.01"]
    rows = ["demonstrations=2"] if recipe.stem == "sft" else sampled
    cli = run_cli(
        [
            "fit",
            f"--config={recipe}",
            f"--config={overlay}",
            *small,
            *(f"--model.{setting}" for setting in rows),
            "--trainer.max_epochs=1",
            "--trainer.accelerator=cpu",
            "--trainer.num_sanity_val_steps=0",
            "--trainer.limit_val_batches=0",
            "--trainer.enable_progress_bar=false",
            "--trainer.logger=false",
            "--reward.workers=1",
            "--export.enabled=false",
            f"--trainer.default_root_dir={tmp_path}",
        ]
    )
    assert cli.trainer.global_step == 1
    losses = (
        ["train/loss"] if recipe.stem == "sft" else ["train/policy_loss", *(["train/value_loss"] if cli.model.critic else [])]
    )
    assert all(math.isfinite(float(cli.trainer.callback_metrics[loss])) for loss in losses)
    model = cli.model.model
    assert model.config.model_type == name
    trained = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    assert trained == {torch.float32}, "a step of training would be rounded away"
    if overlay.stem != "tiny":
        moved = [bool(p.any()) for name, p in model.named_parameters() if ".lora_B.default." in name]  # they start at zero
        assert any(moved), "the policy itself has learned"
        assert model.is_quantized
        assert type(cli.trainer.optimizers[0]).__name__.lower() == cli.model.optimization.optimizer.replace("_", "")


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


@pytest.mark.parametrize(("sweep", "mode", "expected"), [("", None, "offline"), ("s1", None, None), ("s1", "offline", "offline")])
def test_a_run_is_offline_by_default_but_under_the_agent_of_a_sweep(
    sweep: str, mode: str | None, expected: str | None, parse: Parse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", sweep)
    if mode is None:
        monkeypatch.delenv("WANDB_MODE", raising=False)
    else:
        monkeypatch.setenv("WANDB_MODE", mode)
    parse(f"--config={CONFIGS / 'game24' / 'ppo_token.yaml'}")
    assert os.environ.get("WANDB_MODE") == expected


def test_a_sweep_turns_scheme_kl_and_learning_rate_and_reads_a_metric_that_is_logged(ppo_run: SymbolicCLI) -> None:
    content = yaml.safe_load(SWEEPS[0].read_text())
    turned = {"reward.scheme", "model.advantage.gamma", "model.kl.coefficient", "model.optimization.learning_rate"}
    assert set(content["parameters"]) == turned
    assert content["metric"]["name"] in ppo_run.trainer.callback_metrics


@pytest.mark.parametrize("recipe", names(GAME24))
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
        of_a_critic = {"train/value_loss", "train/explained_variance"}
        assert {f"train/{name}" for name in ANSWERS | LEARNING} <= metrics.keys()
        assert of_a_critic & metrics.keys() == (of_a_critic if cli.model.critic else set())
        assert {"verify/seconds_hidden", "verify/seconds_waited", "train/policy_loss"} <= metrics.keys()
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
