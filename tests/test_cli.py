"""The command line: four subcommands, warm starts, loggers, and one clear line for each mistake."""

import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from lit_symbolic.cli import SymbolicCLI, concise, main
from lit_symbolic.rollouts.batch import SampledAnswer
from tiny import CONFIGS, ROOT, checkpoint_of, loaded, same, tiny_args, weights

RunCLI = Callable[[list[str]], SymbolicCLI]
Refusal = Callable[[Sequence[str]], str]
SFT, PPO = CONFIGS / "game24/sft.yaml", CONFIGS / "game24/ppo_token.yaml"


@pytest.fixture
def refusal(run_cli: RunCLI, capfd: pytest.CaptureFixture[str]) -> Refusal:
    """The one line with which a command line is refused."""

    def refused(args: Sequence[str]) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ending:
            run_cli(list(args))
        output = capfd.readouterr()
        assert ending.value.code not in (0, None)
        lines = [line for line in output.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, output.err
        assert output.err.splitlines()[-1] == lines[0], "nothing stands after the line that matters"
        assert "Traceback" not in output.err + output.out
        assert "usage:" not in output.err + output.out
        assert len(lines[0]) < 1000
        return lines[0]

    return refused


@pytest.fixture
def file_with(tmp_path: Path) -> Callable[[str], str]:
    """A config file with some text."""

    def written(text: str) -> str:
        path = tmp_path / "laid_over.yaml"
        path.write_text(text)
        return f"--config={path}"

    return written


# ---------------------------------------------------------------- subcommands


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
@pytest.mark.parametrize("written_by", ["sft", "ppo_token"])
def test_a_checkpoint_is_validated_tested_and_predicted_with(
    subcommand: str, written_by: str, run_cli: RunCLI, sft_run: SymbolicCLI, ppo_run: SymbolicCLI, tmp_path: Path
) -> None:
    trained = sft_run if written_by == "sft" else ppo_run
    args = tiny_args(written_by, tmp_path, f"--ckpt_path={checkpoint_of(trained)}", subcommand=subcommand)
    cli = run_cli(args)
    now, then = weights(cli.model.model), weights(trained.model.model)
    assert same(now, then), "the weights are those of the checkpoint"
    if subcommand == "predict":
        answers = [answer for batch in cli.trainer.predict_loop.predictions for answer in batch]
        assert len(answers) == 4 * 8
        for answer in answers:
            check_prediction(answer)
        held_out = [problem.id for problem in cli.datamodule.task.problems("test")[:4]]
        assert [answer.problem.id for answer in answers[::8]] == held_out
        (written,) = tmp_path.glob("**/predictions.jsonl")
        assert [json.loads(line)["answer"] for line in written.read_text().splitlines()] == [answer.text for answer in answers]
    else:
        stage = {"validate": "val", "test": "test"}[subcommand]
        metrics = {name: float(value) for name, value in cli.trainer.callback_metrics.items()}
        assert {f"{stage}/pass@1", f"{stage}/pass@8", f"{stage}/success_rate", f"{stage}/step_validity"} <= metrics.keys()
        assert all(math.isfinite(value) for value in metrics.values())
        if subcommand == "validate":
            during = {name: float(value) for name, value in trained.trainer.callback_metrics.items() if name in metrics}
            assert metrics == pytest.approx(during), "as in the validation during training"


def check_prediction(answer: SampledAnswer) -> None:
    assert isinstance(answer, SampledAnswer)
    assert len(answer.spans) == len(answer.rewards) == len(answer.loss_mask) > 0
    assert all(0 <= start <= end <= len(answer.text) for start, end in answer.spans)
    assert all(end <= start for (_, end), (start, _) in zip(answer.spans, answer.spans[1:], strict=False))
    assert all(math.isfinite(reward) for reward in answer.rewards)
    assert all(finding.end <= len(answer.text) for finding in answer.certificate.findings)
    if answer.ended:
        assert answer.spans[-1] == (len(answer.text), len(answer.text))


# ---------------------------------------------------------------- warm start


def test_a_warm_start_from_a_checkpoint_takes_its_policy(
    run_cli: RunCLI, sft_checkpoint: Path, ppo_checkpoint: Path, tmp_path: Path
) -> None:
    for start in (sft_checkpoint, ppo_checkpoint):
        cli = run_cli(tiny_args("ppo_token", tmp_path / start.parts[-3], subcommand="validate", start=start))
        saved = {k.removeprefix("model."): v for k, v in loaded(start)["state_dict"].items() if k.startswith("model.")}
        now = weights(cli.model.model)
        assert saved
        assert same(saved, {name: now[name] for name in saved})
        assert same(weights(cli.model.reference.frozen), now), "the reference is the policy that training starts from"


def test_a_warm_start_from_a_saved_folder_takes_its_policy(
    run_cli: RunCLI, sft_run: SymbolicCLI, sft_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    sft_run.model.model.save_pretrained(folder)
    sft_run.model.tokenizer.save_pretrained(folder)
    opened, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    text = "4 * 6 = 24 (left: 24)\n"
    assert tokenizer(text)["input_ids"] == sft_run.model.tokenizer(text)["input_ids"]

    cli = run_cli(tiny_args("ppo_token", tmp_path / "run", "--trainer.max_epochs=1", start=folder))
    assert same(weights(opened), weights(cli.model.reference.frozen))
    assert same(weights(cli.model.reference.frozen), weights(sft_run.model.model))
    answers = [answer.text for answer in cli.model.validation_samples]
    again = run_cli(tiny_args("ppo_token", tmp_path / "again", subcommand="validate", start=sft_checkpoint))
    assert [answer.text for answer in again.model.validation_samples] == answers, "and writes the same answers"


# ---------------------------------------------------------------- what Lightning does beside


def test_precision_accumulation_and_clipping_are_lightnings_own(run_cli: RunCLI, sft_checkpoint: Path, tmp_path: Path) -> None:
    for recipe in ("sft", "ppo_token"):
        options = ["--trainer.precision=bf16-mixed", "--trainer.accumulate_grad_batches=2", "--trainer.gradient_clip_val=0.5"]
        cli = run_cli(tiny_args(recipe, tmp_path / recipe, *options, start=sft_checkpoint))
        minibatches = {"sft": 16 // 8, "ppo_token": 24 // 8 * getattr(cli.model, "epochs", 1)}[recipe]
        assert cli.trainer.global_step == 2 * math.ceil(minibatches / 2), "half as many optimizer steps"
        metrics = {name: float(value) for name, value in cli.trainer.callback_metrics.items()}
        assert [name for name, value in metrics.items() if not math.isfinite(value)] == []
        assert all(value.dtype == torch.float32 for value in weights(cli.model.model).values())


def test_wandb_runs_offline_and_gets_the_answers(
    run_cli: RunCLI, sft_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    run_cli(tiny_args("ppo_token", tmp_path, "--trainer.logger=WandbLogger", "--trainer.max_epochs=1", start=sft_checkpoint))
    import wandb

    wandb.finish()
    runs = list(tmp_path.glob("wandb/offline-run-*"))
    assert len(runs) == 1
    assert list(runs[0].glob("*.wandb"))
    tables = list(runs[0].glob("files/media/table/samples*.json"))
    assert tables
    assert "answer" in json.loads(tables[0].read_text())["columns"]


def test_the_csv_log_begins_before_training(sft_run: SymbolicCLI) -> None:
    log = next(Path(sft_run.trainer.default_root_dir).glob("**/metrics.csv"))
    first = next(row for row in csv.DictReader(log.open()) if row["val/pass@1"])
    assert first["step"] == "0"


def test_the_progress_bar_can_be_switched_off(run_cli: RunCLI, tmp_path: Path) -> None:
    cli = run_cli(tiny_args("sft", tmp_path, "--trainer.enable_progress_bar=false", "--trainer.max_epochs=1"))
    assert cli.trainer.current_epoch == 1


# ---------------------------------------------------------------- mistakes

MISTYPED = [
    (["--reward.sceme=token"], "sceme"),
    (["--model.smaples=4"], "smaples"),
    (["--model.kl.coeficient=0.1"], "coeficient"),
    (["--model.policy.hiden_size=16"], "hiden_size"),
    (["--trainer.max_epoch=3"], "max_epoch"),
    (["--trainer.max_epo", "3"], "max_epo"),
    (["--model.sample=4"], "sample"),
    (["--see", "3"], "see"),
    (["--data.task.max_values=50"], "max_values"),
    (["--no_such_flag"], "no_such_flag"),
]


@pytest.mark.parametrize(("flags", "named"), MISTYPED, ids=[named for _, named in MISTYPED])
def test_a_mistyped_or_abbreviated_flag_is_named(flags: list[str], named: str, refusal: Refusal, tmp_path: Path) -> None:
    assert named in refusal(tiny_args("ppo_token", tmp_path, *flags))


NESTED = [
    ("trainer:\n  max_epoks: 3\n", "max_epoks"),
    ("model:\n  init_args:\n    smaples: 3\n", "smaples"),
    ("model:\n  init_args:\n    optimization:\n      lerning_rate: 0.1\n", "lerning_rate"),
    ("model:\n  init_args:\n    policy:\n      init_args:\n        layer: 2\n", "layer"),
    ("data:\n  task:\n    init_args:\n      max_valu: 50\n", "max_valu"),
    ("reward:\n  shceme: token\n", "shceme"),
    ("model:\n  class_pth: PPOModule\n", "class_pth"),
    ("rewards:\n  scheme: token\n", "rewards"),
]


@pytest.mark.parametrize(("text", "named"), NESTED, ids=[named for _, named in NESTED])
def test_a_mistyped_key_of_a_file_is_named(
    text: str, named: str, refusal: Refusal, file_with: Callable[[str], str], tmp_path: Path
) -> None:
    assert named in refusal(tiny_args("ppo_token", tmp_path, file_with(text)))


VALUES = [
    (["--reward.scheme=tokens"], ["scheme", "tokens"]),
    (["--model.kl.place=nowhere"], ["place", "nowhere"]),
    (["--model.critic=heads"], ["critic", "heads"]),
    (["--model.problems=many"], ["problems", "many"]),
    (["--model.problems=0"], ["problems", "0"]),
    (["--model.minibatch_rows=0"], ["minibatch_rows"]),
    (["--model.clip=2"], ["clip", "2"]),
    (["--model.kl.coefficient=-1"], ["kl.coefficient"]),
    (["--model.optimization.learning_rate=fast"], ["learning_rate", "fast"]),
    (["--model.optimization.learning_rate=-1"], ["learning_rate"]),
    (["--model.evaluation.samples=0"], ["evaluation.samples"]),
    (["--reward.prefix_weight=2"], ["prefix_weight", "2"]),
    (["--reward.score_weight=2"], ["score_weight", "2"]),
    (["--reward.failure_reward=0.5"], ["failure_reward", "0.5"]),
    (["--reward.workers=0"], ["workers"]),
    (["--data.evaluation_batch=0"], ["evaluation_batch"]),
    (["--data.task.max_card=0"], ["max_card"]),
    (["--data.task=Game25"], ["Game25"]),
    (["--model=DPOModule"], ["DPOModule"]),
    (["--checkpoint.every_n_epochs=0"], ["every_n_epochs"]),
]


@pytest.mark.parametrize(("flags", "named"), VALUES, ids=[" ".join(flags)[2:] for flags, _ in VALUES])
def test_a_value_out_of_range_is_named(flags: list[str], named: list[str], refusal: Refusal, tmp_path: Path) -> None:
    line = refusal(tiny_args("ppo_token", tmp_path, *flags))
    assert all(word in line for word in named), line


def test_an_unknown_scheme_is_answered_with_those_that_exist(refusal: Refusal, tmp_path: Path) -> None:
    line = refusal(tiny_args("ppo_token", tmp_path, "--reward.scheme=foo"))
    assert all(scheme in line for scheme in ("foo", "until_error", "boolean", "graded"))


def test_a_missing_file_is_named(refusal: Refusal, tmp_path: Path, file_with: Callable[[str], str]) -> None:
    assert "ppo_tken.yaml" in refusal(["fit", "--config=configs/game24/ppo_tken.yaml"])
    assert str(tmp_path / "nowhere") in refusal(["fit", f"--config={PPO}", f"--model.init_from={tmp_path / 'nowhere'}"])
    assert "no.ckpt" in refusal(tiny_args("sft", tmp_path, f"--ckpt_path={tmp_path / 'no.ckpt'}"))
    assert "puzzles.csv" in refusal(tiny_args("sft", tmp_path, f"--data.task.data={tmp_path / 'puzzles.csv'}"))


def test_a_file_that_is_no_yaml_is_refused_in_one_line(refusal: Refusal, file_with: Callable[[str], str]) -> None:
    refusal(["fit", file_with("model:\n  - x\n : y")])
    refusal(["fit", file_with("just words")])


def test_a_folder_or_file_that_holds_no_weights_is_named(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal(tiny_args("ppo_token", tmp_path, start=tmp_path / "empty"))
    (tmp_path / "notes.txt").write_text("no weights")
    assert "notes.txt" in refusal(tiny_args("ppo_token", tmp_path, start=tmp_path / "notes.txt"))
    assert "notes.txt" in refusal(tiny_args("sft", tmp_path, f"--ckpt_path={tmp_path / 'notes.txt'}"))


def test_a_start_of_another_size_is_refused(refusal: Refusal, sft_checkpoint: Path, tmp_path: Path) -> None:
    line = refusal(tiny_args("ppo_token", tmp_path, "--model.policy.hidden_size=32", start=sft_checkpoint))
    assert str(sft_checkpoint) in line
    line = refusal(tiny_args("ppo_token", tmp_path, "--data.task.max_value=60", start=sft_checkpoint))
    assert "vocabulary" in line


def test_a_config_for_another_module_is_refused(refusal: Refusal, tmp_path: Path) -> None:
    assert "problems" in refusal(tiny_args("sft", tmp_path, "--model.problems=3"))
    assert "kl" in refusal(tiny_args("sft", tmp_path, "--model.kl.coefficient=3"))
    assert "demonstrations" in refusal(tiny_args("ppo_token", tmp_path, "--model.demonstrations=3"))
    for recipe, other in (("sft", "PPOModule"), ("ppo_token", "SFTModule")):
        line = refusal(tiny_args(recipe, tmp_path, f"--model={other}"))
        assert "SFTModule" in line
        assert "PPOModule" in line


def test_a_checkpoint_of_another_module_is_refused(
    refusal: Refusal, sft_checkpoint: Path, ppo_checkpoint: Path, tmp_path: Path
) -> None:
    line = refusal(tiny_args("ppo_token", tmp_path, f"--ckpt_path={sft_checkpoint}"))
    assert "PPOModule" in line
    assert "init_from" in line
    assert "SFTModule" in refusal(tiny_args("sft", tmp_path, f"--ckpt_path={ppo_checkpoint}", "--trainer.max_epochs=4"))


IMPOSSIBLE = [
    (["--model.critic=adapter"], "adapter"),
    (["--model.reference=adapter"], "adapter"),
    (["--model.reference=adapters_off"], "adapters"),
    (["--model.kl.place=reward"], "until_error"),
    (["--model.max_new_tokens=600"], "max_new_tokens"),
    (["--data.task.max_value=5"], "max_value"),
    (["--data.task.test_problems=5000"], "test_problems"),
    (["--trainer.callbacks=VerifierReward"], "primary"),
    (["--trainer.reload_dataloaders_every_n_epochs=0"], "reload_dataloaders_every_n_epochs"),
    (["--trainer.max_epochs=-1"], "max_epochs"),
]


@pytest.mark.parametrize(("flags", "named"), IMPOSSIBLE, ids=[" ".join(flags)[2:] for flags, _ in IMPOSSIBLE])
def test_options_that_do_not_go_together_are_told_in_one_line(
    flags: list[str], named: str, refusal: Refusal, tmp_path: Path
) -> None:
    assert named in refusal(tiny_args("ppo_token", tmp_path, *flags))


def test_demonstrations_longer_than_an_answer_are_told_in_one_line(refusal: Refusal, tmp_path: Path) -> None:
    assert "max_new_tokens" in refusal(tiny_args("sft", tmp_path, "--model.max_new_tokens=10"))


def test_a_missing_tool_ends_the_run_with_2_and_one_line_before_anything_is_sampled(
    run_cli: RunCLI, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tool = ["--reward.verifier=lit_symbolic.verifiers.cpp.CppVerifier", "--reward.verifier.compiler=g++-99"]
    with pytest.raises(SystemExit) as ending:
        run_cli(tiny_args("ppo_token", tmp_path, *tool))
    assert ending.value.code == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith("error: C++ answers are verified with g++-99, which was not found")


def test_train_py_is_this_command_line(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), "fit", f"--config={PPO}", "--reward.scheme=foo"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert next(line for line in done.stderr.splitlines() if "kernels" not in line).startswith("error: ")
    assert "foo" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_lists_the_subcommands(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    with pytest.raises(SystemExit) as ending:
        main(["--help"])
    assert ending.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("fit", "validate", "test", "predict"))


def test_what_a_union_of_types_says_is_cut_to_the_fault() -> None:
    message = (
        'Parser key "model":\n  Does not validate against any of the Union subtypes\n  Subtypes: [A]\n  - Option "x" is unknown'
    )
    assert concise(message) == 'Parser key "model": Option "x" is unknown'
    assert concise("") == "unknown error"
