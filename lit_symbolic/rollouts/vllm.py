"""Sampling with vLLM: the base in 16 bits in its own memory, the policy's adapter exchanged when it has changed.

Written and tested against a stub of the API of vLLM 0.26; it has never run with vLLM itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import count
from typing import Any, Literal

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from lit_symbolic.rollouts.engine import Generation, OnFinished, RolloutEngine, SamplingSettings, require_prompts
from lit_symbolic.rollouts.libraries import Answer, drawn_seed, gathered, kept_generators
from lit_symbolic.rollouts.served_adapter import AdapterVersions, served_adapter

# What vLLM takes as max_lora_rank.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# vLLM raises lower temperatures to this one, under which log-probs would be others than asked for.
LEAST_TEMPERATURE = 0.01


class VLLMEngine(RolloutEngine):
    """vLLM beside the trainer on one GPU, for a policy with a LoRA adapter.

    vLLM holds a second copy of the base, which nothing is ever merged into; the adapter goes to it as a PEFT folder, under a
    new number whenever its weights have changed. For a 4-bit policy that base is the one before quantization, so that
    log-probs differ from the policy's own; so they do, less, through an adapter that vLLM rounds to the base's type.

    Args:
        base: Name or folder of the base; null takes the policy's own.
        dtype: Type of the base's weights; ``policy`` takes that of the policy's weights that are not quantized.
        gpu_memory_utilization: Share of the GPU's memory that vLLM takes, for weights and cache together.
        max_model_len: Longest prompt plus answer in tokens; null takes the model's, for which the cache must have room.
        sleep: Move vLLM's weights to the CPU's memory and drop its cache while the policy learns.
        options: Further arguments of ``vllm.LLM``.

    Raises:
        ValueError: If an argument is out of its range, or ``options`` holds what is set here.
    """

    def __init__(
        self,
        base: str | None = None,
        dtype: Literal["bfloat16", "float16", "float32", "policy"] = "bfloat16",
        gpu_memory_utilization: float = 0.4,
        max_model_len: int | None = None,
        sleep: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        if not 0 < gpu_memory_utilization <= 1:
            raise ValueError(f"gpu_memory_utilization lies in (0, 1], got {gpu_memory_utilization}")
        self.base = base
        self.dtype = dtype
        self.gpu_memory_utilization = gpu_memory_utilization
        self.max_model_len = max_model_len
        self.sleep = sleep
        self.options = dict(options or {})
        taken = self._arguments("", "", None, 1).keys() & self.options.keys()
        if taken:
            raise ValueError(
                f"engine.options must not hold {sorted(taken)}: they follow from the policy and this engine's arguments"
            )
        self._llm: Any = None
        self._versions: AdapterVersions | None = None
        self._served: int | None = None
        self._names = count()

    @property
    def exact(self) -> bool:
        """No: the base is not quantized, and the adapter has the base's type."""
        return False

    @property
    def reproducible(self) -> bool:
        """No: each answer has a seed of its own, but its logits are rounded by what stands beside it in vLLM's batches."""
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
        """See :meth:`RolloutEngine.generate`; the samples of a prompt are reported together, once all have ended.

        Raises:
            ImportError: If vLLM is not installed.
            ValueError: If vLLM could not sample from this policy, or not at this temperature.
            RuntimeError: If several processes train, or vLLM fails.
        """
        require_prompts(prompts, samples)
        if 0 < settings.temperature < LEAST_TEMPERATURE:
            raise ValueError(f"vLLM samples at temperature {LEAST_TEMPERATURE} and above, or at 0, got {settings.temperature}")
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            raise RuntimeError("VLLMEngine samples for one process on one GPU: give trainer.devices 1, or take NativeEngine")
        config = served_adapter(model)
        seeds = [drawn_seed(generator) for _ in prompts]
        # Where vLLM runs in this process, it seeds the global generators.
        with kept_generators(model.device):
            self._wake(model, config)
            try:
                answers = self._answers(self._adapter(model), prompts, samples, settings, eos_ids, seeds, on_finished)
            finally:
                if self.sleep:
                    self._llm.sleep(level=1)
        return gathered(answers, eos_ids, pad_id, model.device)

    def _answers(
        self,
        adapter: Any,
        prompts: Sequence[Sequence[int]],
        samples: int,
        settings: SamplingSettings,
        eos_ids: Sequence[int],
        seeds: Sequence[int],
        on_finished: OnFinished | None,
    ) -> list[Answer]:
        """All answers, in order; also after an exception nothing is left for vLLM to do."""
        engine, requests = self._llm.llm_engine, dict[str, int]()
        answers: dict[int, list[Answer]] = {}
        try:
            for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
                name = f"{next(self._names)}"
                sampling = sampling_params(samples, settings, eos_ids, seed)
                engine.add_request(name, {"prompt_token_ids": list(prompt)}, sampling, lora_request=adapter)
                requests[name] = index
            while requests:
                if not engine.has_unfinished_requests():
                    raise RuntimeError(
                        f"vLLM has nothing left to do, and {len(requests)} prompts have no answers; see its log above"
                    )
                for output in engine.step():
                    if not output.finished:
                        continue
                    index = requests.pop(output.request_id)
                    ended = [answer_of(c, eos_ids) for c in sorted(output.outputs, key=lambda c: c.index)]
                    # Greedy answers are all the same, and sampled once.
                    answers[index] = ended if settings.temperature else ended * samples
                    if on_finished is not None:
                        rows = range(index * samples, (index + 1) * samples)
                        on_finished(list(rows), [answer.ids for answer in answers[index]])
        finally:
            if requests:
                engine.abort_request(list(requests))
        return [answer for index in range(len(prompts)) for answer in answers[index]]

    def release(self) -> None:
        """See :meth:`RolloutEngine.release`: let go of vLLM and of what was written for it."""
        self._llm = self._served = None
        if self._versions is not None:
            self._versions.close()
            self._versions = None

    def _wake(self, model: PreTrainedModel, config: LoraConfig) -> None:
        if self._llm is not None:
            if self.sleep:
                self._llm.wake_up()
            return
        base = self.base or getattr(model.config, "_name_or_path", "")
        if not base:
            raise ValueError("vLLM loads the base itself, and this policy's came from no folder or hub: give engine.base")
        if config.r > RANKS[-1]:
            raise ValueError(f"vLLM takes adapters of rank {RANKS[-1]} at most, got {config.r}: lower policy.lora.r")
        dtype = str(model.dtype).removeprefix("torch.") if self.dtype == "policy" else self.dtype
        # Of the hub's versions the one that the policy has; None is of no hub.
        revision = None if self.base else getattr(model.config, "_commit_hash", None)
        rank = min(rank for rank in RANKS if rank >= config.r)
        self._llm = imported("vllm").LLM(**self._arguments(base, dtype, revision, rank), **self.options)

    def _arguments(self, base: str, dtype: str, revision: str | None, rank: int) -> dict[str, Any]:
        return {
            "model": base,
            "dtype": dtype,
            "revision": revision,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "max_model_len": self.max_model_len,
            "enable_sleep_mode": self.sleep,
            "enable_lora": True,
            "max_loras": 1,
            "max_lora_rank": rank,
            # Of the distribution that is drawn from; vLLM's default leaves the temperature out.
            "logprobs_mode": "processed_logprobs",
            # Neither penalties nor ends of the model's own.
            "generation_config": "vllm",
        }

    def _adapter(self, model: PreTrainedModel) -> Any:
        """The request for the present weights; older ones are removed."""
        if self._versions is None:
            self._versions = AdapterVersions()
        version = self._versions.current(model)
        if self._served not in (None, version.number):
            self._llm.llm_engine.remove_lora(self._served)
        self._served = version.number
        # The name changes too: cached prompts are known by it.
        return imported("vllm.lora.request").LoRARequest(f"policy-{version.number}", version.number, str(version.path))


