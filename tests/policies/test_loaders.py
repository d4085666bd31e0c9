import copy
from pathlib import Path
from typing import Literal

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from lit_symbolic.policies import HuggingFacePolicy, Lora, TinyLlama
from lit_symbolic.policies.adapters import active_adapter, clone_adapter
from lit_symbolic.policies.forward import require_plain_head
from lit_symbolic.policies.loaders import load_folder, switch_dropout_off
from lit_symbolic.policies.tiny import tiny_tokenizer

WORDS = [str(i) for i in range(30)]
IDS = torch.tensor([[5, 6, 7, 8]])
TINY = TinyLlama(hidden_size=16, layers=2, heads=2, intermediate_size=32)
SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WITH_DROPOUT: list[PretrainedConfig] = [
    OPTConfig(word_embed_proj_dim=16, ffn_dim=32, dropout=0.4, attention_dropout=0.4, layerdrop=0.5, **SIZES),
    GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.4, embd_pdrop=0.4, attn_pdrop=0.4),
    PhiConfig(intermediate_size=32, resid_pdrop=0.4, embd_pdrop=0.4, attention_dropout=0.4, **SIZES),
    FalconConfig(hidden_dropout=0.4, attention_dropout=0.4, **SIZES),
    GPTNeoXConfig(intermediate_size=32, hidden_dropout=0.4, attention_dropout=0.4, **SIZES),
    LlamaConfig(intermediate_size=32, attention_dropout=0.4, **SIZES),
    MixtralConfig(
        intermediate_size=32, num_key_value_heads=2, num_local_experts=2, attention_dropout=0.4, router_jitter_noise=0.4, **SIZES
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    model, tokenizer = TINY.load(WORDS)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def trained_names(model: PreTrainedModel) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def disturb(model: PreTrainedModel, name: str = "default") -> None:
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if name in key.split("."):
                parameter.add_(0.3 * torch.randn_like(parameter))


@pytest.mark.parametrize("config", WITH_DROPOUT, ids=lambda config: config.model_type)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_with_dropout_switched_off_two_training_passes_are_equal_and_are_the_eval_pass(
    config: PretrainedConfig, attention: str
) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation=attention).train()
    # GPT-2 and others draw the head's or the projections' weights so small that a difference could hide.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    noisy = [model(IDS).logits for _ in range(2)]
    assert not torch.allclose(*noisy), "the test would see no dropout"
    switch_dropout_off(model)
    quiet = [model(IDS).logits for _ in range(8)]
    assert all(torch.equal(quiet[0], other) for other in quiet[1:])
    torch.testing.assert_close(quiet[0], model.eval()(IDS).logits)


def test_without_adapters_all_weights_are_trained_and_with_them_only_theirs_in_float32(folder: Path) -> None:
    whole, _ = HuggingFacePolicy(str(folder), dtype="float32").load(())
    assert all(p.requires_grad for p in whole.parameters())
    model, _ = HuggingFacePolicy(str(folder), lora=Lora(r=3, lora_alpha=5, target_modules=["q_proj"]), dtype="bfloat16").load(())
    assert {name.split("self_attn.")[1] for name in trained_names(model)} == {
        "q_proj.lora_A.default.weight",
        "q_proj.lora_B.default.weight",
    }
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert model.model.layers[0].self_attn.q_proj.scaling == {"default": 5 / 3}
    model(IDS).logits.sum().backward()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_model_attends_by_the_implementation_that_is_asked_for(attention: str, folder: Path) -> None:
    model, _ = HuggingFacePolicy(str(folder), dtype="float32", attn_implementation=attention).load(())
    assert model.config._attn_implementation == attention
    plain, _ = HuggingFacePolicy(str(folder), dtype="float32").load(())
    torch.testing.assert_close(model(IDS).logits, plain(IDS).logits)


def test_fresh_adapters_leave_the_models_logits_as_they_are(folder: Path) -> None:
    plain, tokenizer = HuggingFacePolicy(str(folder), dtype="float32").load(())
    model, _ = HuggingFacePolicy(str(folder), lora=Lora(), dtype="float32").load(())
    assert torch.equal(plain(IDS).logits, model(IDS).logits)
    assert tokenizer.get_vocab() == tiny_tokenizer(WORDS).get_vocab()


