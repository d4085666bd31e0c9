import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors import safe_open
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from lit_symbolic.modules.saving import load_start
from lit_symbolic.policies import Critic, HuggingFacePolicy, Lora, Reference, TinyLlama
from lit_symbolic.policies.exporting import write_merged, write_policy, written_whole
from lit_symbolic.policies.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer([str(i) for i in range(30)])
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
SIZES: dict[str, Any] = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(intermediate_size=128, num_key_value_heads=2, initializer_range=0.1, **SIZES),
    "llama tied": LlamaConfig(intermediate_size=128, tie_word_embeddings=True, initializer_range=0.1, **SIZES),
    "qwen2": Qwen2Config(intermediate_size=128, num_key_value_heads=2, tie_word_embeddings=True, initializer_range=0.1, **SIZES),
    "opt": OPTConfig(ffn_dim=128, word_embed_proj_dim=64, init_std=0.1, **SIZES),
    "gpt_neox": GPTNeoXConfig(intermediate_size=128, initializer_range=0.1, **SIZES),
}
# Rounding every weight to bfloat16 (at most 2**-8 of it) moves the logits by this share of their spread; a lost adapter by about 1.
BFLOAT16_TOLERANCE = 0.1

Base = Callable[[str], Path]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The folder of a small random model of an architecture."""
    folders: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in folders:
            folders[architecture] = tmp_path_factory.mktemp("base")
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(CONFIGS[architecture])
            model.generation_config.eos_token_id = [2, 3]
            model.save_pretrained(folders[architecture])
            TOKENIZER.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
            TOKENIZER.save_pretrained(folders[architecture])
        return folders[architecture]

    return folder


def trained(
    folder: Path, options: dict[str, Any] | None = None, **settings: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A policy whose adapter has been trained."""
    torch.manual_seed(1)
    lora = Lora(**{"r": 4, **(options or {})})
    model, tokenizer = HuggingFacePolicy(str(folder), lora=lora, **{"dtype": "float32", **settings}).load(())
    disturb(model, "default")
    return model.eval(), tokenizer


