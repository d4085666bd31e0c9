"""Memory and time of the log-probs of chosen tokens: hidden states x head, forward and backward, over tokens and vocabulary.

    python benchmarks/memory.py                # 4 minutes on one thread; writes benchmarks/results/memory.md
    python benchmarks/memory.py --quick        # seconds; prints only

Peak memory is that of torch's allocator: on a CPU every allocation and release that torch.profiler records, added up in the
order of time (exact, and the same in every run, but blind to what a BLAS library takes for itself, which the growth of the resident
set beside it would show); on CUDA ``torch.cuda.max_memory_allocated``. What the gradients take is subtracted. Times are taken apart, without
the profiler, in one process and in a turning order; a ratio is taken within a repetition.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from lit_symbolic.objectives.logprobs import token_logprobs

RESULTS = Path(__file__).parent / "results" / "memory.md"
MIB = 2**20
MOST_BYTES = 4 * 2**30  # no cell may need more
ALONE = (8, 128)  # at this size the plain form needs gigabytes: only ours is measured
PLAIN, PLAIN_ENTROPY = "plain", "plain, with entropy"
OURS, OURS_ENTROPY = "`token_logprobs`", "`token_logprobs`, with entropy"
CHECKPOINTED, TORCH = "checkpointed chunks of 64 tokens", "`F.linear_cross_entropy`, chunks of 16 MiB"

Loss = Callable[["Work"], Tensor]


@dataclass(frozen=True)
class Work:
    """Hidden states, a head and chosen tokens; every token counts, so that all contestants have the same to do."""

    hidden: Tensor
    head: nn.Linear
    ids: Tensor

    @classmethod
    def make(cls, batch: int, length: int, words: int, width: int, trained: bool, dtype: torch.dtype, device: str) -> Work:
        """Random, from seed 0."""
        torch.manual_seed(0)
        head = nn.Linear(width, words, bias=False, dtype=dtype, device=device).requires_grad_(trained)
        hidden = torch.randn(batch, length, width, dtype=dtype, device=device, requires_grad=True)
        return cls(hidden, head, torch.randint(words, (batch, length), device=device))

    @property
    def plain_bytes(self) -> int:
        """What the plain form may need at the most: six tensors of all logits in float32, and weights and their gradients."""
        return 4 * (6 * self.ids.numel() * self.head.out_features + 2 * self.head.weight.numel())

    def learn(self, loss: Loss) -> None:
        """Forward and backward; gradients are made anew."""
        self.hidden.grad = self.head.weight.grad = None
        loss(self).backward()

    def gradient_bytes(self) -> int:
        """Of the gradients that are there."""
        return sum(t.grad.nbytes for t in (self.hidden, self.head.weight) if t.grad is not None)


def _all_logits(work: Work) -> Tensor:
    return work.head(work.hidden).float().log_softmax(dim=-1)


def plain(work: Work) -> Tensor:
    """``log_softmax`` and ``gather``."""
    return _all_logits(work).gather(2, work.ids[..., None]).mean()


def plain_entropy(work: Work) -> Tensor:
    """The same, with an entropy bonus."""
    normalised = _all_logits(work)
    entropy = -(normalised.exp() * normalised).sum(dim=-1)
    return normalised.gather(2, work.ids[..., None]).mean() + 0.01 * entropy.mean()


def ours(work: Work) -> Tensor:
    """This package's."""
    mask = torch.ones_like(work.ids, dtype=torch.bool)
    return token_logprobs(work.hidden, work.head, work.ids, mask, entropy="none")[0].mean()


def ours_entropy(work: Work) -> Tensor:
    """This package's, with an entropy bonus."""
    mask = torch.ones_like(work.ids, dtype=torch.bool)
    logprobs, entropy = token_logprobs(work.hidden, work.head, work.ids, mask, entropy="gradient")
    return logprobs.mean() + 0.01 * entropy.mean()


def checkpointed(work: Work) -> Tensor:
    """Chunks of tokens by ``torch.utils.checkpoint``, as chunked losses in plain PyTorch have it."""

    def chunk(states: Tensor, chosen: Tensor) -> Tensor:
        return work.head(states).float().log_softmax(dim=-1).gather(1, chosen[:, None])

    pairs = zip(work.hidden.flatten(0, 1).split(64), work.ids.flatten().split(64), strict=True)
    return torch.cat([checkpoint(chunk, *pair, use_reentrant=False) for pair in pairs]).mean()


