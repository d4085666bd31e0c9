"""How fast answers are sampled: the engines, ``model.generate``, and the bare matrix products of the same work.

    python benchmarks/sampling.py                # about an hour; cells under benchmarks/results/sampling/, then sampling.md
    python benchmarks/sampling.py --minutes 10   # begins no cell after that; the table holds what is there
    python benchmarks/sampling.py --report       # measures nothing: the table of the cells that are there
    python benchmarks/sampling.py --quick        # seconds; prints only

A cell is one batch, one seed and one number of threads; a finished cell is not measured again. All contestants of a cell run
in one process, one after the other in a turning order, again and again; a ratio is taken within a repetition, so what else the
machine does hits both its sides. No answer ends early: each has all its tokens. Where other programs use the cores, set
OMP_WAIT_POLICY=PASSIVE: threads that spin while they wait take the time from each other.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from transformers import LlamaForCausalLM

from lit_symbolic.policies.tiny import tiny_llama, tiny_tokenizer
from lit_symbolic.rollouts.engine import RolloutEngine, SamplingSettings
from lit_symbolic.seeding import generator_for
from lit_symbolic.tasks.game24 import Game24
from runs import table, write_json
from sampling_floor import attention_products, linear_products

RESULTS = Path(__file__).parent / "results" / "sampling"
GENERATE, GENERATE_PLAIN = "generate", "generate, top_k=0"
LINEAR, LINEAR_BFLOAT16, ATTENTION = "products with weights", "products with weights, bfloat16", "products of attention"
NEW_TOKENS = 30
SHAPES = {1: (1, 1), 16: (2, 8), 64: (8, 8), 256: (32, 8)}  # answers: prompts and samples of each
PROMPTS = ("game24", 16, 128, 512)


@dataclass(frozen=True)
class Contestant:
    """An engine to measure.

    Args:
        path: Module and class.
        options: Arguments of the class.
        sized: Whether ``max_rows`` is set to the batch.
        floor: The products with weights that it is held against.
        needs: Package without which it is left out.
    """

    path: str
    options: dict[str, Any] = field(default_factory=dict)
    sized: bool = True
    floor: str = LINEAR
    needs: str | None = None

    def engine(self, rows: int) -> RolloutEngine:
        """The engine, for a batch of ``rows``."""
        module, name = self.path.split(":")
        made: RolloutEngine = getattr(importlib.import_module(module), name)(
            **self.options, **({"max_rows": rows} if self.sized else {})
        )
        return made


NATIVE = "lit_symbolic.rollouts.native:NativeEngine"
ENGINES = {
    "native": Contestant(NATIVE),
    "native, bfloat16": Contestant(NATIVE, {"dtype": "bfloat16"}, floor=LINEAR_BFLOAT16),
    "native, generic decoder": Contestant(NATIVE, {"fused": False}),
    "hf": Contestant("lit_symbolic.rollouts.hf:HuggingFaceEngine"),
    "continuous batching": Contestant("lit_symbolic.rollouts.continuous_batching:ContinuousBatchingEngine"),
    "vllm": Contestant("lit_symbolic.rollouts.vllm:VLLMEngine", {"dtype": "float32"}, sized=False, needs="vllm"),
}
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


def make_work(seed: int, prompts: int, samples: int, max_new_tokens: int, prompt: str | int = "game24") -> Work:
    """The tiny model with the Game of 24's vocabulary, and prompts of its training split or random ones of a length."""
    task = Game24()
    tokenizer = tiny_tokenizer(task.vocabulary())
    model = tiny_llama(tokenizer, max_length=1024, seed=seed).eval()
    model.generation_config.eos_token_id = model.config.eos_token_id = None  # no answer ends early
    random = generator_for(seed, "prompts")
    if isinstance(prompt, int):
        ids = torch.randint(4, len(tokenizer), (prompts, prompt), generator=random).tolist()
    else:
        problems = task.problems("train")
        chosen = torch.randperm(len(problems), generator=random)[:prompts].tolist()
        ids = [tokenizer(problems[index].prompt)["input_ids"] for index in chosen]
    return Work(model, ids, samples, max_new_tokens, seed)


def sampling(work: Work, engine: RolloutEngine) -> Callable[[], None]:
    """Sampling by an engine of this package."""
    settings = SamplingSettings(work.max_new_tokens)

    def run() -> None:
        out = engine.generate(work.model, work.prompts, work.samples, settings, [], 0, generator_for(work.seed))
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


def contestants(work: Work, engines: Sequence[str], plain: bool = True) -> dict[str, Callable[[], None]]:
    """What is timed, by name; ``plain`` adds ``generate`` with the engines' distribution."""
    tokens, config = len(work.prompts[0]), work.model.config
    size = (len(work.prompts), tokens, work.rows, work.max_new_tokens)
    return {
        **{name: sampling(work, ENGINES[name].engine(work.rows)) for name in engines},
        GENERATE: generate(work),
        **({GENERATE_PLAIN: generate(work, top_k=0)} if plain else {}),
        LINEAR: linear_products(config, *size, torch.float32),
        LINEAR_BFLOAT16: linear_products(config, *size, torch.bfloat16),
        ATTENTION: attention_products(config, *size[1:]),
    }


