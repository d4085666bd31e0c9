import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer as BackendTokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PhiConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from architectures import random_model
from lit_symbolic.modules.saving import load_start
from lit_symbolic.policies import HuggingFacePolicy, Lora
from lit_symbolic.policies.tiny import tiny_tokenizer

IDS = torch.tensor([[5, 6, 7, 8]])
SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
LORA = Lora(r=2)
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Save a model with a tokenizer without padding token, which knows ``<pad>`` and ``<unk>`` only where asked to."""

    def made(
        words: tuple[str, ...] = (),
        spare: int = 0,
        config: type[PretrainedConfig] = LlamaConfig,
        name: str = "model",
        **roles: Any,
    ) -> Path:
        tokenizer = tokenizer_of(words)
        for role, word in {"pad_token": None, "eos_token": "</s>", **roles}.items():
            setattr(tokenizer, role, word)
        options = {"eos_token_id": 2, **SIZES, "pad_token_id": None}
        random_model(
            config(vocab_size=len(tokenizer) + spare, **options)  # type: ignore[call-arg]
        ).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return made


def tokenizer_of(words: tuple[str, ...]) -> PreTrainedTokenizerFast:
    whole = tiny_tokenizer([*(str(i) for i in range(20)), *words])
    written = json.loads(whole.backend_tokenizer.to_str())
    for word, other in {"<pad>": "<mail>", "<unk>": "<what>"}.items():
        if word not in words:
            written["model"]["vocab"][other] = written["model"]["vocab"].pop(word)
    written["model"]["unk_token"] = "<unk>" if "<unk>" in words else "<what>"
    written["added_tokens"] = [token for token in written["added_tokens"] if token["content"] in ("<s>", "</s>")]
    return PreTrainedTokenizerFast(
        tokenizer_object=BackendTokenizer.from_str(json.dumps(written)), bos_token="<s>", eos_token="</s>"
    )


def opened(folder: Path, lora: Lora | None = LORA, **options: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    return HuggingFacePolicy(str(folder), lora=lora, dtype="float32", **options).load(())  # type: ignore[return-value]


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


def rows(model: PreTrainedModel) -> tuple[int, ...]:
    return tuple(layer.weight.shape[0] for layer in (model.get_input_embeddings(), model.get_output_embeddings()))


@pytest.mark.parametrize("own", [None, "</s>"], ids=["none", "end of sequence"])
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("<|endoftext|>", "<unk>", "<|finetune_right_pad_id|>"), "<|finetune_right_pad_id|>"),
        (("<unk>", "<|endoftext|>"), "<|endoftext|>"),
        (("<unk>", "<pad>"), "<pad>"),
        (("<unk>",), "<unk>"),
    ],
)
def test_a_fitting_word_of_the_vocabulary_becomes_the_padding_token(
    words: tuple[str, ...], wanted: str, own: str | None, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make(words, pad_token=own)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        model, tokenizer = opened(folder)
    assert tokenizer.pad_token == wanted
    assert tokenizer.pad_token_id == tokenizer.get_vocab()[wanted] == model.generation_config.pad_token_id
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert rows(model) == (model.config.vocab_size,) * 2
    assert repr(wanted) in caplog.text


def test_no_word_that_ends_an_answer_is_chosen(make: Make) -> None:
    words = ("<|endoftext|>", "<unk>")
    for roles, wanted in (({"eos_token": "<|endoftext|>"}, "<unk>"), ({"eos_token": "<unk>"}, "<|endoftext|>")):
        assert opened(make(words, name=wanted[1:3], **roles))[1].pad_token == wanted
    folder = make(words, name="two ends")
    config = AutoModelForCausalLM.from_pretrained(folder)
    config.generation_config.eos_token_id = [2, tokenizer_of(words).get_vocab()["<|endoftext|>"]]
    config.save_pretrained(folder)
    assert opened(folder)[1].pad_token == "<unk>"


def test_a_padding_token_that_is_no_end_stays(make: Make) -> None:
    assert opened(make(("<pad>",), pad_token="<what>"))[1].pad_token == "<what>"


def test_a_new_word_takes_a_spare_row_and_the_logits_stay(make: Make) -> None:
    folder = make(spare=3)
    plain = AutoModelForCausalLM.from_pretrained(folder)
    model, tokenizer = opened(folder)
    assert tokenizer.pad_token == "<pad>"
    assert tokenizer.pad_token_id == plain.config.vocab_size - 3 == len(tokenizer) - 1
    assert rows(model) == rows(plain)
    assert torch.equal(logits(model), logits(plain))
    assert tokenizer("1 2")["input_ids"] == tokenizer_of(())("1 2")["input_ids"]


@pytest.mark.parametrize("config", [LlamaConfig, PhiConfig], ids=["head without bias", "head with bias"])
@pytest.mark.parametrize("lora", [None, Lora(r=2)], ids=["all weights", "lora"])
def test_without_a_spare_row_one_is_added_that_hardly_changes_a_log_prob(
    config: type[PretrainedConfig], lora: Lora | None, make: Make
) -> None:
    folder = make(config=config)
    plain = AutoModelForCausalLM.from_pretrained(folder)
    size = plain.config.vocab_size
    state = torch.get_rng_state()
    model, tokenizer = opened(folder, None if lora is None else Lora(r=2, target_modules=["q_proj"]))
    assert tokenizer.pad_token_id == size
    assert rows(model) == (size + 1, size + 1)
    assert model.get_input_embeddings().weight.requires_grad is (lora is None)
    assert torch.equal(logits(model)[..., :size], logits(plain))
    before, after = logits(plain).log_softmax(-1), logits(model).log_softmax(-1)
    assert (before - after[..., :size]).max() <= torch.tensor(1 + 1 / size).log() + 1e-6
    torch.testing.assert_close(logits(model)[..., size], logits(plain).mean(dim=-1))
    if lora is None:
        # Drawing LoRA's first weights uses the generator; adding rows does not.
        assert torch.equal(torch.get_rng_state(), state)


def test_an_adapter_folder_fits_the_base_and_is_opened_with_the_same_row_again(make: Make, tmp_path: Path) -> None:
    folder = make()
    model, tokenizer = opened(folder)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".default." in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    with safe_open(tmp_path / "adapter" / "adapter_model.safetensors", "pt") as file:
        assert {key.rsplit(".", 2)[1] for key in file.keys()} == {"lora_A", "lora_B"}  # noqa: SIM118 - not a dict
    size = model.config.vocab_size
    on_its_base = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(logits(on_its_base), logits(model)[..., :size])
    again, words = opened(tmp_path / "adapter")
    assert words.pad_token_id == size
    torch.testing.assert_close(logits(again), logits(model))
    warm, _ = load_start(HuggingFacePolicy(str(folder), lora=Lora(r=2), dtype="float32"), str(tmp_path / "adapter"), ())
    torch.testing.assert_close(logits(warm), logits(model))


def test_a_model_trained_whole_is_saved_with_its_row(make: Make, tmp_path: Path) -> None:
    model, tokenizer = opened(make(), lora=None)
    model.save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    again, words = opened(tmp_path / "whole", lora=None)
    assert words.pad_token_id == tokenizer.pad_token_id == again.config.vocab_size - 1
    assert torch.equal(logits(again), logits(model))


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_adapters_on_embeddings_that_need_a_new_row_are_refused(target: str, make: Make) -> None:
    lora = Lora(r=2, target_modules=["q_proj", target])
    with pytest.raises(ValueError, match="no row to spare for a padding token"):
        opened(make(), lora=lora)
    model, _ = opened(make(spare=1, name="spare"), lora=lora)
    assert rows(model)[0] == model.config.vocab_size


def test_a_tokenizer_without_an_end_takes_the_models_and_a_model_without_is_refused(make: Make) -> None:
    folder = make(eos_token=None)
    assert opened(folder)[1].eos_token_id == 2
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match="end-of-sequence"):
        opened(folder)
