"""How fast answers are sampled: the engine, ``model.generate``, and the bare matrix products of the same work.

    python benchmarks/sampling.py                # about 5 minutes; writes benchmarks/results/sampling.md
    python benchmarks/sampling.py --quick        # seconds; prints only

All contestants run in one process, one after the other in a turning order, again and again; a ratio is taken within a
repetition, so what else the machine does hits both its sides. No answer ends early: each has all its tokens. Where other
programs use the cores, set OMP_WAIT_POLICY=PASSIVE: threads that spin while they wait take the time from each other.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import transformers
from torch import Tensor
from transformers import LlamaForCausalLM

from lit_symbolic.policies.tiny import tiny_llama, tiny_tokenizer
from lit_symbolic.rollouts.engine import SamplingSettings
from lit_symbolic.rollouts.native import NativeEngine
from lit_symbolic.seeding import generator_for
from lit_symbolic.tasks.game24 import Game24

RESULTS = Path(__file__).parent / "results" / "sampling.md"
FUSED, GENERIC = "engine, fused decoder", "engine, generic decoder"
GENERATE, GENERATE_PLAIN = "model.generate, its defaults", "model.generate, top_k=0 (the engine's distribution)"
LINEAR, ATTENTION = "products with weights", "products of attention"

Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Work:
    """One batch to sample: the same for every contestant."""

    model: LlamaForCausalLM
    prompts: list[list[int]]
    samples: int
    max_new_tokens: int
    seed: int

    @property
    def rows(self) -> int:
        """Answers to sample."""
        return len(self.prompts) * self.samples


def make_work(seed: int, prompts: int, samples: int, max_new_tokens: int) -> Work:
    """The tiny model with the Game of 24's vocabulary, and prompts of its training split."""
    task = Game24()
    tokenizer = tiny_tokenizer(task.vocabulary())
    model = tiny_llama(tokenizer, seed=seed).eval()
    model.generation_config.eos_token_id = model.config.eos_token_id = None  # no answer ends early
    problems = task.problems("train")
    chosen = torch.randperm(len(problems), generator=generator_for(seed, "prompts"))[:prompts].tolist()
    ids = [tokenizer(problems[index].prompt)["input_ids"] for index in chosen]
    return Work(model, ids, samples, max_new_tokens, seed)


def engine(work: Work, fused: bool) -> Callable[[], None]:
    """Sampling by this package."""
    native = NativeEngine(max_rows=work.rows, fused=fused)
    settings = SamplingSettings(work.max_new_tokens)

    def run() -> None:
        out = native.generate(work.model, work.prompts, work.samples, settings, [], 0, generator_for(work.seed))
        _check(out.ids.shape, (work.rows, work.max_new_tokens))

    return run


def generate(work: Work, **options: int) -> Callable[[], None]:
    """Sampling by transformers."""
    ids = torch.tensor(work.prompts)
    mask = torch.ones_like(ids)

    def run() -> None:
        torch.manual_seed(work.seed)
        out = work.model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            max_new_tokens=work.max_new_tokens,
            num_return_sequences=work.samples,
            pad_token_id=0,
            **options,
        )
        _check(out.shape, (work.rows, ids.shape[1] + work.max_new_tokens))

    return run