def torch_chunked(work: Work) -> Tensor:
    """torch's own; a loss per token, as a policy's needs it. It has no entropy."""
    tokens = max(1, 16 * MIB // (4 * work.head.out_features))
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=tokens, chunking_method=None)
    return -functional.linear_cross_entropy(
        work.hidden.flatten(0, 1), work.head.weight, work.ids.flatten(), reduction="none", options=options
    ).mean()


def contestants(entropy: bool) -> dict[str, Loss]:
    """What is measured, by name; the first of each kind is what times are divided by."""
    if entropy:
        return {PLAIN_ENTROPY: plain_entropy, OURS_ENTROPY: ours_entropy}
    field: dict[str, Loss] = {PLAIN: plain, OURS: ours, CHECKPOINTED: checkpointed}
    if hasattr(functional, "linear_cross_entropy"):
        field[TORCH] = torch_chunked
    return field


def peak_bytes(run: Callable[[], object], device: str) -> int:
    """The most bytes that torch held at one time during ``run``, above what it held before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        run()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def resident_growth(run: Callable[[], object]) -> int | None:
    """Growth of the process's largest resident set, where the kernel can be told to start measuring anew (Linux)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def check_of_the_measurement(device: str) -> str:
    """A known course of allocations: 96 MiB, then 64 more, the first released, then 16 more; at most 160 at one time."""

    def run() -> None:
        first = torch.empty(96 * MIB, dtype=torch.uint8, device=device).fill_(1)
        second = torch.empty(64 * MIB, dtype=torch.uint8, device=device).fill_(1)
        del first
        third = torch.empty(16 * MIB, dtype=torch.uint8, device=device).fill_(1)
        del second, third

    read = peak_bytes(run, device)
    if abs(read - 160 * MIB) > MIB // 4:
        raise RuntimeError(f"the measurement of memory is off: 160 MiB were allocated at one time, {read / MIB:.1f} were read")
    growth = resident_growth(run) if device == "cpu" else None
    return f"A known course of allocations, 160.0 MiB at its peak, was read as {read / MIB:.1f}" + (
        "." if growth is None else f", and as {growth / MIB:.1f} in the resident set."
    )


def seconds(work: Work, field: dict[str, Loss], repetitions: int, device: str) -> dict[str, list[float]]:
    """Of forward and backward: processor time on a CPU, else wall time; repetitions in a turning order."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in field}
    for repetition in range(repetitions):
        turn = repetition % len(field)
        for name, loss in [*field.items()][turn:] + [*field.items()][:turn]:
            start = clock()
            work.learn(loss)
            if device == "cuda":
                torch.cuda.synchronize()
            taken[name].append(clock() - start)
    return taken


def cell(work: Work, entropy: bool, repetitions: int, device: str) -> dict[str, tuple[float, float | None, str]]:
    """By contestant: peak above parameters and gradients in MiB, the same of the resident set, time over plain's or in seconds."""
    alone = tuple(work.ids.shape) == ALONE
    if work.plain_bytes > MOST_BYTES and not alone:
        raise ValueError(f"a cell of {work.plain_bytes / 2**30:.1f} GiB is above the limit of {MOST_BYTES / 2**30:.0f} GiB")
    field: dict[str, Loss] = {OURS: ours} if alone else contestants(entropy)
    taken = seconds(work, field, repetitions, device)
    divisor = taken[next(iter(field))]
    found = {}
    for name, loss in field.items():
        work.hidden.grad = work.head.weight.grad = None
        peak = peak_bytes(lambda loss=loss: work.learn(loss), device)
        gradients = work.gradient_bytes()
        peak -= gradients
        work.hidden.grad = work.head.weight.grad = None
        growth = resident_growth(lambda loss=loss: work.learn(loss)) if device == "cpu" else None
        quotients = taken[name] if alone else [a / b for a, b in zip(taken[name], divisor, strict=True)]
        ratio = f"{median(quotients):.2f} ({min(quotients):.2f} to {max(quotients):.2f})" + (" s" if alone else "")
        found[name] = (peak / MIB, None if growth is None else (growth - gradients) / MIB, ratio)
    return found


def table(
    shapes: list[tuple[int, int]],
    vocabularies: list[int],
    width: int,
    trained: bool,
    dtype: torch.dtype,
    entropy: bool,
    repetitions: int,
    device: str,
) -> list[str]:
    """One row for each shape and contestant: peaks over the vocabularies, then times."""
    heads = [f"{words // 1000}k" for words in vocabularies]
    columns = [f"{figure}, {head}" for figure in ("resident MiB", "time / plain") for head in heads]
    lines = [
        "| batch x length | | " + " | ".join([*(f"peak MiB, {head}" for head in heads), "largest / smallest", *columns]) + " |",
        "|---|---|" + "---|" * (3 * len(heads) + 1),
    ]
    for batch, length in shapes:
        works = (Work.make(batch, length, words, width, trained, dtype, device) for words in vocabularies)  # one at a time
        cells = [cell(work, entropy, repetitions, device) for work in works]
        for name in cells[0]:
            peaks = [found[name][0] for found in cells]
            grown = [found[name][1] for found in cells]
            row = [f"{batch} x {length}", name, *(f"{peak:,.1f}" for peak in peaks), f"{peaks[-1] / peaks[0]:.2f}"]
            row += ["" if resident is None else f"{resident:,.0f}" for resident in grown]
            lines.append("| " + " | ".join([*row, *(found[name][2] for found in cells)]) + " |")
    return lines


