"""Small models, a call of the native engine, and the plain forward pass that its log-probs are held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig, PreTrainedModel

from lit_symbolic.rollouts.engine import Generation, SamplingSettings
from lit_symbolic.rollouts.native import NativeEngine

VOCABULARY, PAD, EOS = 23, 0, 2
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
IDS = {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": EOS}
EQUAL, UNEQUAL = [[1, 5, 9], [1, 7, 11]], [[1, 5, 9, 13, 4, 6, 8], [1, 7], [1, 3, 3, 12]]


def llama(tied: bool = True, kv_heads: int = 4, **changes: Any) -> LlamaForCausalLM:
    config = LlamaConfig(
        **{
            **SIZES,
            **IDS,
            "intermediate_size": 48,
            "num_key_value_heads": kv_heads,
            "tie_word_embeddings": tied,
            "initializer_range": 0.3,
            **changes,
        }
    )
    return build(config)


def build(config: PretrainedConfig) -> Any:
    """A model with weights far from their initial values, so that gains, biases and positions show."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.float().eval()


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]] = UNEQUAL,
    samples: int = 4,
    max_new_tokens: int = 12,
    temperature: float = 1.0,
    eos_ids: Sequence[int] = (EOS,),
    pad_id: int = PAD,
    seed: int = 0,
    on_finished: Any = None,
    **engine: Any,
) -> Generation:
    return NativeEngine(**engine).generate(
        model,
        prompts,
        samples,
        SamplingSettings(max_new_tokens, temperature),
        eos_ids,
        pad_id,
        torch.Generator().manual_seed(seed),
        on_finished,
    )


@torch.no_grad()
def plain_logprobs(model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int], temperature: float) -> Tensor:
    """One row by itself, no padding, no cache."""
    logits = model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    return (logits.float() / temperature).log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).squeeze(1)


def assert_equals_plain_forward(
    model: PreTrainedModel, out: Generation, prompts: Sequence[Sequence[int]], temperature: float = 1.0
) -> None:
    samples = len(out.ids) // len(prompts)
    for row, length in enumerate(out.lengths.tolist()):
        expected = plain_logprobs(model, prompts[row // samples], out.ids[row, :length].tolist(), temperature)
        torch.testing.assert_close(out.logprobs[row, :length], expected, atol=1e-4, rtol=0)
        assert (out.logprobs[row, length:] == 0).all()
