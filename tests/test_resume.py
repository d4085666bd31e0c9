"""A run that is killed and started again ends with the weights of one that was not; flags win over the checkpoint."""

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lit_symbolic.cli import SymbolicCLI
from tiny import checkpoint_of, loaded, same, started, tiny_args

RunCLI = Callable[[list[str]], SymbolicCLI]
ITERATIONS = 30


def kill_at_a_random_moment(args: list[str], folder: Path, beyond: int) -> int:
    """Run, and SIGKILL at a random moment after a checkpoint of an iteration above ``beyond``; the iterations then finished."""
    output = folder / "output.txt"
    process = started(args, output)
    last = folder / "checkpoints" / "last.ckpt"
    before = last.stat().st_mtime_ns if last.exists() else 0
    deadline = time.monotonic() + 60
    while not last.exists() or last.stat().st_mtime_ns == before:
        assert process.is_alive(), output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.002)
    time.sleep(random.random() * 0.2)
    process.kill()
    process.join()
    assert process.exitcode == -9, "the run ended before it was killed: give it more iterations"
    finished = loaded(last)["epoch"] + 1
    assert beyond < finished < ITERATIONS
    return finished


@pytest.mark.parametrize("recipe", ["sft", "ppo_token"])
def test_a_run_killed_twice_ends_bit_for_bit_like_one_that_was_not(
    recipe: str, run_cli: RunCLI, sft_checkpoint: Path, tmp_path: Path
) -> None:
    options = [
        f"--trainer.max_epochs={ITERATIONS}",
        "--model.optimization.schedule=linear",
        "--trainer.check_val_every_n_epoch=6",
        "--trainer.accumulate_grad_batches=2",
        "--threads=1",
        # An adaptive coefficient is state too.
        *([] if recipe == "sft" else ["--model.kl.target=0.01", "--model.kl.horizon=100"]),
    ]
    unbroken = run_cli(tiny_args(recipe, tmp_path / "unbroken", *options, start=sft_checkpoint))

    broken = tmp_path / "broken"
    broken.mkdir()
    args = tiny_args(recipe, broken, *options, start=sft_checkpoint)
    first = kill_at_a_random_moment(args, broken, 0)
    second = kill_at_a_random_moment([*args, "--ckpt_path=last"], broken, first)
    resumed = run_cli([*args, f"--ckpt_path={broken / 'checkpoints/last.ckpt'}"])

    wanted, got = loaded(checkpoint_of(unbroken)), loaded(checkpoint_of(resumed))
    killed = f"killed after {first} and {second} iterations"
    assert got["epoch"] == wanted["epoch"] == ITERATIONS - 1
    assert got["global_step"] == wanted["global_step"]
    assert wanted["state_dict"].keys() == got["state_dict"].keys()
    different = [name for name, value in wanted["state_dict"].items() if not same(value, got["state_dict"][name])]
    assert different == [], killed
    assert same(wanted["optimizer_states"], got["optimizer_states"]), killed
    assert not list((broken / "checkpoints").glob(".*")), "what was left unfinished is cleared away"
    assert points(resumed) == points(unbroken), "the report shows the same curves"


def points(cli: SymbolicCLI) -> dict[str, Any]:
    """The report's curves, without those of wall time."""
    report = next(callback for callback in cli.trainer.callbacks if hasattr(callback, "_points"))
    return {name: values for name, values in report._points.items() if not re.search("seconds", name)}


def test_last_is_found_whatever_the_logger_does(run_cli: RunCLI, tmp_path: Path) -> None:
    args = tiny_args("sft", tmp_path)
    run_cli([*args, "--trainer.max_epochs=1"])
    cli = run_cli([*args, "--trainer.max_epochs=2", "--ckpt_path=last"])
    assert losses_logged(tmp_path) == [1, 1], "one iteration each"
    assert cli.trainer.global_step == 4


def losses_logged(folder: Path) -> list[int]:
    logs = sorted(folder.glob("logs/version_*/metrics.csv"))
    columns = [[line.split(",") for line in log.read_text().splitlines()] for log in logs]
    return [sum(1 for row in rows[1:] if row[rows[0].index("train/loss")]) for rows in columns]


def test_a_finished_run_that_is_resumed_does_nothing(
    run_cli: RunCLI, sft_run: SymbolicCLI, sft_checkpoint: Path, tmp_path: Path
) -> None:
    cli = run_cli(tiny_args("sft", tmp_path, f"--ckpt_path={sft_checkpoint}"))
    assert cli.trainer.global_step == sft_run.trainer.global_step
    assert same(dict(cli.model.state_dict()), dict(sft_run.model.state_dict()))


def test_flags_win_over_what_the_checkpoint_remembers(run_cli: RunCLI, sft_checkpoint: Path, tmp_path: Path) -> None:
    args = tiny_args("ppo_token", tmp_path, start=sft_checkpoint)
    first = run_cli([*args, "--trainer.max_epochs=1"])
    changed = [
        "--model.optimization.learning_rate=0.00123",
        "--model.critic_learning_rate=0.0321",
        "--model.optimization.weight_decay=0.04",
        "--model.kl.coefficient=0.7",
        "--model.clip=0.15",
        "--model.epochs=3",
        "--model.samples=4",
        "--reward.scheme=boolean",
    ]
    # `last` and an explicit file take different ways through Lightning.
    for iterations, path in ((2, checkpoint_of(first)), (3, "last")):
        cli = run_cli([*args, *changed, f"--trainer.max_epochs={iterations}", f"--ckpt_path={path}"])
        groups = cli.trainer.optimizers[0].param_groups
        assert {(group["name"], group["lr"]) for group in groups} == {("policy", 0.00123), ("critic", 0.0321)}
        assert {group["weight_decay"] for group in groups} == {0.04}
        assert float(cli.trainer.callback_metrics["train/kl_coefficient"]) == pytest.approx(0.7)
        assert float(cli.trainer.callback_metrics["train/learning_rate_policy"]) == pytest.approx(0.00123)
        assert (cli.model.clip, cli.model.epochs, cli.model.samples) == (0.15, 3, 4)
        assert cli.trainer.current_epoch == iterations
    per_iteration = {4 * 3: 6}  # rows: 2 minibatches, 3 passes
    before = 24 // 8 * first.model.epochs
    assert cli.trainer.global_step == before + 2 * per_iteration[12]


def test_an_adaptive_coefficient_moves_and_survives_a_resume(run_cli: RunCLI, sft_checkpoint: Path, tmp_path: Path) -> None:
    options = ["--model.kl.target=0.5", "--model.kl.horizon=100", "--model.kl.coefficient=0.1"]
    args = tiny_args("ppo_token", tmp_path, *options, start=sft_checkpoint)
    first = run_cli([*args, "--trainer.max_epochs=2"])
    moved = float(first.model.kl_coefficient)
    assert moved < 0.095, "a policy that has not left its reference needs less"
    resumed = run_cli([*args, "--trainer.max_epochs=3", "--ckpt_path=last"])
    assert float(resumed.trainer.callback_metrics["train/kl_coefficient"]) == pytest.approx(moved)
    assert float(resumed.model.kl_coefficient) < moved
