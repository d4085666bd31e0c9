import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from lit_symbolic.policies.forward import response_hidden

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]
ANSWERS = [[20, 21], [22, 23, 24, 2], [25]]
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
CONFIGS: list[PretrainedConfig] = [
    LlamaConfig(vocab_size=40, num_key_value_heads=1, **SIZES),
    Qwen2Config(vocab_size=40, num_key_value_heads=1, **SIZES),
    GPTNeoXConfig(vocab_size=40, **SIZES),
    PhiConfig(vocab_size=40, **SIZES),
    GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32),
    OPTConfig(
        vocab_size=40,
        hidden_size=16,
        word_embed_proj_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=32,
        max_position_embeddings=32,
    ),
]
models = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.model_type)


def model_of(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def padded(pad: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width, length = max(map(len, PROMPTS)), max(map(len, ANSWERS))
    return (
        torch.tensor([[pad] * (width - len(p)) + p for p in PROMPTS]),
        torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in PROMPTS]),
        torch.tensor([a + [pad] * (length - len(a)) for a in ANSWERS]),
        torch.tensor([[True] * len(a) + [False] * (length - len(a)) for a in ANSWERS]),
    )


@models
@pytest.mark.parametrize("pad", [0, 2])
def test_hidden_states_of_a_padded_batch_give_the_logits_of_each_row_alone(config: PretrainedConfig, pad: int) -> None:
    model = model_of(config)
    prompt_ids, prompt_mask, ids, mask = padded(pad)
    with torch.no_grad():
        hidden = response_hidden(model, prompt_ids, prompt_mask, ids, mask)
        assert hidden.shape == (*ids.shape, 16)
        logits = model.get_output_embeddings()(hidden)
        for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
            alone = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            torch.testing.assert_close(logits[row, : len(answer)], alone, rtol=1e-5, atol=1e-5)


@models
def test_rows_without_padding_may_come_without_a_mask(config: PretrainedConfig) -> None:
    model = model_of(config)
    prompt_ids, ids = torch.tensor([[5, 6, 7], [8, 9, 10]]), torch.tensor([[20, 21], [22, 2]])
    prompt_mask, mask = torch.ones_like(prompt_ids, dtype=torch.bool), torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(
            response_hidden(model, prompt_ids, None, ids, mask), response_hidden(model, prompt_ids, prompt_mask, ids, mask)
        )


def test_a_hidden_state_knows_the_tokens_before_its_own_and_no_others() -> None:
    model = model_of(CONFIGS[0])
    prompt_ids, prompt_mask, ids, mask = padded(0)
    with torch.no_grad():
        before = response_hidden(model, prompt_ids, prompt_mask, ids, mask)
        changed = ids.clone()
        changed[1, 2] = 30
        after = response_hidden(model, prompt_ids, prompt_mask, changed, mask)
    differs = (before != after).any(dim=-1)
    assert differs.tolist() == [[False] * 4, [False, False, False, True], [False] * 4]