@pytest.mark.parametrize("lora", [None, Lora(r=2)], ids=["lora not given", "lora given"])
def test_an_adapter_folder_by_name_is_opened_on_its_base_and_trained_on(lora: Lora | None, folder: Path, tmp_path: Path) -> None:
    saved, tokenizer = HuggingFacePolicy(str(folder), lora=Lora(r=2), dtype="float32").load(())
    disturb(saved)
    saved.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _ = HuggingFacePolicy(str(tmp_path), lora=lora, dtype="float32").load(())
    torch.testing.assert_close(model(IDS).logits, saved(IDS).logits)
    assert trained_names(model) == trained_names(saved)
    with pytest.raises(ValueError, match=r"lora_alpha is 32 there and 16 here"):
        HuggingFacePolicy(str(tmp_path), lora=Lora(r=2, lora_alpha=16), dtype="float32").load(())


def test_gradient_checkpointing_changes_no_gradient(folder: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model, _ = HuggingFacePolicy(str(folder), lora=Lora(r=2), dtype="float32", gradient_checkpointing=checkpointing).load(())
        disturb(model)
        model.train()
        model(IDS, use_cache=False).logits.square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_modules_that_are_saved_whole_are_switched_with_the_adapter(dtype: Literal["float32", "bfloat16"], folder: Path) -> None:
    options = {"modules_to_save": ["lm_head"]}
    model, _ = HuggingFacePolicy(str(folder), lora=Lora(r=2, options=options), dtype=dtype).load(())
    base = model(IDS).logits
    clone_adapter(model, "default", "reference", trainable=False)
    disturb(model)
    trained = trained_names(model)
    assert "lm_head.modules_to_save.default.weight" in trained
    assert not torch.allclose(model(IDS).logits, base, atol=1e-3)
    for name in (None, "reference"):
        with active_adapter(model, name):
            torch.testing.assert_close(model(IDS).logits, base)
    assert trained_names(model) == trained


def test_adapters_on_the_embeddings_are_trained_and_cloned_like_the_others(folder: Path) -> None:
    loader = HuggingFacePolicy(str(folder), lora=Lora(r=2, target_modules=["embed_tokens", "q_proj"]), dtype="float32")
    model, _ = loader.load(())
    disturb(model)
    before = model(IDS).logits
    clone_adapter(model, "default", "reference", trainable=False)
    disturb(model)
    trained = {name.split(".", 1)[1] for name in trained_names(model)}
    assert {"embed_tokens.lora_embedding_A.default", "layers.0.self_attn.q_proj.lora_A.default.weight"} <= trained
    assert not any("reference" in name for name in trained)
    assert not torch.allclose(model(IDS).logits, before, atol=1e-3)
    with active_adapter(model, "reference"):
        assert torch.equal(model(IDS).logits, before)


@pytest.mark.parametrize("config", [Gemma2Config, GraniteConfig], ids=lambda config: config.model_type)
def test_a_model_that_alters_its_logits_after_the_head_is_refused(config: type[PretrainedConfig]) -> None:
    special = {"final_logit_softcapping": 0.01} if config is Gemma2Config else {"logits_scaling": 8.0}
    model = AutoModelForCausalLM.from_config(config(num_key_value_heads=2, intermediate_size=32, head_dim=8, **SIZES, **special))
    with pytest.raises(ValueError, match="alters its logits"):
        require_plain_head(model)


@pytest.mark.parametrize("config", WITH_DROPOUT, ids=lambda config: config.model_type)
def test_a_model_with_a_plain_head_passes_and_stays_in_its_mode(config: PretrainedConfig) -> None:
    model = AutoModelForCausalLM.from_config(config).train()
    require_plain_head(model)
    assert model.training


def test_a_saved_folder_opens_with_the_settings_of_the_policy_and_an_adapter_folder_is_left_to_it(
    folder: Path, tmp_path: Path
) -> None:
    opened = load_folder(folder, TINY)
    assert opened is not None
    assert opened[0].dtype == torch.float32
    assert torch.equal(opened[0](IDS).logits, TINY.load(WORDS)[0](IDS).logits)
    adapted = load_folder(folder, HuggingFacePolicy("elsewhere", lora=Lora(r=2), dtype="bfloat16"))
    assert adapted is not None
    assert {p.dtype for p in adapted[0].parameters() if not p.requires_grad} == {torch.bfloat16}
    adapted[0].save_pretrained(tmp_path)
    assert load_folder(tmp_path, TINY) is None


def test_an_empty_folder_untrainable_settings_and_doubled_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither a model"):
        load_folder(tmp_path, TINY)
    with pytest.raises(ValueError, match="4-bit weights cannot be trained"):
        HuggingFacePolicy("any", quantization="nf4")
    with pytest.raises(ValueError, match="lora_dropout"):
        Lora(options={"lora_dropout": 0.1})
