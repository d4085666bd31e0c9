"""Sampling answers inside the trainer's process.

Each prompt is read once for its n samples, prompts of like length are sampled together, the cache is allocated once, and
rows that have ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_symbolic.rollouts.decoders import Decoder, TransformersDecoder
from lit_symbolic.rollouts.engine import Generation, OnFinished, RolloutEngine, SamplingSettings, require_prompts
from lit_symbolic.rollouts.graphs import GraphDecoder
from lit_symbolic.rollouts.llama import LlamaDecoder, LlamaWeights
from lit_symbolic.rollouts.merged import MergedCopy
from lit_symbolic.rollouts.sampler import Report, Sampler
from lit_symbolic.rollouts.threads import side_by_side
from lit_symbolic.rollouts.turns import TurnLimits, parts_of, plan_turns

LEAST_ROWS = (
    32  # of a part that has a thread of its own: with fewer, reading the weights is what costs, and that is better shared
)
GPU_CHECK_STEPS = 8
LEAST_GRAPH_STEPS = 32  # a capture costs about as much as some steps, once for each number of rows


class NativeEngine(RolloutEngine):
    """The in-process engine.

    Args:
        max_rows: Rows sampled at a time; more are sampled in turns. Bounds the memory of the key-value cache.
        max_cache_tokens: Tokens that the key-value cache holds at most, padding and room for answers included; null is no
            bound but ``max_rows``. A token of a 7B model takes 0.5 MB.
        max_padding: Prompts whose lengths differ by more tokens are not sampled together.
        compact_share: Ended rows leave the batch once they are at least this share of it; leaving copies the cache.
        fused: Use :class:`LlamaDecoder` where it applies; off, the model's own forward pass is always used.
        dtype: ``policy`` samples from the policy's own weights. ``bfloat16`` samples from a copy of them in bfloat16,
            adapters merged in, refreshed at each call: two bytes a weight (14 GB for 7B), held between calls for all but
            plain Llamas. Log-probs are the copy's: see :attr:`exact`.
        threads: CPU threads among which rows are shared out, where the fused decoder runs; null is torch's number.
        cuda_graphs: ``auto`` replays a decode step as a CUDA graph on a GPU, for answers of 32 tokens or more, where every
            layer sees the whole context; it then takes the place of the fused decoder. ``off`` never does.
        check_every: Steps between two looks at which rows have ended; null is 1 on a CPU and 8 on a GPU, which so
            never waits for the host. Answers are the same.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        max_rows: int = 256,
        max_cache_tokens: int | None = None,
        max_padding: int = 128,
        compact_share: float = 0.125,
        fused: bool = True,
        dtype: Literal["policy", "bfloat16"] = "policy",
        threads: int | None = None,
        cuda_graphs: Literal["auto", "off"] = "auto",
        check_every: int | None = None,
    ) -> None:
        least = {"max_rows": 1, "max_cache_tokens": 1, "max_padding": 0, "threads": 1, "check_every": 1}
        for name, bound in least.items():
            value = locals()[name]
            if value is not None and value < bound:
                raise ValueError(f"{name} must be at least {bound}, got {value}")
        if not 0 < compact_share <= 1:
            raise ValueError(f"compact_share lies in (0, 1], got {compact_share}")
        if dtype not in ("policy", "bfloat16"):
            raise ValueError(f"dtype is policy or bfloat16, got {dtype!r}")
        self.limits = TurnLimits(max_rows, max_cache_tokens, max_padding)
        self.compact_share = compact_share
        self.fused = fused
        self.dtype = dtype
        self.threads = threads
        self.cuda_graphs = cuda_graphs
        self.check_every = check_every
        self._copy: MergedCopy | None = None

    @property
    def exact(self) -> bool:
        """See :attr:`RolloutEngine.exact`: whether the policy's own weights are sampled from."""
        return self.dtype == "policy"

    def release(self) -> None:
        """See :meth:`RolloutEngine.release`: let go of the bfloat16 copy; the next call makes it anew."""
        self._copy = None

    def generate(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        samples: int,
        settings: SamplingSettings,
        eos_ids: Sequence[int],
        pad_id: int,
        generator: torch.Generator,
        on_finished: OnFinished | None = None,
    ) -> Generation:
        """See :meth:`RolloutEngine.generate`."""
        require_prompts(prompts, samples)
        device, rows, steps = model.device, len(prompts) * samples, settings.max_new_tokens
        # Random numbers are drawn for all rows and steps at once: an answer depends neither on when other rows end nor
        # on which are sampled beside it.
        # In float32 also under a Trainer whose default type is a half-precision one.
        randoms = torch.rand(rows, steps, dtype=torch.float32, generator=generator)
        check_every = self.check_every or (1 if device.type == "cpu" else GPU_CHECK_STEPS)
        longest = 0
        was_training = model.training
        model.eval()
        try:
            # Inference tensors could not be used in a loss later, hence no_grad.
            with torch.inference_mode(False), torch.no_grad(), ExitStack() as stack:
                out = Generation(
                    ids=torch.full((rows, steps), pad_id, device=device),
                    lengths=torch.empty(rows, dtype=torch.long, device=device),
                    logprobs=torch.zeros(rows, steps, dtype=torch.float32, device=device),
                    ended=torch.empty(rows, dtype=torch.bool, device=device),
                )
                source = self._source(model, steps)
                fused = isinstance(source, LlamaWeights)
                threads = (self.threads or torch.get_num_threads()) if fused and device.type == "cpu" else 1
                # What the fused decoder rounds is settled by its weights.
                stack.enter_context(torch.autocast(device.type, enabled=not fused and torch.is_autocast_enabled(device.type)))
                for turn in plan_turns([len(prompt) for prompt in prompts], samples, steps, self.limits):
                    parts = parts_of(turn, samples, threads, LEAST_ROWS)
                    places = [[prompt * samples + k for prompt in part for k in range(samples)] for part in parts]
                    jobs, reports = [], []
                    for part, part_rows in zip(parts, places, strict=True):
                        sampler = Sampler(
                            self._decoder(source, steps), device, settings, eos_ids, pad_id, self.compact_share, check_every
                        )
                        jobs.append(_job(sampler, [prompts[index] for index in part], samples, randoms[part_rows]))
                        reports.append(_report(on_finished, part_rows))
                    for part_rows, answers in zip(places, side_by_side(jobs, reports), strict=True):
                        length = answers.ids.shape[1]
                        longest = max(longest, length)
                        where = torch.tensor(part_rows, device=device)
                        out.ids[where, :length], out.logprobs[where, :length] = answers.ids, answers.logprobs
                        out.lengths[where], out.ended[where] = answers.lengths, answers.ended
        finally:
            model.train(was_training)
        return Generation(out.ids[:, :longest], out.lengths, out.logprobs[:, :longest], out.ended)

    def _decoder(self, source: LlamaWeights | PreTrainedModel, steps: int) -> Decoder:
        if isinstance(source, LlamaWeights):
            return LlamaDecoder(source)
        return GraphDecoder(source) if self._as_graph(source, steps) else TransformersDecoder(source)

    def _as_graph(self, model: PreTrainedModel, steps: int) -> bool:
        on_gpu = model.device.type == "cuda" and self.cuda_graphs == "auto"
        return on_gpu and steps >= LEAST_GRAPH_STEPS and GraphDecoder.supports(model)

    def _source(self, model: PreTrainedModel, steps: int) -> LlamaWeights | PreTrainedModel:
        """What is sampled from: the present weights, as the fused decoder wants them where it applies."""
        dtype = None if self.exact else torch.bfloat16
        fused = self.fused and not self._as_graph(model, steps)
        if dtype is not None and not (fused and LlamaWeights.supports(model)):
            if self._copy is not None and self._copy.source is MergedCopy.base_of(model):
                self._copy.refresh()
            else:
                self._copy = None  # the old one goes before the new one comes
                self._copy = MergedCopy(model, dtype)
            model = self._copy.model
        # Under autocast the policy's own forward pass rounds where the fused one does not.
        rounds = dtype is None and torch.is_autocast_enabled(model.device.type)
        return LlamaWeights(model, dtype) if fused and not rounds and LlamaWeights.supports(model) else model


def _job(sampler: Sampler, prompts: Sequence[Sequence[int]], samples: int, randoms: Tensor) -> Callable[[Report], Generation]:
    return lambda report: sampler.run(prompts, samples, randoms, report)


def _report(on_finished: OnFinished | None, places: Sequence[int]) -> Report:
    def report(rows: Sequence[int], ids: list[list[int]]) -> None:
        if on_finished is not None:
            on_finished([places[row] for row in rows], ids)

    return report
