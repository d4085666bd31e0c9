import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    StableLmConfig,
)

from lit_symbolic.policies.forward import response_hidden, shares_prompts

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
SHARING: list[PretrainedConfig] = [
    *CONFIGS,
    MistralConfig(vocab_size=40, num_key_value_heads=1, sliding_window=None, **SIZES),
    GemmaConfig(vocab_size=40, num_key_value_heads=1, head_dim=8, **SIZES),
    StableLmConfig(vocab_size=40, num_key_value_heads=1, **SIZES),
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


# ---------------------------------------------------------------- a prompt read once for all its answers

PROMPT_OF = torch.tensor([2, 0, 2, 1, 0])
SHARED_ANSWERS = torch.tensor([[20, 21, 2], [22, 23, 24], [25, 2, 0], [26, 27, 2], [28, 0, 0]])


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("config", SHARING, ids=lambda config: config.model_type)
@pytest.mark.parametrize("is_padded", [True, False])
def test_a_prompt_read_once_gives_the_states_and_gradients_of_one_read_for_each_answer(
    config: PretrainedConfig, is_padded: bool, length: int
) -> None:
    model = model_of(config).double()
    assert shares_prompts(model)
    prompt_ids, prompt_mask, _, _ = padded(0)
    if not is_padded:
        prompt_ids = torch.where(prompt_mask, prompt_ids, torch.tensor(33))
    padding = prompt_mask if is_padded else None
    ids = SHARED_ANSWERS[:, :length]
    mask = ids != 0
    found = []
    for of in (PROMPT_OF, None):
        prompts = (
            (prompt_ids, padding) if of is not None else (prompt_ids[PROMPT_OF], None if padding is None else padding[PROMPT_OF])
        )
        hidden = response_hidden(model, *prompts, ids, mask, of)
        loss = (hidden.sin() * mask[..., None]).sum()
        gradients = torch.autograd.grad(loss, list(model.get_decoder().parameters()), allow_unused=True)
        found.append((hidden[mask], [g for g in gradients if g is not None]))
    (shared, gradients), (alone, wanted) = found
    torch.testing.assert_close(shared, alone, rtol=1e-5, atol=1e-5)  # norms compute in float32
    assert len(gradients) == len(wanted) > 5
    for got, expected in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_prompts_are_not_shared_where_a_layer_does_not_see_all_of_them_or_recomputes_without_a_cache() -> None:
    assert not shares_prompts(model_of(MistralConfig(vocab_size=40, num_key_value_heads=1, sliding_window=4, **SIZES)))
    kinds = ["sliding_attention", "full_attention"]
    assert not shares_prompts(
        model_of(Gemma3TextConfig(vocab_size=40, num_key_value_heads=1, head_dim=8, layer_types=kinds, **SIZES))
    )
    model = model_of(CONFIGS[0])
    assert shares_prompts(model)
    model.gradient_checkpointing_enable()
    assert not shares_prompts(model)