def disturb(model: PreTrainedModel, name: str) -> None:
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if name in key.split("."):
                parameter.add_(0.1 * torch.randn_like(parameter))


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits.float()


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, as a share of the spread of logits."""
    return float((ours - theirs).abs().max() / theirs.std())


def weights_in(folder: Path) -> dict[str, Tensor]:
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - not a dict
    return found


# ---------------------------------------------------------------- the adapter's folder


@pytest.mark.parametrize("architecture", CONFIGS)
def test_an_adapter_folder_opens_in_three_ways_with_the_policys_logits(architecture: str, base: Base, tmp_path: Path) -> None:
    model, tokenizer = trained(base(architecture))
    before = logits(model)
    write_policy(model, tokenizer, tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(base(architecture), dtype=torch.float32)
    assert distance(before, logits(plain)) > 0.1
    for opened in (
        PeftModel.from_pretrained(plain, str(tmp_path / "model")),
        AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "model"), dtype=torch.float32),
        AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32),
    ):
        torch.testing.assert_close(logits(opened), before, atol=1e-5, rtol=0)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("options", [{"use_dora": True}, {"use_rslora": True}], ids=str)
def test_other_kinds_of_update_go_the_whole_way_too(options: dict[str, Any], base: Base, tmp_path: Path) -> None:
    model, tokenizer = trained(base("llama"), {"options": options})
    before = logits(model)
    write_policy(model, tokenizer, tmp_path / "model")
    write_merged(model, tokenizer, tmp_path / "merged", "float32")
    loader = HuggingFacePolicy(str(base("llama")), lora=Lora(r=4, options=options), dtype="float32")
    for opened in (
        AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "model"), dtype=torch.float32),
        AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32),
        AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32),
        load_start(loader, str(tmp_path / "model"), ())[0],
    ):
        torch.testing.assert_close(logits(opened), before, atol=1e-5, rtol=0)


def test_it_holds_the_policys_adapter_alone_with_the_base_named_and_the_tokenizer_with_its_chat_template(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base("llama").parent)
    model, tokenizer = trained(Path(base("llama").name))
    Reference(model, "adapter")
    Critic(model, "adapter")
    write_policy(model, tokenizer, tmp_path / "model")
    names = set(weights_in(tmp_path / "model"))
    assert {name.split(".")[-2] for name in names} == {"lora_A", "lora_B"}
    assert not {part for name in names for part in name.split(".")} & {"critic", "reference", "default", "base_layer"}
    ours = {name for name, _ in model.named_parameters() if ".default." in name}
    assert {f"base_model.model.{name.replace('.default', '')}" for name in ours} == names
    config = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    # Named by a relative path it would not be found from elsewhere.
    assert config["base_model_name_or_path"] == str(base("llama"))
    assert (config["r"], config["task_type"], config["inference_mode"]) == (4, "CAUSAL_LM", True)
    opened = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert opened.get_vocab() == tokenizer.get_vocab()
    assert opened.chat_template == tokenizer.chat_template is not None


def test_a_base_from_a_hub_is_named_as_it_is_there_with_its_revision(base: Base, tmp_path: Path) -> None:
    model, tokenizer = trained(base("llama"), revision="v2")
    model.peft_config["default"].base_model_name_or_path = "someone/some-model"
    write_policy(model, tokenizer, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("someone/some-model", "v2")


# ---------------------------------------------------------------- the merged folder


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_merged_folder_is_a_plain_model_with_the_policys_logits(architecture: str, base: Base, tmp_path: Path) -> None:
    model, tokenizer = trained(base(architecture))
    Reference(model, "adapter")
    Critic(model, "adapter")
    disturb(model, "default")
    disturb(model, "critic")
    before, live = logits(model), {name: value.clone() for name, value in model.state_dict().items()}
    write_merged(model, tokenizer, tmp_path / "exact", "float32")
    write_merged(model, tokenizer, tmp_path / "rounded")
    exact = AutoModelForCausalLM.from_pretrained(tmp_path / "exact", dtype="auto")
    assert exact.dtype == torch.float32
    torch.testing.assert_close(logits(exact), before, atol=1e-5, rtol=0)
    rounded = AutoModelForCausalLM.from_pretrained(tmp_path / "rounded", dtype="auto")
    assert {p.dtype for p in rounded.parameters()} == {torch.bfloat16}
    assert distance(logits(rounded.float()), before) < BFLOAT16_TOLERANCE
    assert model.state_dict().keys() == live.keys()
    assert all(torch.equal(value, live[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_merged_folder_has_the_files_names_and_types_that_loaders_of_the_plain_class_expect(
    architecture: str, base: Base, tmp_path: Path
) -> None:
    model, tokenizer = trained(base(architecture))
    write_merged(model, tokenizer, tmp_path / "merged")
    plain = weights_in(base(architecture))
    merged = weights_in(tmp_path / "merged")
    assert {name: value.shape for name, value in merged.items()} == {name: value.shape for name, value in plain.items()}
    assert {value.dtype for value in merged.values()} == {torch.bfloat16}
    assert {path.name for path in (tmp_path / "merged").iterdir()} == {path.name for path in base(architecture).iterdir()}
    settings, theirs = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "merged", base(architecture)))
    assert settings["dtype"] == "bfloat16"
    same = ("architectures", "model_type", "vocab_size", "tie_word_embeddings", "eos_token_id", "hidden_size")
    assert {key: settings.get(key) for key in same} == {key: theirs.get(key) for key in same}
    assert "quantization_config" not in settings
    assert json.loads((tmp_path / "merged" / "generation_config.json").read_text())["eos_token_id"] == [2, 3]


def test_each_weight_is_added_in_float32_and_rounded_once(base: Base, tmp_path: Path) -> None:
    model, tokenizer = trained(base("llama"))
    write_merged(model, tokenizer, tmp_path / "merged")
    merged = weights_in(tmp_path / "merged")
    layer: Any = model.model.layers[1].mlp.down_proj
    update = layer.lora_B["default"].weight.double() @ layer.lora_A["default"].weight.double() * layer.scaling["default"]
    wanted = (layer.base_layer.weight.double() + update).detach()
    error = (merged["model.layers.1.mlp.down_proj.weight"].double() - wanted).abs() / wanted.abs()
    assert error.max() <= 2**-8 * 1.001  # half of bfloat16's last place: a second rounding would exceed it


def test_a_four_bit_policy_is_merged_into_the_weights_that_its_bits_stand_for(base: Base, tmp_path: Path) -> None:
    model, tokenizer = trained(base("llama"), quantization="nf4", dtype="bfloat16")
    before = logits(model)
    reference, _ = trained(base("llama"))
    for (name, target), (_, source) in zip(reference.named_modules(), model.named_modules(), strict=True):
        if isinstance(source, bnb.nn.Linear4bit):
            assert isinstance(target, torch.nn.Linear), name
            weight = bnb.functional.dequantize_4bit(source.weight.data, source.weight.quant_state)
            target.weight.data = weight.view_as(target.weight).float()
    with torch.no_grad():
        for (name, one), (_, other) in zip(reference.named_parameters(), model.named_parameters(), strict=True):
            if "base_layer" not in name:
                one.copy_(other.float())
    wanted = logits(reference)
    assert distance(before, wanted) < 0.25, "more than the bfloat16 arithmetic of the policy itself"
    write_merged(model, tokenizer, tmp_path / "exact", "float32")
    write_merged(model, tokenizer, tmp_path / "rounded")
    write_policy(model, tokenizer, tmp_path / "adapter")
    exact = AutoModelForCausalLM.from_pretrained(tmp_path / "exact", dtype=torch.float32)
    torch.testing.assert_close(logits(exact), wanted, atol=1e-5, rtol=0)
    rounded = AutoModelForCausalLM.from_pretrained(tmp_path / "rounded", dtype=torch.float32)
    assert distance(logits(rounded), wanted) < BFLOAT16_TOLERANCE
    opened = HuggingFacePolicy(str(tmp_path / "adapter"), quantization="nf4", lora=Lora(r=4), dtype="bfloat16").load(())[0]
    assert torch.equal(logits(opened), before)
    assert torch.equal(logits(model), before)


def test_an_adapter_on_a_head_that_is_tied_to_the_embedding_unties_them(base: Base, tmp_path: Path) -> None:
    model, tokenizer = trained(base("llama tied"), {"target_modules": ["lm_head", "q_proj"]})
    before = logits(model)
    write_merged(model, tokenizer, tmp_path / "merged", "float32")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(logits(opened), before, atol=1e-5, rtol=0)
    assert opened.config.tie_word_embeddings is False


def test_weights_that_were_trained_whole_beside_the_adapter_are_kept(base: Base, tmp_path: Path) -> None:
    model, tokenizer = trained(base("llama"), {"target_modules": ["q_proj"], "options": {"modules_to_save": ["lm_head"]}})
    before = logits(model)
    write_merged(model, tokenizer, tmp_path / "merged", "float32")
    write_policy(model, tokenizer, tmp_path / "model")
    for name in ("merged", "model"):
        opened = AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32)
        torch.testing.assert_close(logits(opened), before, atol=1e-5, rtol=0)


def test_large_weights_are_cut_into_shards_with_an_index(base: Base, tmp_path: Path) -> None:
    model, tokenizer = trained(base("llama"))
    write_merged(model, tokenizer, tmp_path / "merged", "float32", max_shard_size="100KB")
    assert len(list((tmp_path / "merged").glob("model-*.safetensors"))) > 1
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(weights_in(tmp_path / "merged"))
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(logits(opened), logits(model), atol=1e-5, rtol=0)


def test_an_update_that_is_not_finite_is_refused_and_nothing_is_left(base: Base, tmp_path: Path) -> None:
    model, tokenizer = trained(base("llama"))
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.lora_B["default"].weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN"):
        write_merged(model, tokenizer, tmp_path / "merged")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- a padding token that the base has no row for


@pytest.fixture
def unpadded(tmp_path: Path) -> Path:
    """A base whose tokenizer has no word to pad with, and whose embedding has no row to spare."""
    torch.manual_seed(0)
    letters = Tokenizer(models.WordLevel({**{f"w{i}": i for i in range(39)}, "</s>": 39}, unk_token="w0"))
    letters.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="</s>").save_pretrained(tmp_path / "base")
    sizes = {**SIZES, "vocab_size": 40, "eos_token_id": 39, "pad_token_id": None}
    AutoModelForCausalLM.from_config(LlamaConfig(intermediate_size=128, **sizes)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_a_merged_or_whole_model_has_a_row_for_the_padding_token_that_was_added(unpadded: Path, tmp_path: Path) -> None:
    model, tokenizer = trained(unpadded)
    whole, words = HuggingFacePolicy(str(unpadded), dtype="float32").load(())
    assert len(tokenizer) == len(words) == 41
    write_merged(model, tokenizer, tmp_path / "merged", "float32")
    write_policy(whole, words, tmp_path / "whole")
    for name, written in (("merged", model), ("whole", whole)):
        opened, saved = AutoModelForCausalLM.from_pretrained(tmp_path / name), AutoTokenizer.from_pretrained(tmp_path / name)
        assert opened.config.vocab_size == len(opened.get_input_embeddings().weight) == len(saved) == 41
        assert saved.pad_token_id == tokenizer.pad_token_id == 40 == opened.generation_config.pad_token_id
        torch.testing.assert_close(logits(opened), logits(written), atol=1e-5, rtol=0)


def test_an_adapters_tokenizer_has_no_word_that_its_base_has_no_row_for(unpadded: Path, tmp_path: Path) -> None:
    model, tokenizer = trained(unpadded)
    write_policy(model, tokenizer, tmp_path / "model")
    assert tokenizer.pad_token_id == 40
    opened, saved = AutoModelForCausalLM.from_pretrained(tmp_path / "model"), AutoTokenizer.from_pretrained(tmp_path / "model")
    assert len(saved) == len(opened.get_input_embeddings().weight) == 40
    assert (saved.pad_token, saved.eos_token) == ("</s>", "</s>")
    assert saved("w1 w2 w3")["input_ids"] == tokenizer("w1 w2 w3")["input_ids"] == [1, 2, 3]
    torch.testing.assert_close(logits(opened), logits(model)[..., :40], atol=1e-5, rtol=0)
    # A run that goes on from it adds the same word and row again.
    again, words = HuggingFacePolicy(str(tmp_path / "model"), lora=Lora(r=4), dtype="float32").load(())
    assert words.get_vocab() == tokenizer.get_vocab()
    torch.testing.assert_close(logits(again), logits(model), atol=1e-5, rtol=0)


# ---------------------------------------------------------------- whole models, and where a run starts


def test_a_policy_without_adapters_is_written_whole_and_has_nothing_to_merge(tmp_path: Path) -> None:
    model, tokenizer = TinyLlama(16, 1, 2, 32).load(["1", "2"])
    Critic(model, "head")
    write_policy(model, tokenizer, tmp_path / "model")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert torch.equal(logits(opened), logits(model))
    names = {name for name, _ in type(model)(model.config).named_parameters()}
    assert set(weights_in(tmp_path / "model")) == names
    with pytest.raises(ValueError, match="no adapters to merge"):
        write_merged(model, tokenizer, tmp_path / "merged")


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_run_starts_from_an_exported_adapter_with_the_logits_that_it_was_written_with(
    quantization: str, base: Base, tmp_path: Path
) -> None:
    model, tokenizer = trained(base("llama"), quantization=quantization)
    write_policy(model, tokenizer, tmp_path / "model")
    loader = HuggingFacePolicy(str(base("llama")), quantization=quantization, lora=Lora(r=4), dtype="float32")  # type: ignore[arg-type]
    started, _ = load_start(loader, str(tmp_path / "model"), ())
    assert torch.equal(logits(started), logits(model))


def test_a_run_starts_from_a_merged_folder_with_the_logits_that_it_was_written_with(base: Base, tmp_path: Path) -> None:
    model, tokenizer = trained(base("llama"))
    write_merged(model, tokenizer, tmp_path / "merged", "float32")
    loader = HuggingFacePolicy(str(base("llama")), lora=Lora(r=2), dtype="float32")
    started, _ = load_start(loader, str(tmp_path / "merged"), ())
    torch.testing.assert_close(logits(started), logits(model), atol=1e-5, rtol=0)
    assert started.peft_config["default"].base_model_name_or_path == str(tmp_path / "merged")


# ---------------------------------------------------------------- the folder as a whole


def test_the_older_folder_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for content in ("old", "new"):
        with written_whole(folder) as unfinished:
            (unfinished / "config.json").write_text(content)
            assert content == "old" or (folder / "config.json").read_text() == "old"
    with pytest.raises(FileNotFoundError), written_whole(folder) as unfinished:
        (unfinished / "config.json").write_text("torn") and (unfinished / "missing").read_text()
    assert (folder / "config.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_kill_left_between_the_two_renames_is_not_lost(tmp_path: Path) -> None:
    with written_whole(tmp_path / "model") as unfinished:
        (unfinished / "config.json").write_text("old")
    (tmp_path / "model").rename(tmp_path / ".model.before")
    with pytest.raises(RuntimeError), written_whole(tmp_path / "model"):
        raise RuntimeError
    assert (tmp_path / "model" / "config.json").read_text() == "old"


def test_a_folder_of_other_files_is_not_deleted_for_a_model(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(ValueError, match=r"holds no model but other files \(thesis.tex"), written_whole(tmp_path):
        pass
    with pytest.raises(ValueError, match="is a file"), written_whole(tmp_path / "thesis.tex"):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years"
