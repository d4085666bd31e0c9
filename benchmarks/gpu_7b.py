"""A Llama-2-7B-shaped model in 4 bits with LoRA on one GPU: memory and speed of SFT and of PPO with critic and reference.

    PYTHONPATH=. python benchmarks/gpu_7b.py                  # on a CUDA machine, about 9 minutes; writes benchmarks/results/gpu_7b.md
    PYTHONPATH=. python benchmarks/gpu_7b.py --shape tiny     # anywhere, seconds; prints only

Weights are random and made here: nothing is downloaded. They are written as a model folder and loaded from it like any model's,
so that loading is measured too. 16 rollouts of 512 prompt and 512 response tokens at a time; the policy is NF4 with double
quantisation and LoRA on all linear layers, the critic a head, the reference a frozen second adapter.

Bounds, measured on the same card: decoding cannot be faster than reading the weights and the key-value cache once a step at copy
bandwidth; learning not faster than its FLOPs at the rate of a large bfloat16 matrix product. FLOPs are 2 per weight and token for
each of forward, recomputed forward (gradient checkpointing) and the gradient of the inputs; frozen weights have none of their own.

Needs torch, transformers, peft, lightning, bitsandbytes and jsonargparse, nothing else of the package's dependencies. TRL's row is
there where TRL is installed: here, in the environment that ``--install-peers`` makes (``runs/peers/trl_qlora``, kept), or in that of
``--peer-python``. It is not made unasked: a machine whose GPU is lent by the minute may reach no package index, and a second torch is
gigabytes to fetch.

The table is written after every row, and no row is begun that would not be done in time if it took as long as the longest so far.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from gpu_work import SHAPES, FirstHalf, RandomWords, Shape, write_model
from lit_symbolic.data import SymbolicDataModule
from lit_symbolic.modules import Evaluation, Optimization, PPOModule, SFTModule, SymbolicModule
from lit_symbolic.policies import HuggingFacePolicy, Lora
from lit_symbolic.rollouts.native import NativeEngine
from peers import environments

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "gpu_7b.md"
GIGABYTE = 1e9
REQUIREMENTS = ["trl>=1.16", "datasets>=4", "peft", "bitsandbytes"]
PPO, COPIED, TRL = "PPO, critic head, reference adapter", "the same, sampling from a bfloat16 copy", "TRL GRPOTrainer"
TARGET = (
    "Target: peak memory at most 16 GB, so that a 24 GB card has room; a copy of the weights to sample from is for larger cards."
)


# ---------------------------------------------------------------- measuring


def synchronised() -> float:
    """Now, when the device has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Phases(Callback):
    """Seconds and peak memory of each phase of each iteration."""

    def __init__(self) -> None:
        self.iterations: list[dict[str, tuple[float, float]]] = []
        self._phase: str | None = None
        self._since = 0.0

    def on_phase(self, trainer: Trainer, module: LightningModule, phase: str, done: int, total: float) -> None:
        """A phase is reported again and again; what counts is where it changes."""
        if phase == self._phase:
            return
        self._finish()
        if self._phase is None:
            self.iterations.append({})
        self._phase = phase
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._since = synchronised()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last phase of an iteration ends with it."""
        self._finish()
        self._phase = None

    def _finish(self) -> None:
        if self._phase is not None and self.iterations:
            seconds = synchronised() - self._since
            peak = torch.cuda.max_memory_allocated() / GIGABYTE if torch.cuda.is_available() else float("nan")
            self.iterations[-1][self._phase] = seconds, peak


def trained(module: SymbolicModule, shape: Shape, iterations: int) -> list[dict[str, tuple[float, float]]]:
    """Phases of ``iterations`` iterations after one that warms up."""
    measured = Phases()
    trainer = Trainer(
        max_epochs=iterations + 1,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=1,
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[FirstHalf(), measured],
    )
    trainer.fit(module, datamodule=SymbolicDataModule(RandomWords(shape)))
    return measured.iterations[1:]


def policy(folder: Path) -> HuggingFacePolicy:
    """The folder's model in 4 bits with LoRA on all linear layers."""
    return HuggingFacePolicy(str(folder), quantization="nf4", lora=Lora(), gradient_checkpointing=True)


