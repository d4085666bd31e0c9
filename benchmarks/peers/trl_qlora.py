"""TRL's GRPOTrainer with QLoRA on the work of ``benchmarks/gpu_7b.py``, in a process of its own.

    python benchmarks/peers/trl_qlora.py FOLDER WORK.json   # prints one line of JSON

It imports nothing of this package: its environment may hold TRL, PEFT and bitsandbytes alone.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import BitsAndBytesConfig, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


def peer(folder: Path, work: dict[str, Any]) -> dict[str, Any]:
    """Run in the peer's process: iterations of GRPO without a critic, a reference by adapters off, two passes."""
    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    steps = work["rollouts"] // work["minibatch_rows"]
    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=work["minibatch_rows"],
        gradient_accumulation_steps=steps,
        num_generations=2,
        num_iterations=2,
        max_completion_length=work["response"],
        beta=0.05,
        max_steps=2 * (work["iterations"] + 1),
        gradient_checkpointing=True,
        bf16=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        learning_rate=1e-5,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        model_init_kwargs={"quantization_config": quantized, "dtype": torch.bfloat16},
    )
    starts: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *arguments: Any, **options: Any) -> None:
            starts.append(synchronised())

    trainer = GRPOTrainer(
        model=str(folder),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": work["prompts"]}),
        reward_funcs=lambda completions, **_: [float(len(text) % 2) for text in completions],
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Clock()],
    )
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    ends = [*starts[1:], synchronised()]
    # Two optimizer steps make an iteration: the first samples. The first iteration warms up.
    each = [ends[2 * i + 1] - starts[2 * i] for i in range(1, work["iterations"] + 1)]
    return {
        "name": f"TRL {version('trl')} GRPOTrainer, no critic",
        "seconds": {"whole": sorted(each)[len(each) // 2]},
        "peaks": {"whole": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else float("nan")},
        "iterations": len(each),
    }


def synchronised() -> float:
    """Now, when the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    print(json.dumps(peer(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))), flush=True)
