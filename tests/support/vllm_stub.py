"""A stand-in for vLLM 0.26: names, arguments and checks of its API, over transformers and PEFT.

Signatures after vLLM's public sources: ``vllm.LLM`` and the fields of ``EngineArgs`` that it passes on,
``vllm.sampling_params``, ``vllm.lora.request``, ``vllm.outputs`` and ``LLMEngine``. What it does with them is written anew: it
opens the base from its folder and the adapter from the folder that a request names, and samples token by token. It shows that
the engine says the right things, not that vLLM does them.
"""

from __future__ import annotations

import enum
import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

# The arguments of EngineArgs among which the engine chooses.
ENGINE_ARGUMENTS = {
    "max_model_len": None,
    "enable_lora": False,
    "max_loras": 1,
    "max_lora_rank": 16,
    "enable_sleep_mode": False,
    "logprobs_mode": "raw_logprobs",
    "generation_config": "auto",
    "max_num_seqs": None,
    "enable_prefix_caching": None,
}


class RequestOutputKind(enum.Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class SamplingParams:
    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE

    def __post_init__(self) -> None:
        if self.temperature == 0 and self.n > 1:
            raise ValueError(f"n must be 1 when using greedy sampling, got {self.n}.")
        if 0 < self.temperature < 0.01:
            self.temperature = 0.01
        if self.seed is not None and not -(2**63) <= self.seed + self.n < 2**63:
            raise ValueError("seed does not fit into 64 bits")


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""
    base_model_name: str | None = None
    tensorizer_config_dict: dict[str, Any] | None = None
    load_inplace: bool = False

    def __post_init__(self) -> None:
        if self.lora_int_id < 1:
            raise ValueError(f"id must be > 0, got {self.lora_int_id}")
        assert self.lora_path, "lora_path cannot be empty"


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    lora_request: LoRARequest | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt: str | None
    prompt_token_ids: list[int] | None
    prompt_logprobs: None
    outputs: list[CompletionOutput]
    finished: bool
    lora_request: LoRARequest | None = None


@dataclass
class _Child:
    """One of a request's n answers."""

    request: str
    prompt: list[int]
    params: SamplingParams
    adapter: LoRARequest
    index: int
    generator: torch.Generator
    ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None


class LLMEngine:
    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.children: list[_Child] = []
        self.adapters: dict[int, LoRARequest] = {}
        self.removed: list[int] = []
        self.aborted: list[str] = []
        self.loads: list[dict[str, Any]] = []

    def add_request(
        self,
        request_id: str,
        prompt: dict[str, list[int]],
        params: SamplingParams,
        arrival_time: float | None = None,
        lora_request: LoRARequest | None = None,
        tokenization_kwargs: dict[str, Any] | None = None,
        trace_headers: dict[str, str] | None = None,
        priority: int = 0,
        prompt_text: str | None = None,
    ) -> str:
        if not isinstance(request_id, str):
            raise TypeError(f"request_id must be a string, got {type(request_id)}")
        assert not self.llm.asleep, "a request while asleep"
        assert set(prompt) == {"prompt_token_ids"}
        assert lora_request is not None
        assert request_id not in {child.request for child in self.children}
        for index in range(params.n):
            generator = torch.Generator().manual_seed((params.seed or 0) + index)
            self.children.append(_Child(request_id, prompt["prompt_token_ids"], params, lora_request, index, generator))
        return request_id

    def has_unfinished_requests(self) -> bool:
        return bool(self.children)

    def abort_request(self, request_ids: list[str], internal: bool = False) -> None:
        self.aborted += request_ids
        self.children = [child for child in self.children if child.request not in request_ids]

    def remove_lora(self, lora_id: int) -> bool:
        self.removed.append(lora_id)
        return self.adapters.pop(lora_id, None) is not None

    def list_loras(self) -> set[int]:
        return set(self.adapters)

    @torch.no_grad()
    def step(self) -> list[RequestOutput]:
        """One token for each answer that has not ended; requests of which all have ended."""
        for child in self.children:
            if child.finish_reason is None:
                self._advance(child)
        finished = []
        for name in dict.fromkeys(child.request for child in self.children):
            family = [child for child in self.children if child.request == name]
            if all(child.finish_reason for child in family):
                outputs = [
                    CompletionOutput(c.index, "", c.ids, None, c.logprobs, c.finish_reason, lora_request=c.adapter)
                    for c in family
                ]
                finished.append(RequestOutput(name, None, family[0].prompt, None, outputs[::-1], True, family[0].adapter))
                self.children = [child for child in self.children if child.request != name]
        return finished

    def _advance(self, child: _Child) -> None:
        params = child.params
        logits = self._model(child.adapter)(torch.tensor([child.prompt + child.ids])).logits[0, -1].float()
        processed = logits / (params.temperature or 1.0)
        drawn = (
            torch.multinomial(processed.softmax(-1), 1, generator=child.generator) if params.temperature else processed.argmax()
        )
        token = int(drawn)
        reported = processed if self.llm.arguments["logprobs_mode"] == "processed_logprobs" else logits
        child.ids.append(token)
        child.logprobs.append({token: Logprob(float(reported.log_softmax(-1)[token]))})
        ends = set(params.stop_token_ids or ()) | (set() if params.ignore_eos else {self.llm.base.config.eos_token_id})
        if token in ends:
            child.finish_reason = "stop"
        elif len(child.ids) == params.max_tokens:
            child.finish_reason = "length"

    def _model(self, adapter: LoRARequest) -> Any:
        """Adapters are known by their number: another folder under a number that is loaded is not looked at."""
        if adapter.lora_int_id not in self.adapters:
            config = json.loads((Path(adapter.lora_path) / "adapter_config.json").read_text())
            assert (Path(adapter.lora_path) / "adapter_model.safetensors").is_file()
            assert config["r"] <= self.llm.arguments["max_lora_rank"]
            self.adapters[adapter.lora_int_id] = adapter
            self.loads.append(config)
            self.llm.load_adapter(adapter)
        return self.llm.models[adapter.lora_int_id]


class LLM:
    made: list[LLM] = []  # noqa: RUF012 - for tests to look at

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        dtype: str = "auto",
        quantization: str | None = None,
        revision: str | None = None,
        seed: int = 0,
        gpu_memory_utilization: float = 0.92,
        enforce_eager: bool = False,
        **kwargs: Any,
    ) -> None:
        unknown = kwargs.keys() - ENGINE_ARGUMENTS.keys()
        if unknown:
            raise TypeError(f"EngineArgs.__init__() got an unexpected keyword argument {sorted(unknown)[0]!r}")
        self.arguments = {**ENGINE_ARGUMENTS, **kwargs}
        self.arguments |= {"model": model, "dtype": dtype, "revision": revision, "gpu_memory_utilization": gpu_memory_utilization}
        self.arguments |= {"quantization": quantization, "enforce_eager": enforce_eager}
        assert self.arguments["enable_lora"]
        assert self.arguments["max_lora_rank"] in (1, 8, 16, 32, 64, 128, 256, 320, 512)
        self.base = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).eval()
        self.models: dict[int, Any] = {}
        self.asleep = False
        self.llm_engine = LLMEngine(self)
        LLM.made.append(self)

    def load_adapter(self, adapter: LoRARequest) -> None:
        """The base, read anew, with an adapter of the base's type."""
        base = AutoModelForCausalLM.from_pretrained(self.arguments["model"], dtype=self.base.dtype)
        served = PeftModel.from_pretrained(base, adapter.lora_path, autocast_adapter_dtype=False)
        self.models[adapter.lora_int_id] = served.to(self.base.dtype).eval()

    def sleep(self, level: int = 1, mode: str = "abort") -> None:
        assert self.arguments["enable_sleep_mode"]
        assert not self.asleep
        assert level == 1, "deeper sleep forgets the weights"
        self.asleep = True

    def wake_up(self, tags: list[str] | None = None) -> None:
        assert self.asleep
        self.asleep = False


def modules() -> dict[str, types.ModuleType]:
    """What ``sys.modules`` holds where vLLM is installed."""
    this = sys.modules[__name__]
    found = {}
    for name, things in {
        "vllm": ["LLM", "SamplingParams"],
        "vllm.sampling_params": ["SamplingParams", "RequestOutputKind"],
        "vllm.lora": [],
        "vllm.lora.request": ["LoRARequest"],
        "vllm.outputs": ["RequestOutput", "CompletionOutput"],
    }.items():
        module = types.ModuleType(name)
        for thing in things:
            setattr(module, thing, getattr(this, thing))
        found[name] = module
    return found
