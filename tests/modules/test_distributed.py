"""Two processes train one model."""

import socket
from pathlib import Path

import pytest
import torch

from lit_symbolic.cli import SymbolicCLI
from tiny import checkpoint_of, loaded, same, started, tiny_args


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("sft", ["--trainer.accumulate_grad_batches=2", "--model.minibatch_rows=6"]),
        ("ppo_token", ["--model.kl.target=0.1", "--model.kl.horizon=50", "--model.minibatch_rows=10"]),
        ("ppo_token", ["--model.critic=own"]),
        ("grpo_token", []),
        # Minibatches by tokens: the ranks have different numbers of them.
        ("ppo_token", ["--model.minibatch_tokens=120", "--trainer.accumulate_grad_batches=2"]),
    ],
    ids=["sft", "ppo", "ppo with a critic of its own", "without a critic", "ppo by tokens"],
)
def test_two_processes_end_with_equal_weights(recipe: str, options: list[str], sft_run: SymbolicCLI, tmp_path: Path) -> None:
    start = checkpoint_of(sft_run)
    shared = [
        "--trainer.strategy=ddp",
        "--trainer.devices=2",
        "--trainer.max_epochs=3",
        "--trainer.callbacks=ranks.SaveRankWeights",
    ]
    args = tiny_args(recipe, tmp_path, *shared, *options, start=start)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "NODE_RANK": "0"}
    ranks = [started(args, tmp_path / f"output{rank}.txt", {**place, "LOCAL_RANK": str(rank)}) for rank in (0, 1)]
    for rank, process in enumerate(ranks):
        process.join(60)
        if process.exitcode is None:
            process.kill()
        assert process.exitcode == 0, (tmp_path / f"output{rank}.txt").read_text()[-3000:]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["steps"] == second["steps"] > 0
    assert sorted(first["answers"]) != sorted(second["answers"]), "each rank draws problems and answers of its own"
    different = [name for name, value in first["weights"].items() if not same(value, second["weights"][name])]
    assert different == []
    saved = loaded(tmp_path / "checkpoints/last.ckpt")["state_dict"]
    assert same(saved, {name: first["weights"][name] for name in saved})
    before = loaded(start)["state_dict"]
    moved = [name for name in before if name in saved and not torch.equal(saved[name], before[name])]
    assert moved, "they have learned"
    # Held-out problems are shared out, so what they measure is one figure of all of them.
    held_out = [{name: value for name, value in r["metrics"].items() if name.startswith("val/")} for r in (first, second)]
    assert held_out[0] == pytest.approx(held_out[1], nan_ok=True)
    assert (tmp_path / "report.html").is_file()