def linear_products(work: Work) -> Callable[[], None]:
    """Every product with a weight matrix: the prompt's once per prompt, then a step's for each further token.

    Weights that read the same input are one matrix, and results go to memory that is there: the fastest way to do it.
    """
    config = work.model.config
    hidden, inner = config.hidden_size, config.intermediate_size
    width = hidden // config.num_attention_heads
    layer = [
        (hidden, hidden + 2 * config.num_key_value_heads * width),
        (hidden, hidden),
        (hidden, 2 * inner),
        (inner, hidden),
    ]
    weights = [torch.randn(shape) for shape in layer * config.num_hidden_layers]
    head = torch.randn(hidden, config.vocab_size)

    def products(rows: int, answers: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        inputs = {size: torch.randn(rows, size) for size in (hidden, inner)}
        body = [(inputs[weight.shape[0]], weight, torch.empty(rows, weight.shape[1])) for weight in weights]
        return [*body, (torch.randn(answers, hidden), head, torch.empty(answers, head.shape[1]))]

    prefill = products(len(work.prompts) * len(work.prompts[0]), len(work.prompts))
    step = products(work.rows, work.rows)

    def run() -> None:
        for left, right, out in prefill:
            torch.mm(left, right, out=out)
        for _ in range(work.max_new_tokens - 1):
            for left, right, out in step:
                torch.mm(left, right, out=out)

    return run


def attention_products(work: Work) -> Callable[[], None]:
    """A step's products of queries with keys and of weights with values, over caches of the mean length."""
    config = work.model.config
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    width, group = config.hidden_size // heads, heads // kv_heads
    length = len(work.prompts[0]) + work.max_new_tokens // 2
    batch = work.rows * kv_heads
    caches = [(torch.randn(batch, length, width), torch.randn(batch, length, width)) for _ in range(config.num_hidden_layers)]
    query, weights = torch.randn(batch, group, width), torch.rand(batch, group, length)
    scores, mixed = torch.empty(batch, group, length), torch.empty(batch, group, width)

    def run() -> None:
        for _ in range(work.max_new_tokens - 1):
            for keys, values in caches:
                torch.bmm(query, keys.transpose(1, 2), out=scores)
                torch.bmm(weights, values, out=mixed)

    return run


def contestants(work: Work, floor: bool) -> dict[str, Callable[[], None]]:
    """What is timed, by name."""
    runs = {FUSED: engine(work, fused=True), GENERIC: engine(work, fused=False), GENERATE: generate(work)}
    if floor:
        runs |= {
            GENERATE_PLAIN: generate(work, top_k=0),
            LINEAR: linear_products(work),
            ATTENTION: attention_products(work),
        }
    return runs


def measure(works: Sequence[Work], repetitions: int, floor: bool) -> Seconds:
    """Seconds of every contestant in every repetition; repetitions take the works (seeds) by turns."""
    fields = [contestants(work, floor) for work in works]
    for field in fields:  # the first call pays for imports and allocations
        for run in field.values():
            run()
    seconds: Seconds = {name: [] for name in fields[0]}
    for repetition in range(repetitions):
        field = list(fields[repetition % len(fields)].items())
        turn = repetition % len(field)
        for name, run in field[turn:] + field[:turn]:
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> str:
    """Median and range of the quotients, repetition by repetition."""
    quotients = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return f"{median(quotients):.2f} ({min(quotients):.2f} to {max(quotients):.2f})"


def main_table(seconds: Seconds, tokens: int) -> list[str]:
    """The large batch: seconds, tokens per second, factor over generate, share of the floor."""
    both = [linear + attention for linear, attention in zip(seconds[LINEAR], seconds[ATTENTION], strict=True)]
    lines = [
        "| | seconds, median (least) | tokens/s | x generate | floor / seconds | weights only / seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name in (FUSED, GENERIC, GENERATE, GENERATE_PLAIN):
        own = seconds[name]
        lines.append(
            f"| {name} | {median(own):.3f} ({min(own):.3f}) | {tokens / median(own):,.0f} | {ratios(seconds[GENERATE], own)} "
            f"| {ratios(both, own)} | {ratios(seconds[LINEAR], own)} |"
        )
    for name, own in (("floor: all products", both), (LINEAR, seconds[LINEAR]), (ATTENTION, seconds[ATTENTION])):
        lines.append(f"| {name} | {median(own):.3f} ({min(own):.3f}) | {tokens / median(own):,.0f} | | | |")
    return lines


def report(arguments: argparse.Namespace) -> str:
    """Measure, and write it down as Markdown."""
    shapes = [(1, 1), (1, 8), (2, 8), (8, 8), (32, 8)]
    shapes, large = (shapes[:2], (2, 8)) if arguments.quick else (shapes, shapes[-1])
    length = 6 if arguments.quick else 30
    seeds = range(1 if arguments.quick else 3)
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    lines = [
        "# Sampling",
        "",
        f"    {policy and f'OMP_WAIT_POLICY={policy} '}python benchmarks/sampling.py {' '.join(sys.argv[1:])}".rstrip(),
        "",
        f"{large[0]} prompts x {large[1]} answers of {length} tokens, tiny model (`tiny_llama` with the Game of 24's words), float32. "
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, {_processor()}; "
        f"load average before the run {os.getloadavg()[0]:.1f}. "
        f"Seeds {', '.join(map(str, seeds))} (weights, prompts, sampling) by turns, {arguments.repetitions} repetitions, all "
        "contestants in one process in a turning order. Ratios are taken within a repetition: median (least to largest).",
        "",
        "The floor is the bare matrix products of the work, the prompt's once for its samples: those with weights, in the largest "
        "matrices possible, and those of attention over caches of the mean length.",
    ]
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        works = [make_work(seed, *large, length) for seed in seeds]
        seconds = measure(works, arguments.repetitions, floor=True)
        lines += ["", f"## {threads} thread{'s' if threads > 1 else ''}", ""]
        lines += main_table(seconds, works[0].rows * length)
        lines += ["", "| answers at a time | fused decoder, x generate | generic decoder, x generate |", "|---|---|---|"]
        for shape in shapes:
            works = [make_work(seed, *shape, length) for seed in seeds]
            seconds = measure(works, arguments.repetitions, floor=False)
            fused, generic = (ratios(seconds[GENERATE], seconds[name]) for name in (FUSED, GENERIC))
            lines.append(f"| {works[0].rows} | {fused} | {generic} |")
    return "\n".join(lines) + "\n"


def _check(shape: Sequence[int], expected: Sequence[int]) -> None:
    if tuple(shape) != tuple(expected):
        raise RuntimeError(f"answers ended early or are missing: shape {tuple(shape)}, expected {tuple(expected)}")


def _processor() -> str:
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


@torch.no_grad()
def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9, help="of each contestant, spread over three seeds")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads to measure with")
    parser.add_argument("--quick", action="store_true", help="a small batch, once, written nowhere")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repetitions, arguments.threads = 1, [1]
    text = report(arguments)
    print(text)
    if not arguments.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
