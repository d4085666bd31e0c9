"""What every rollout engine is held to: small models, exact log-probs, and whether tokens come as often as they should."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from lit_symbolic.rollouts.engine import Generation, OnFinished, RolloutEngine, SamplingSettings

VOCABULARY, PAD, EOS = 23, 0, 2
PROMPTS = [[1, 5, 9, 13, 4, 6, 8], [1, 7], [1, 3, 3, 12]]
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": EOS,
}
ARCHITECTURES: dict[str, PretrainedConfig] = {
    "Llama": transformers.LlamaConfig(**SMALL, intermediate_size=48, num_key_value_heads=2),
    "Qwen2": transformers.Qwen2Config(**SMALL, intermediate_size=48, num_key_value_heads=2),
    "GPT-NeoX": transformers.GPTNeoXConfig(**SMALL, intermediate_size=48),
    "OPT": transformers.OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64),
    "Mistral": transformers.MistralConfig(**SMALL, intermediate_size=48, num_key_value_heads=2, sliding_window=5),
}


def small(name: str = "Llama", **options: Any) -> Any:
    """A float32 model with weights far from their initial values, so that gains, biases and positions show."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(copy.deepcopy(ARCHITECTURES[name]), **options)
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.float().eval()


def sample(
    engine: RolloutEngine,
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]] = PROMPTS,
    samples: int = 4,
    max_new_tokens: int = 12,
    temperature: float = 1.0,
    eos_ids: Sequence[int] = (EOS, 3),
    pad_id: int = PAD,
    seed: int = 0,
    on_finished: OnFinished | None = None,
) -> Generation:
    settings = SamplingSettings(max_new_tokens, temperature)
    generator = torch.Generator().manual_seed(seed)
    return engine.generate(model, prompts, samples, settings, eos_ids, pad_id, generator, on_finished)


@torch.no_grad()
def exact_logprobs(model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int], temperature: float = 1.0) -> Tensor:
    """Log-probs of one row by itself: no padding, no cache."""
    logits = model(input_ids=torch.tensor([[*prompt, *answer]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    return (logits.float() / temperature).log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).squeeze(1)


def assert_exact(
    model: PreTrainedModel,
    out: Generation,
    prompts: Sequence[Sequence[int]] = PROMPTS,
    temperature: float = 1.0,
    tolerance: float = 1e-4,
) -> None:
    """Log-probs are those of a forward pass over each row by itself."""
    samples = len(out.ids) // len(prompts)
    for row, length in enumerate(out.lengths.tolist()):
        expected = exact_logprobs(model, prompts[row // samples], out.ids[row, :length].tolist(), temperature)
        torch.testing.assert_close(out.logprobs[row, :length], expected, atol=tolerance, rtol=0)
        assert (out.logprobs[row, length:] == 0).all()


def assert_well_formed(out: Generation, max_new_tokens: int = 12, eos_ids: Sequence[int] = (EOS, 3), pad: int = PAD) -> None:
    """Answers end behind their first end-of-sequence token and nowhere else, and are padded behind it."""
    assert out.ids.dtype == out.lengths.dtype == torch.long
    assert out.logprobs.dtype == torch.float32
    assert out.ids.shape == out.logprobs.shape == (len(out.lengths), int(out.lengths.max()))
    for ids, length, ended in zip(out.ids.tolist(), out.lengths.tolist(), out.ended.tolist(), strict=True):
        ends = [place for place, token in enumerate(ids[:length]) if token in eos_ids]
        assert ends == ([length - 1] if ended else [])
        assert ended or length == max_new_tokens
        assert ids[length:] == [pad] * (len(ids) - length)


def assert_distributed(tokens: Tensor, probabilities: Tensor) -> None:
    """Chi-square test; words expected less than 5 times, and the rarest of the others, are taken together."""
    order = probabilities.argsort()
    expected = (probabilities * len(tokens))[order]
    seen = torch.bincount(tokens, minlength=len(probabilities)).float()[order]
    together = int((expected < 5).sum()) + 1
    expected = torch.cat([expected[:together].sum()[None], expected[together:]])
    seen = torch.cat([seen[:together].sum()[None], seen[together:]])
    degrees = len(expected) - 1
    assert degrees >= 4
    statistic = ((seen - expected) ** 2 / expected).sum()
    assert torch.special.gammaincc(torch.tensor(degrees / 2), statistic / 2) > 1e-3