def report(quick: bool, repetitions: int) -> str:
    """Measure, and write it down as Markdown."""
    shapes = [(1, 36), (2, 36)] if quick else [(2, 32), (2, 64), (4, 32)]
    vocabularies = [128_000, 256_000] if quick else [32_000, 128_000, 256_000]
    width = 16 if quick else 128
    lines = [
        "# Memory of log-probs",
        "",
        f"    python benchmarks/memory.py {' '.join(sys.argv[1:])}".rstrip(),
        "",
        "Log-probs of chosen tokens from hidden states and a linear head, forward and backward. Peak: the most bytes that torch held at "
        "one time, above parameters and gradients. On a CPU these are all its allocations, from torch.profiler, which does not see what "
        "a BLAS library takes for itself: growth of the resident set beside it, also without gradients (it misses what "
        "memory freed before serves again). Time: forward and backward over the plain form's (`log_softmax`, `gather`, autograd), "
        f"processor time on a CPU, {repetitions} repetition(s) in one process in a turning order, ratios within a repetition, median "
        f"(least to largest); of {ALONE[0]} x {ALONE[1]} tokens, where the plain form would need gigabytes, ours alone, in seconds. "
        f"Seed 0; width {width}. Python {platform.python_version()}, torch {torch.__version__}, {_processor()}, "
        f"{torch.get_num_threads()} thread(s); load average before the run {os.getloadavg()[0]:.1f}.",
        "",
        "Target: flat in the vocabulary above the parameters and their gradients. `token_logprobs` works in chunks of 16 MiB of float32 "
        "logits, however many tokens those are. Once the logits of all tokens are more than that, its peak is one chunk, two with entropy "
        "or a frozen bfloat16 head, whatever the vocabulary. Where they all fit into one chunk, it is once or twice what they take (their "
        "softmax is kept), and so grows up to there: largest / smallest above 1 is that step, and below 1 the step down from it; compare "
        "128k and 256k. The resident set, read once each, also counts what the BLAS library packs and what the allocator keeps: it scatters.",
    ]
    for device in ("cpu", "cuda"):
        lines += ["", f"## {device.upper()}", ""]
        if device == "cuda" and not torch.cuda.is_available():
            lines.append("Not measured: no GPU was at hand.")
            continue
        if device == "cuda":
            lines += [torch.cuda.get_device_name(), ""]
        lines.append(check_of_the_measurement(device))
        kinds = [
            ("trained float32 head", True, torch.float32, False),
            ("trained float32 head, entropy bonus", True, torch.float32, True),
            ("frozen bfloat16 head", False, torch.bfloat16, False),
        ]
        for title, trained, dtype, entropy in kinds[: 2 if quick else 3]:
            lines += ["", f"### {title[0].upper()}{title[1:]}", ""]
            # One large cell, of the first kind: what it shows of the others is the same.
            large = [ALONE] if trained and not entropy and not quick else []
            lines += table([*shapes, *large], vocabularies, width, trained, dtype, entropy, repetitions, device)
    lines += [
        "",
        "Peers: torch's own `F.linear_cross_entropy` is in the table where this torch has it (loss per token; chunks of as many bytes as ours "
        "have, since its default, one token or two here, takes 12 times as long as the plain form; no entropy, no temperature). "
        "Not here: Liger's kernels and cut-cross-entropy need a GPU with Triton; TRL takes "
        "Liger's; torchtune's chunked loss, eight chunks of tokens whatever the vocabulary, is no longer maintained. Checkpointed "
        "chunks stand for it: their peak grows with the vocabulary, and with it comes a second gradient of the head.",
    ]
    return "\n".join(lines) + "\n"


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3, help="of each contestant in each cell, for the times")
    parser.add_argument("--quick", action="store_true", help="small cells, once, written nowhere")
    arguments = parser.parse_args()
    text = report(arguments.quick, 1 if arguments.quick else arguments.repetitions)
    print(text)
    if not arguments.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
