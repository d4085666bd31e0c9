"""``python -m lit_symbolic.export``: from any checkpoint of a run to a folder that other programs open."""

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_symbolic.cli import SymbolicCLI
from lit_symbolic.export import main
from lit_symbolic.policies.exporting import write_policy
from tiny import checkpoint_of

RunCLI = Callable[[list[str]], SymbolicCLI]
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def config_of(cli: SymbolicCLI) -> Path:
    return next(Path(cli.trainer.default_root_dir).glob("logs/*/config.yaml"))


def arguments(cli: SymbolicCLI, folder: Path, *more: str) -> list[str]:
    return [f"--config={config_of(cli)}", f"--checkpoint={checkpoint_of(cli)}", f"--to={folder}", *more]


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits.float()


def opened(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def refusal(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """Exit status and the last line that was printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        main(args)
    return ending.value.code, capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def adapted_run(run_cli: RunCLI, sft_run: SymbolicCLI, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SymbolicCLI]:
    """An iteration with LoRA on the model that ``sft_run`` exported."""

    def run(module: str, quantization: str) -> SymbolicCLI:
        folder = tmp_path_factory.mktemp("run")
        base = Path(sft_run.trainer.default_root_dir) / "model"
        policy = {"name": str(base), "quantization": quantization, "dtype": "float32", "lora": {"r": 2}}
        size = {"SFTModule": {"demonstrations": 8}, "PPOModule": {"problems": 2, "samples": 2, "critic_warmup_iterations": 0}}
        config = {
            "model": {
                "class_path": module,
                "init_args": {
                    "policy": {"class_path": "HuggingFacePolicy", "init_args": policy},
                    "max_new_tokens": 40,
                    "optimization": {"learning_rate": 0.1},
                    **size[module],
                },
            },
            "data": {
                "task": {"class_path": "Game24", "init_args": {"max_card": 8, "validation_problems": 2, "test_problems": 2}}
            },
            "reward": {"scheme": "token_penalty", "workers": 1},
            "trainer": {"max_epochs": 1, "accelerator": "cpu", "limit_val_batches": 0, "default_root_dir": str(folder)},
            "progress": {"refresh_rate": 0},
        }
        (folder / "recipe.yaml").write_text(yaml.safe_dump(config))
        return run_cli(["fit", f"--config={folder / 'recipe.yaml'}"])

    return run


@pytest.mark.parametrize("run", ["sft_run", "ppo_run"])
def test_a_whole_model_is_exported_as_the_run_itself_exported_it(
    run: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = request.getfixturevalue(run)
    assert main(arguments(cli, tmp_path / "model")) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'model'}\n"
    own = Path(cli.trainer.default_root_dir) / "model"
    # The value head of PPO is no part of it, and a policy's start, here another checkpoint, is not needed.
    assert {path.name for path in own.iterdir()} == {path.name for path in (tmp_path / "model").iterdir()}
    for path in own.iterdir():
        assert (tmp_path / "model" / path.name).read_bytes() == path.read_bytes(), path.name
    assert torch.equal(logits(opened(tmp_path / "model")), logits(cli.model.model))


@pytest.mark.parametrize(("module", "quantization"), [("SFTModule", "nf4"), ("PPOModule", "none"), ("PPOModule", "nf4")])
def test_an_adapter_is_exported_by_itself_or_merged_with_the_logits_of_the_run(
    module: str, quantization: str, adapted_run: Callable[..., SymbolicCLI], tmp_path: Path
) -> None:
    cli = adapted_run(module, quantization)
    trained = logits(cli.model.model)
    main(arguments(cli, tmp_path / "adapter"))
    main(arguments(cli, tmp_path / "merged", "--merged", "--dtype=float32"))
    own = Path(cli.trainer.default_root_dir) / "model"
    for name in ("adapter_model.safetensors", "adapter_config.json", "tokenizer.json"):
        assert (tmp_path / "adapter" / name).read_bytes() == (own / name).read_bytes()
    torch.testing.assert_close(logits(opened(tmp_path / "merged")), trained, atol=5e-5, rtol=0)
    if quantization == "none":
        torch.testing.assert_close(logits(opened(tmp_path / "adapter")), trained, atol=5e-5, rtol=0)
    words = AutoTokenizer.from_pretrained(tmp_path / "merged").get_vocab()
    assert words == cli.model.tokenizer.get_vocab()


def test_a_folder_in_the_way_is_replaced_only_when_told_to_and_only_a_model(
    sft_run: SymbolicCLI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    write_policy(sft_run.model.model, sft_run.model.tokenizer, folder)
    (folder / "stale.txt").write_text("old")
    status, line = refusal(arguments(sft_run, folder), capsys)
    assert status == 2
    assert "is not empty; give --overwrite" in line
    assert main(arguments(sft_run, folder, "--overwrite")) == 0
    assert not (folder / "stale.txt").exists()
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("years")
    status, line = refusal(arguments(sft_run, tmp_path / "papers", "--overwrite"), capsys)
    assert status == 2
    assert "holds no model but other files" in line


def test_what_is_wrong_is_told_in_one_line(
    sft_run: SymbolicCLI, ppo_run: SymbolicCLI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, checkpoint, to = arguments(sft_run, tmp_path / "model")
    (tmp_path / "torn.ckpt").write_bytes(checkpoint_of(sft_run).read_bytes()[:2000])
    (tmp_path / "notes.yaml").write_text("a: 1")
    broken = yaml.safe_load(config_of(sft_run).read_text())
    other, unknown, moved = ({**broken, "model": yaml.safe_load(yaml.safe_dump(broken["model"]))} for _ in range(3))
    other["model"]["init_args"]["policy"]["init_args"]["hidden_size"] = 32
    unknown["model"]["init_args"]["policy"]["init_args"]["hiden_size"] = 32
    moved["model"]["init_args"]["init_from"] = str(tmp_path / "gone")
    for name, content in (("other", other), ("unknown", unknown), ("moved", moved)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    wrong = [
        ([config, "--checkpoint=missing.ckpt", to], 2, "--checkpoint: there is no file missing.ckpt"),
        (["--config=missing.yaml", checkpoint, to], 2, "--config: there is no file missing.yaml"),
        ([f"--config={tmp_path / 'notes.yaml'}", checkpoint, to], 2, "is not the config of a run, which names model.policy"),
        ([f"--config={tmp_path / 'unknown.yaml'}", checkpoint, to], 2, "hiden_size"),
        ([f"--config={tmp_path / 'other.yaml'}", checkpoint, to], 1, "do not belong to this policy"),
        ([f"--config={tmp_path / 'moved.yaml'}", checkpoint, to], 1, "gone and may hold the base"),
        ([config, f"--checkpoint={tmp_path / 'torn.ckpt'}", to], 1, "is not a Lightning checkpoint of this package"),
        ([config, checkpoint, to, "--merged"], 1, "no adapters to merge"),
        ([config, checkpoint, to, "--merge"], 2, "unrecognized arguments: --merge"),
        ([config, checkpoint, to, "--dtype=int8"], 2, "int8"),
        ([config, checkpoint], 2, "to"),
    ]
    for args, status, message in wrong:
        found, line = refusal(args, capsys)
        assert (found, line[:7]) == (status, "error: "), line
        assert message in line
    assert not (tmp_path / "model").exists()


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_it_is_a_command_and_the_folder_outlives_the_run(
    sft_run: SymbolicCLI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(sft_run.trainer.default_root_dir, tmp_path / "run"))
    config = next(run.glob("logs/*/config.yaml"))
    options = ["--config", config, "--checkpoint", run / "checkpoints" / "last.ckpt", "--to", tmp_path / "model"]
    monkeypatch.setattr("sys.argv", ["lit_symbolic/export.py", *map(str, options)])
    with pytest.raises(SystemExit) as ending:
        runpy.run_module("lit_symbolic.export", run_name="__main__")
    assert ending.value.code == 0
    shutil.rmtree(run)
    assert torch.equal(logits(opened(tmp_path / "model")), logits(sft_run.model.model))
