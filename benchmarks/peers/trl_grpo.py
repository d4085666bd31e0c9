"""TRL's GRPOTrainer as a contestant; runs in TRL's virtual environment.

GRPO with the work of the PPO that it is compared with: the same model, so many completions of so many tokens, minibatches of the
same size, two passes, a KL to a reference, AdamW, float32. The reward takes no time. What TRL has on by default and what costs
time for nothing here is off: checkpoints, gradient checkpointing, bfloat16, the progress bar, reports.
"""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from peers.turns import Figures, Orders

PACKAGES = ("trl", "torch", "transformers", "accelerate")


class InTurns(TrainerCallback):
    """Waits for an order at the start of each iteration, and checks that the one before was the work asked for."""

    def __init__(self, orders: Orders, steps: int, tokens: int) -> None:
        self.orders = orders
        self.steps = steps
        self.tokens = tokens

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Check the length of the completions; logs come once an iteration."""
        shortest = (logs or {}).get("completions/min_length", self.tokens)
        if shortest != self.tokens:
            raise RuntimeError(f"a completion has {shortest} tokens instead of {self.tokens}: not the work that is compared")

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait before the first step of each iteration."""
        if state.global_step % self.steps == 0:
            self.orders.next_iteration(self._figures, {"threads": _threads})

    def _figures(self) -> Figures:
        return {"steps": self.steps, "versions": {name: version(name) for name in PACKAGES}}


def _threads(order: Figures) -> Figures:
    torch.set_num_threads(order["threads"])
    return {}


def constant_reward(completions: list[str], **_: Any) -> list[float]:
    """Half of the completions are right: the advantages are not all zero."""
    return [float(index % 2) for index in range(len(completions))]


def train(orders: Orders, order: Figures) -> None:
    """Train from the folder ``order["start"]``, which holds model, tokenizer and ``prompts.json``."""
    torch.set_num_threads(order["threads"])
    start, rows, minibatch = Path(order["start"]), order["prompts"] * order["samples"], order["minibatch_rows"]
    steps = order["epochs"] * (rows // minibatch)
    with tempfile.TemporaryDirectory() as output:
        config = GRPOConfig(
            output_dir=output,
            seed=order["seed"],
            use_cpu=True,
            bf16=False,
            model_init_kwargs={"dtype": "float32"},
            gradient_checkpointing=False,
            per_device_train_batch_size=minibatch,
            generation_batch_size=rows,
            num_generations=order["samples"],
            num_iterations=order["epochs"],
            beta=order["kl"],
            max_completion_length=order["max_new_tokens"],
            generation_kwargs={"min_new_tokens": order["max_new_tokens"]},
            learning_rate=order["learning_rate"],
            lr_scheduler_type="constant",
            max_grad_norm=1.0,
            max_steps=1_000_000,
            logging_steps=steps,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = GRPOTrainer(
            str(start),
            constant_reward,
            config,
            Dataset.from_dict({"prompt": json.loads((start / "prompts.json").read_text())}),
            processing_class=AutoTokenizer.from_pretrained(start),
            callbacks=[InTurns(orders, steps, order["max_new_tokens"])],
        )
        trainer.train()


if __name__ == "__main__":
    orders = Orders()
    orders.serve(lambda order: train(orders, order))