def copy_bandwidth(device: torch.device, megabytes: int) -> float:
    """Bytes read per second by a copy, which reads and writes each byte once; writing counts as reading."""
    source = torch.empty(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _best_seconds(lambda: target.copy_(source))


def matrix_rate(device: torch.device, size: int) -> float:
    """FLOPs per second of a large bfloat16 matrix product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / _best_seconds(lambda: torch.mm(a, b))


def _best_seconds(work: Callable[[], object], repetitions: int = 10) -> float:
    work()
    times = []
    for _ in range(repetitions):
        since = synchronised()
        work()
        times.append(synchronised() - since)
    return min(times)


def read_per_step(module: SymbolicModule, shape: Shape) -> int:
    """Bytes of weights that one decode step reads: all but the embedding, of which it reads a few rows."""
    model = module.model
    if not module.engine.exact:
        return 2 * shape.linear_weights  # the copy's, in bfloat16
    embedding = model.get_input_embeddings().weight
    total = 0
    for name, parameter in model.named_parameters():
        if parameter is embedding or ".reference." in name or ".critic." in name:
            continue
        total += parameter.numel() * parameter.element_size()
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            total += state.absmax.numel() * state.absmax.element_size()
    return total


# ---------------------------------------------------------------- the rows


def sft_row(folder: Path, shape: Shape) -> dict[str, Any]:
    """One optimizer step over as many demonstrations as there are rollouts."""
    module = SFTModule(
        policy(folder),
        demonstrations=shape.rollouts,
        max_new_tokens=shape.response,
        optimization=Optimization(learning_rate=1e-5),
        evaluation=Evaluation(samples=1),
        minibatch_rows=shape.minibatch_rows,
    )
    iterations = trained(module, shape, shape.iterations)
    return row("SFT", module, shape, iterations, forwards=1)


def ppo_row(folder: Path, shape: Shape, engine: NativeEngine, name: str) -> dict[str, Any]:
    """Iterations of PPO: critic head, reference adapter, two epochs."""
    module = PPOModule(
        policy(folder),
        problems=shape.rollouts // 2,
        samples=2,
        epochs=2,
        critic="head",
        critic_warmup_iterations=0,
        max_new_tokens=shape.response,
        optimization=Optimization(learning_rate=1e-5),
        evaluation=Evaluation(samples=1),
        engine=engine,
        minibatch_rows=shape.minibatch_rows,
    )
    iterations = trained(module, shape, shape.iterations)
    return row(name, module, shape, iterations, forwards=2)


def row(
    name: str, module: SymbolicModule, shape: Shape, iterations: list[dict[str, tuple[float, float]]], forwards: int
) -> dict[str, Any]:
    """Medians over the iterations, and the shares of what the card could do."""

    def seconds(phase: str) -> float:
        values = sorted(iteration[phase][0] for iteration in iterations if phase in iteration)
        return values[len(values) // 2] if values else 0.0

    tokens = shape.rollouts * (shape.prompt + shape.response)
    result: dict[str, Any] = {
        "name": name,
        "peaks": {phase: max(i[phase][1] for i in iterations) for phase in iterations[0]},
        "seconds": {phase: seconds(phase) for phase in iterations[0]},
        "iterations": len(iterations),
        "learning_tokens": forwards * tokens / seconds("learning"),
        "learning_flops": 6 * shape.linear_weights * forwards * tokens / seconds("learning"),
    }
    if isinstance(module, PPOModule):
        width = 2 * shape.layers * shape.hidden_size * 2  # keys and values of a token, bfloat16
        cache = shape.rollouts * (shape.prompt + shape.response / 2) * width
        result["sampling_tokens"] = shape.rollouts * shape.response / seconds("sampling")
        result["step_bytes"] = read_per_step(module, shape) + cache
        result["step_seconds"] = seconds("sampling") / shape.response
    return result


def trl_row(folder: Path, shape: Shape, python: str, seconds: float) -> dict[str, Any]:
    """TRL's GRPOTrainer with QLoRA on the same weights and sizes, in a process of its own."""
    work = folder / "work.json"
    prompts = [problem.prompt for problem in RandomWords(shape).problems("train")] * shape.rollouts
    work.write_text(json.dumps({**asdict(shape), "prompts": prompts}))
    command = [python, str(Path(__file__).parent / "peers" / "trl_qlora.py"), str(folder), str(work)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"name": TRL, "missing": f"not finished in {seconds:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {"name": TRL, "missing": reason[:200]}
    return json.loads(lines[-1])


def in_time(
    work: Mapping[str, Callable[[], dict[str, Any]]], left: Callable[[], float], write: Callable[[list[dict[str, Any]]], None]
) -> list[dict[str, Any]]:
    """The rows of ``work`` that fit.

    Args:
        work: What measures each row, by name.
        left: Seconds that are left.
        write: Given the rows that are there, after each of them.
    """
    rows: list[dict[str, Any]] = []
    longest = 0.0
    for name, measure in work.items():
        before = left()
        rows.append(measure() if before > longest else {"name": name, "missing": "out of time"})
        longest = max(longest, before - left())
        write(rows)
        torch.cuda.empty_cache()
    return rows


# ---------------------------------------------------------------- the report


def report(shape: Shape, rows: list[dict[str, Any]], machine: dict[str, Any], command: str) -> str:
    """The table, for people."""

    def figure(value: float | None, form: str) -> str:
        return "-" if value is None or value != value else format(value, form)

    lines = [
        "# A 7B model in 4 bits on one GPU",
        "",
        f"`{command}`, {machine['date']}, {machine['device']}; {machine['versions']}.",
        "",
        f"{shape.layers} layers of width {shape.hidden_size}, {shape.linear_weights / 1e9:.2f} B weights in matrices, random; NF4 with",
        f"double quantisation, LoRA r=16 on all linear layers, gradient checkpointing; {shape.rollouts} rollouts of {shape.prompt} prompt and",
        f"{shape.response} response tokens, minibatches of {shape.minibatch_rows}, 2 epochs. Medians of the iterations after a first one.",
        "",
        f"Copy bandwidth {machine['bandwidth'] / 1e9:,.0f} GB/s, bfloat16 products {machine['flops'] / 1e12:,.1f} TFLOP/s. Loading "
        f"{machine['load_seconds']:.0f} s, {figure(machine['loaded'], '.2f')} GB after it.",
        "",
        "| | iteration, s | sampling, s | verifying and evaluating, s | learning, s | peak memory, GB | tokens/s sampling | tokens/s learning "
        "| share of copy bandwidth, sampling | share of matrix rate, learning | iterations |",
        "|" + "---|" * 11,
    ]
    for r in rows:
        if "missing" in r:
            lines.append(f"| {r['name']} | not measured: {r['missing']} |" + " |" * 9)
            continue
        seconds = r["seconds"]
        whole = sum(seconds.values())
        cells = [
            r["name"],
            f"{whole:.2f}",
            figure(seconds.get("sampling") if "sampling_tokens" in r else None, ".2f"),
            figure(seconds.get("verifying"), ".2f"),
            figure(seconds.get("learning"), ".2f"),
            figure(max(r["peaks"].values()), ".2f") + "".join(f" ({k} {figure(v, '.2f')})" for k, v in r["peaks"].items()),
            figure(r.get("sampling_tokens"), ",.0f"),
            figure(r.get("learning_tokens"), ",.0f"),
            figure(r["step_bytes"] / r["step_seconds"] / machine["bandwidth"] if "step_bytes" in r else None, ".1%"),
            figure(r["learning_flops"] / machine["flops"] if "learning_flops" in r else None, ".1%"),
            str(r["iterations"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(
        [
            *lines,
            "",
            TARGET,
            "",
        ]
    )


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="7b")
    parser.add_argument(
        "--seconds", type=float, default=530.0, help="rows that would not be done by then are left out and said to be"
    )
    peer = parser.add_mutually_exclusive_group()
    peer.add_argument("--install-peers", action="store_true", help="make TRL's environment first, which takes minutes")
    parser.add_argument("--peers", type=Path, default=environments.FOLDER, help="where virtual environments of peers are kept")
    peer.add_argument("--peer-python", type=Path, help="interpreter of an environment with TRL")
    parser.add_argument("--out", type=Path, help="where the table goes; else the tiny shape is only printed")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    if arguments.shape == "7b" and not torch.cuda.is_available():
        parser.error("the 7B shape needs a CUDA device; --shape tiny runs anywhere")
    find = environments.install if arguments.install_peers else environments.installed
    peer_python = arguments.peer_python or find("trl_qlora", REQUIREMENTS, arguments.peers)
    if peer_python is None and importlib.util.find_spec("trl") is not None:
        peer_python = Path(sys.executable)
    out = arguments.out or (RESULT if arguments.shape == "7b" else None)
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    small = arguments.shape == "tiny"
    machine: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {platform.machine()}",
        "versions": ", ".join(
            f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "lightning", "bitsandbytes")
        ),
        "bandwidth": copy_bandwidth(device, 16 if small else 2048),
        "flops": matrix_rate(device, 256 if small else 8192),
    }
    command = f"PYTHONPATH=. python benchmarks/gpu_7b.py {' '.join(sys.argv[1:])}".rstrip()
    folder = Path(tempfile.mkdtemp(prefix="gpu_7b_"))
    try:
        write_model(folder, shape, device)
        since = synchronised()
        loaded = policy(folder).load(())
        machine["load_seconds"] = synchronised() - since
        machine["loaded"] = torch.cuda.memory_allocated() / GIGABYTE if device.type == "cuda" else float("nan")
        del loaded
        engines = {
            PPO: NativeEngine(max_rows=shape.rollouts),
            COPIED: NativeEngine(max_rows=shape.rollouts, dtype="bfloat16"),
        }

        def left() -> float:
            return arguments.seconds - (time.perf_counter() - began)

        def peer_row() -> dict[str, Any]:
            if peer_python is None:
                return {"name": TRL, "missing": "TRL is not installed here; --install-peers does it"}
            return trl_row(folder, shape, str(peer_python), left())

        def write(rows: list[dict[str, Any]]) -> None:
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(report(shape, rows, machine, command))

        work: dict[str, Callable[[], dict[str, Any]]] = {
            PPO: lambda: ppo_row(folder, shape, engines[PPO], PPO),
            "SFT": lambda: sft_row(folder, shape),
            COPIED: lambda: ppo_row(folder, shape, engines[COPIED], COPIED),
            TRL: peer_row,
        }
        print(report(shape, in_time(work, left, write), machine, command))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