def sampling_params(samples: int, settings: SamplingSettings, eos_ids: Sequence[int], seed: int) -> Any:
    """One prompt's ``vllm.SamplingParams``; what is not named is off by vLLM's own defaults."""
    vllm = imported("vllm.sampling_params")
    return vllm.SamplingParams(
        # vLLM refuses several greedy answers.
        n=samples if settings.temperature else 1,
        temperature=settings.temperature,
        seed=seed,
        max_tokens=settings.max_new_tokens,
        # What ends an answer is said here alone.
        ignore_eos=True,
        stop_token_ids=list(eos_ids),
        logprobs=0,  # of the sampled token and no others
        detokenize=False,
        output_kind=vllm.RequestOutputKind.FINAL_ONLY,
    )


def answer_of(completion: Any, eos_ids: Sequence[int]) -> Answer:
    """A ``CompletionOutput`` as an answer.

    Raises:
        RuntimeError: If it did not end as asked, or its end-of-sequence token is missing.
    """
    ids = list(completion.token_ids)
    if completion.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"vLLM ended an answer with {completion.finish_reason!r}; see its log above")
    if not ids or (completion.finish_reason == "stop" and ids[-1] not in eos_ids):
        raise RuntimeError(f"vLLM ended an answer without the token that ends it: its last ids are {ids[-3:]}")
    return Answer(ids, [words[token].logprob for token, words in zip(ids, completion.logprobs, strict=True)])


def imported(module: str) -> Any:
    """A module of vLLM.

    Raises:
        ImportError: If vLLM is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"VLLMEngine needs vLLM, which cannot be imported ({error}): pip install 'lit-symbolic[vllm]', or take NativeEngine"
        ) from error
