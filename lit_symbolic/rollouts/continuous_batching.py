"""Sampling with the continuous batching of transformers: a paged cache, and a new answer begun where another ends."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.requests import GenerationOutput

from lit_symbolic.rollouts.engine import Generation, OnFinished, RolloutEngine, SamplingSettings, require_prompts
from lit_symbolic.rollouts.libraries import Answer, drawn_seed, gathered, lent, plain_sampling

# How long to wait for an answer before looking whether the thread that samples is still alive.
POLL_SECONDS = 1.0


class ContinuousBatchingEngine(RolloutEngine):
    """The manager behind ``model.generate_batch``, whose answers are reported as each one ends.

    It samples in a thread of its own, from keys and values that lie in pages: no row is padded, and the pages of an answer
    that has ended go to the next. A prompt is read once and its pages are shared by its samples; where the cache is full, a
    sample waits, or begins anew behind what it has written. Log-probs are those that the manager returns of the softmax it
    draws from. Made for GPUs with flash attention; with any other attention each step attends from all rows to all pages
    under a mask, which is slower than the in-process engine once there are more than a few rows.

    Args:
        max_rows: Rows of full length that the cache has room for; more are begun as others end.
        page_size: Tokens in a page of the cache, a power of two; 256 where flash attention reads pages itself.
        batch_tokens: Tokens of prompts and answers in one forward pass, at most; one for each row in any case.
        flash: Let the manager switch to flash attention where it is installed; old versions of transformers always do.

    Raises:
        ValueError: If a number is out of its range.
    """

    def __init__(self, max_rows: int = 256, page_size: int = 32, batch_tokens: int = 512, flash: bool = True) -> None:
        for name, value, least in (("max_rows", max_rows, 1), ("page_size", page_size, 4), ("batch_tokens", batch_tokens, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.max_rows = max_rows
        self.page_size = page_size
        self.batch_tokens = batch_tokens
        self.flash = flash

    @property
    def reproducible(self) -> bool:
        """Whether an answer follows from the seed alone: no, all rows draw from one stream, in the order of their tokens.

        The same call gives the same answers where nothing else draws from torch's global generators meanwhile, as tested on the
        CPU; but the answer of a row depends on the rows beside it and on this engine's settings.
        """
        return False

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
        """See :meth:`RolloutEngine.generate`.

        Raises:
            ValueError: Under autocast to another type than the weights', which the cache could not hold.
            RuntimeError: If the manager fails.
        """
        require_prompts(prompts, samples)
        config = plain_sampling(settings, eos_ids, pad_id)
        config.num_return_sequences = samples
        config.eos_token_id = config.eos_token_id or -1  # no token has this id
        seed = drawn_seed(generator)
        rows = len(prompts) * samples
        sizes = self._sizes(min(rows, self.max_rows), max(map(len, prompts)) + settings.max_new_tokens, seed)
        answers: dict[int, Answer] = {}
        with lent(model, seed), same_autocast(model), started(model, prompts, config, sizes) as manager:
            while len(answers) < rows:
                output = next_output(manager)
                row = row_of(output.request_id, samples)
                answers[row] = Answer(list(output.generated_tokens), list(output.logprobs))
                if on_finished is not None:
                    on_finished([row], [answers[row].ids])
        return gathered([answers[row] for row in range(rows)], eos_ids, pad_id, model.device)

    def _sizes(self, rows: int, length: int, seed: int) -> ContinuousBatchingConfig:
        """What the manager allocates: a cache of ``rows`` answers of ``length`` tokens, prompt included."""
        known = {field.name for field in fields(ContinuousBatchingConfig)}
        # Names of newer versions: pages were blocks before, and flash attention was always taken.
        versioned: dict[str, Any] = {"page_size" if "page_size" in known else "block_size": self.page_size}
        if "auto_switch_to_flash" in known:
            versioned["auto_switch_to_flash"] = self.flash
        return ContinuousBatchingConfig(
            **versioned,
            num_blocks=rows * (math.ceil(length / self.page_size) + 1),
            max_batch_tokens=max(rows, self.batch_tokens),
            max_requests_per_batch=rows,
            return_logprobs=True,
            seed=seed,
            # It would set an environment variable of the process.
            disable_nccl_graph_mixing=False,
        )


@contextmanager
def started(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], config: GenerationConfig, sizes: ContinuousBatchingConfig
) -> Iterator[ContinuousBatchingManager]:
    """A manager at work on the prompts; afterwards, also after an exception, its thread has ended and the model is as before."""
    attention = model.config._attn_implementation
    manager: ContinuousBatchingManager | None = None
    finished = False
    with spared_objects():
        try:
            manager = model.init_continuous_batching(config, sizes)  # type: ignore[operator]
            # All of them before the thread starts: what stands together in a batch must not depend on its pace.
            for index, prompt in enumerate(prompts):
                manager.add_request(list(prompt), request_id=str(index), max_new_tokens=config.max_new_tokens)
            manager.start()
            yield manager
            finished = True
        finally:
            if manager is not None:
                manager.stop(block=True, hard_stop=not finished)
                manager.destroy()
            if model.config._attn_implementation != attention:
                model.set_attn_implementation(attention)


@contextmanager
def spared_objects() -> Iterator[None]:
    """Keep the garbage collections that the manager asks for from looking through every object of the process each time."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def next_output(manager: ContinuousBatchingManager) -> GenerationOutput:
    """Wait for the next answer.

    Raises:
        RuntimeError: If the request failed, or the thread ended without it.
    """
    while True:
        output = manager.get_result(timeout=POLL_SECONDS)
        if output is not None and output.error is None:
            return output
        if output is not None:
            raise RuntimeError(f"continuous batching failed on row {output.request_id}: {output.error}")
        if not manager.is_running():
            raise RuntimeError("continuous batching ended before all answers were sampled; see its log above")


def row_of(request_id: str, samples: int) -> int:
    """The row of a request: that of prompt ``i`` is called ``i``, its further samples ``i__child#0``, ``i__child#1`` ...

    Example:
        >>> [row_of(name, 3) for name in ("2", "2__child#0", "2__child#1")]
        [6, 7, 8]
    """
    prompt, _, child = request_id.partition("__child#")
    return int(prompt) * samples + (int(child) + 1 if child else 0)


@contextmanager
def same_autocast(model: PreTrainedModel) -> Iterator[None]:
    """Run forward passes of other threads under this thread's autocast, which they would not know of.

    Raises:
        ValueError: If it is to another type than the weights'.
    """
    kind = model.device.type
    if not torch.is_autocast_enabled(kind):
        yield
        return
    dtype = torch.get_autocast_dtype(kind)
    if dtype != model.dtype:
        raise ValueError(
            f"continuous batching keeps keys and values in the type of the weights ({model.dtype}) and does not run under autocast "
            f"to {dtype}: give trainer.precision 32-true or bf16-true, load the weights in {dtype}, or take NativeEngine"
        )
    contexts: list[torch.autocast] = []

    def enter(*_: Any) -> None:
        contexts.append(torch.autocast(kind, dtype=dtype))
        contexts[-1].__enter__()

    def leave(*_: Any) -> None:
        contexts.pop().__exit__(None, None, None)

    handles = [model.register_forward_pre_hook(enter), model.register_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