def measure(runs: dict[str, Callable[[], None]], repetitions: int) -> Seconds:
    """Seconds of every contestant in every repetition."""
    order = list(runs.items())
    for name in (LINEAR, LINEAR_BFLOAT16, ATTENTION):  # the first writes to their memory are no products
        runs[name]()
    seconds: Seconds = {name: [] for name in runs}
    for repetition in range(repetitions):
        turn = repetition % len(order)
        for name, run in order[turn:] + order[:turn]:
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def repetitions_of(rows: int, prompt: str | int) -> int:
    """More of what is short."""
    if rows <= 16:
        return 5
    return 3 if rows <= 64 or prompt in ("game24", 16) else 1


def cell(
    folder: Path | None, threads: int, rows: int, prompt: str | int, seed: int, quick: bool, until: float
) -> dict[str, Any] | None:
    """Measure one cell, or read it where it has been measured; None if the time is over."""
    path = folder / f"threads{threads}-answers{rows}-prompt{prompt}-seed{seed}.json" if folder else None
    if path is not None and path.exists():
        return json.loads(path.read_text())
    if time.monotonic() > until:
        return None
    torch.set_num_threads(threads)
    engines = [name for name, entry in ENGINES.items() if entry.needs is None or importlib.util.find_spec(entry.needs)]
    for run in contestants(make_work(seed, 1, 1, 2), engines).values():  # the first call pays for imports
        run()
    load = [os.getloadavg()[0]]
    work = make_work(seed, *SHAPES[rows], 6 if quick else NEW_TOKENS, prompt)
    seconds = measure(contestants(work, engines, prompt == "game24"), 1 if quick else repetitions_of(rows, prompt))
    result = {"seconds": seconds, "load": [*load, os.getloadavg()[0]], "torch": torch.__version__, "processor": _processor()}
    if path is not None:
        write_json(path, result)
    return result


def merged(cells: Sequence[dict[str, Any]]) -> Seconds:
    """The repetitions of several seeds, one after the other."""
    return {name: [value for one in cells for value in one["seconds"][name]] for name in cells[0]["seconds"]}


def quotients(seconds: Seconds, numerators: Sequence[str], denominator: str) -> list[float]:
    """Ratios, repetition by repetition; several numerators are added."""
    above = [sum(values) for values in zip(*(seconds[name] for name in numerators), strict=True)]
    return [a / b for a, b in zip(above, seconds[denominator], strict=True)]


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def floor_of(name: str) -> tuple[str, str]:
    """The products that a contestant is held against."""
    return (ENGINES[name].floor if name in ENGINES else LINEAR), ATTENTION


def tables(results: dict[tuple[int, str | int], Seconds], tokens: int) -> list[str]:
    """The tables of one number of threads."""
    first = next(iter(results.values()))
    names = [name for name in first if name in ENGINES]
    timed = [*names, *(name for name in first if name not in names)]
    labels = [(str(rows), str(prompt)) for rows, prompt in results]
    lines = ["Times as fast as `model.generate` with its defaults:", ""]
    rows = [
        (*label, *(spread(quotients(seconds, [GENERATE], name)) for name in names))
        for label, seconds in zip(labels, results.values(), strict=True)
    ]
    lines += [table(("answers", "prompt", *names), rows), "", "Share of the floor (floor / seconds):", ""]
    rows = [
        (*label, *(spread(quotients(seconds, floor_of(name), name)) for name in [*names, GENERATE]))
        for label, seconds in zip(labels, results.values(), strict=True)
    ]
    lines += [table(("answers", "prompt", *names, GENERATE), rows), "", "Seconds, median (tokens per second):", ""]
    rows = [
        (
            *label,
            *(f"{median(own):.3g} ({size * tokens / median(own):,.0f})" if own else "-" for own in map(seconds.get, timed)),
        )
        for (size, _), label, seconds in zip(results, labels, results.values(), strict=True)
    ]
    return [*lines, table(("answers", "prompt", *timed), rows)]


TARGET_SHARE, TARGET_FACTOR = 0.7, 2.5


def targets(results: dict[tuple[int, str | int], Seconds], threads: int) -> list[str]:
    """Whether the native engine is where it should be, row by row, and why it is not where it is not."""
    rows, missed = [], {"share": [], "factor": []}
    for (answers, prompt), seconds in results.items():
        label = f"{answers} answers, prompts of {prompt}"
        share = median(quotients(seconds, floor_of("native"), "native"))
        factor = median(quotients(seconds, [GENERATE], "native"))
        possible = median(1 / share for share in quotients(seconds, floor_of(GENERATE), GENERATE))
        row = [str(answers), str(prompt), "-", "-", f"{possible:.2f}", f"{factor:.2f}: {'met' if factor >= 1 else 'missed'}"]
        if answers >= 64:
            row[2] = f"{share:.2f}: {'met' if round(share, 2) >= TARGET_SHARE else 'missed'}"
            missed["share"] += [label] * row[2].endswith("missed")
        if answers == 256:
            row[3] = f"{factor:.2f}: {'met' if round(factor, 2) >= TARGET_FACTOR else 'missed'}"
            missed["factor"] += [label] * row[3].endswith("missed")
        rows.append(row)
    header = (
        *("answers", "prompt", f"share of the floor, at least {TARGET_SHARE:g}", f"times `generate`, at least {TARGET_FACTOR:g}"),
        *("times `generate` of the floor itself", "not slower than `generate`"),
    )
    lines = ["Targets, for `native`, by the medians:", "", table(header, rows)]
    if missed["share"]:
        lines += [
            "",
            f"Below {TARGET_SHARE:.0%} of the floor ({'; '.join(missed['share'])}): beside its products the engine has norms, rotations, softmax, "
            "copies into the cache and the drawing of tokens, which weigh more where few rows share a product (not measured apart).",
        ]
    if missed["factor"]:
        lines += [
            "",
            f"Less than {TARGET_FACTOR:g} times `generate` ({'; '.join(missed['factor'])}): with {threads} thread{'s' * (threads > 1)} "
            "`generate` itself is so near the floor that the bare products alone would be only as many times as fast as the column beside it says.",
        ]
    return lines


def report(threads: Sequence[int], seeds: Sequence[int], quick: bool, until: float) -> str:
    """Measure what is missing, and write it down as Markdown."""
    folder = None if quick else RESULTS
    shapes = [(1, "game24"), (16, 16)] if quick else [(rows, prompt) for prompt in PROMPTS for rows in SHAPES]
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    sections, absent = [], []
    loads: dict[str, list[float]] = {}
    where: dict[str, dict[str | int, dict[int, None]]] = {}
    found: dict[int, dict[tuple[int, str | int], Seconds]] = {count: {} for count in threads}
    # One kind of prompt after the other, so that a run that was cut short has whole tables of some.
    for (rows, prompt), count in ((shape, count) for shape in shapes for count in threads):
        cells = [cell(folder, count, rows, prompt, seed, quick, until) for seed in seeds]
        measured = [one for one in cells if one is not None]
        if len(measured) < len(seeds):
            absent.append(f"{rows} answers to prompts of {prompt} with {count} threads")
            continue
        for one in measured:
            loads.setdefault(one["processor"], []).extend(one["load"])
            where.setdefault(one["processor"], {}).setdefault(prompt, {})[rows] = None
        found[count][rows, prompt] = merged(measured)
    for count, results in found.items():
        if results:
            sections += ["", f"## {count} thread{'s' if count > 1 else ''}", "", *tables(results, 6 if quick else NEW_TOKENS)]
            sections += [] if quick else ["", *targets(results, count)]
    lines = [
        "# Sampling",
        "",
        f"    {policy and f'OMP_WAIT_POLICY={policy} '}python benchmarks/sampling.py{' --quick' * quick}",
        "",
        f"Answers of {6 if quick else NEW_TOKENS} tokens, 8 to a prompt (1 where there is one answer), tiny model (`tiny_llama` with "
        "the Game of 24's words), float32. Prompts: the Game of 24's, or random ones of 16, 128 and 512 tokens. "
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}. "
        f"Seeds {', '.join(map(str, seeds))} (weights, prompts, sampling). "
        "All contestants of a batch in one process in a turning order; ratios are taken within a repetition: median (least to largest).",
        "",
        *(
            f"Measured on {processor}, load average {min(loads[processor]):.1f} to {max(loads[processor]):.1f}: "
            + "; ".join(f"prompts of {prompt}, {', '.join(map(str, rows))} answers" for prompt, rows in cells.items())
            + ".\n"
            for processor, cells in where.items()
        ),
        "The floor is the bare matrix products of the work: those with weights, the prompt's once for its samples, in the largest "
        "matrices possible, and those of attention over one cache for each answer, of the mean length. `native, bfloat16` "
        "is held against products with weights in bfloat16, all others against float32; attention is float32 in both. "
        "What an engine need not do (read a prompt's cache once for each of its samples) it may save: a share can pass 1.",
    ]
    missing = [
        f"`{name}` (no package {entry.needs})"
        for name, entry in ENGINES.items()
        if entry.needs and not importlib.util.find_spec(entry.needs)
    ]
    if missing + absent:
        lines += ["", f"Not measured: {', '.join(missing + absent)}."]
    return "\n".join([*lines, *sections]) + "\n"


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
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads to measure with")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after so long")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--quick", action="store_true", help="small batches, once, written nowhere")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.threads, arguments.seeds = [1], [0]
    until = time.monotonic() + 60 * arguments.minutes if not arguments.report else float("-inf")
    text = report(arguments.threads, arguments.seeds, arguments.quick, until)
    print(text)
    if not arguments.quick:
        RESULTS.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
