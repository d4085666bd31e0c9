"""A trained policy as a folder that other programs open: its adapter, all of its weights, or base and adapter merged."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from peft.utils.integrations import dequantize_module_weight
from peft.utils.other import AuxiliaryTrainingWrapper
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_symbolic.policies.adapters import has_adapters
from lit_symbolic.policies.loaders import POLICY_ADAPTER

MergedDtype = Literal["bfloat16", "float16", "float32"]


def write_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write what was trained: the policy's adapter as a PEFT folder, or all weights of a policy without adapters.

    ``AutoModelForCausalLM.from_pretrained`` opens either. A value head, a critic's adapter and a reference's are no part of it.

    Args:
        model: The policy's model; it is left as it is.
        tokenizer: Its tokenizer, written beside it with its chat template.
        folder: Where to; a model that stands there is replaced once the new one is whole.

    Raises:
        ValueError: If something other than a model stands there.
    """
    with written_whole(folder) as unfinished:
        if has_adapters(model):
            write_adapter(model, unfinished)
            tokenizer.save_pretrained(unfinished)
            drop_words_without_row(unfinished, model.config.get_text_config(decoder=True).vocab_size)
        else:
            model.save_pretrained(unfinished, max_shard_size="5GB")
            tokenizer.save_pretrained(unfinished)


def write_merged(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    dtype: MergedDtype = "bfloat16",
    max_shard_size: str = "5GB",
) -> None:
    """Write a plain model whose weights are the base's with the policy's adapter merged in, layer by layer in float32.

    The base is the one that the adapter was trained on: of a 4-bit base the weights that its 4 bits stand for, never
    quantized again. All of it happens on the CPU, wherever the policy is: the memory needed there is that of the merged
    weights (2 bytes for each in bfloat16: 13.5 GB for Llama-2-7B) and of a few copies of the largest layer in float32.

    Args:
        model: A policy with adapters; it is left as it is.
        tokenizer: Its tokenizer.
        folder: Where to, as in :func:`write_policy`.
        dtype: Type of the weights that are written.
        max_shard_size: Largest file of weights.

    Raises:
        ValueError: If the policy has no adapters, an adapter's update is not finite, or something other than a model stands
            in ``folder``.
    """
    require_adapters(model)
    with written_whole(folder) as unfinished:
        adapter = unfinished / "adapter"
        adapter.mkdir()
        write_adapter(model, adapter)
        merged = merge(plain_base(model), adapter, getattr(torch, dtype))
        shutil.rmtree(adapter)
        merged.save_pretrained(unfinished, max_shard_size=max_shard_size)
        tokenizer.save_pretrained(unfinished)


def require_adapters(model: nn.Module) -> None:
    """Refuse to merge where there is nothing to merge.

    Raises:
        ValueError: If ``model`` has no adapters.
    """
    if not has_adapters(model):
        raise ValueError("the policy has no adapters to merge: without merged, all of its weights are written")


def write_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Write the policy's adapter, and it alone, as PEFT lays it out; a base that is a folder is named by its absolute path."""
    config = copy.copy(model.peft_config[POLICY_ADAPTER])
    config.inference_mode = True
    base = config.base_model_name_or_path
    if base and Path(base).is_dir():
        config.base_model_name_or_path = str(Path(base).resolve())
    config.save_pretrained(str(folder))
    # Embeddings are the base's unless the adapter holds some; "auto" would ask the hub about them.
    state = get_peft_model_state_dict(model, adapter_name=POLICY_ADAPTER, save_embedding_layers=False)
    weights = {f"base_model.model.{_file_key(key)}": value.detach().cpu().contiguous() for key, value in state.items()}
    save_file(weights, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})


def drop_words_without_row(folder: Path, rows: int) -> None:
    """Take words that were added for training out of the tokenizer in ``folder``, where the base has no rows for them.

    That is a padding token in a row that was added (:func:`lit_symbolic.policies.special_tokens.complete_special_tokens`):
    a base that is loaded elsewhere has no such row, and padding with it would fail. The end-of-sequence token pads instead.

    Args:
        folder: A saved tokenizer.
        rows: Rows of the base's embedding as it is loaded elsewhere.
    """
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text()) if path.is_file() else {"added_tokens": []}
    dropped = {word["content"] for word in content["added_tokens"] if word["id"] >= rows}
    if not dropped:
        return
    content["added_tokens"] = [word for word in content["added_tokens"] if word["content"] not in dropped]
    path.write_text(json.dumps(content, ensure_ascii=False))
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    if settings.get("pad_token") in dropped:
        settings["pad_token"] = settings["eos_token"]
    path.write_text(json.dumps(settings, ensure_ascii=False, indent=2))


def plain_base(model: PreTrainedModel) -> PreTrainedModel:
    """The base under a policy's adapters as a model of its plain class on the CPU, without quantization; only for writing.

    What lies on the CPU unquantized is shared with ``model``, not copied.
    """
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # A row for a padding token may have been added, of which the configuration says nothing while the base is frozen.
    config.get_text_config(decoder=True).vocab_size = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    with torch.device("meta"):
        plain = type(model)(config)
    weights: dict[str, Tensor] = {}
    shared: dict[int, Tensor] = {}  # tied weights are one tensor here too
    for key in plain.state_dict():
        owner, _, name = key.rpartition(".")
        layer = _base_layer(model, owner)
        source = getattr(layer, name)
        if id(source) not in shared:
            # PEFT's reading of a weight knows how to undo a quantization.
            value = dequantize_module_weight(layer) if name == "weight" else source
            shared[id(source)] = value.detach().cpu()
        weights[key] = shared[id(source)]
    plain.load_state_dict(weights, assign=True)
    plain.tie_weights()
    plain.generation_config = copy.deepcopy(model.generation_config)
    return plain.requires_grad_(False).eval()


def merge(base: PreTrainedModel, adapter: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Merge the adapter in folder ``adapter`` into ``base``, each layer in float32 and then rounded to ``dtype``."""
    tuned = PeftModel.from_pretrained(base, str(adapter))
    uses = Counter(id(parameter) for _, parameter in tuned.named_parameters(remove_duplicate=False))
    for layer in [module for module in tuned.modules() if isinstance(module, BaseTunerLayer)]:
        adapted: Any = layer.get_base_layer()
        weight = adapted.weight
        if uses[id(weight)] > 1:
            # An update of the head is none of the embedding that it shares its weights with.
            uses[id(weight)] -= 1
            adapted.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
            base.config.tie_word_embeddings = False
        adapted.float()
        layer.merge(safe_merge=True)
        adapted.to(dtype)
    merged: Any = tuned.unload()
    return merged.to(dtype)


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of ``folder`` when it is whole, on disk too.

    Raises:
        ValueError: If something other than a model stands there.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "model"
        >>> with written_whole(place) as unfinished:
        ...     _ = (unfinished / "config.json").write_text("{}")
        >>> [path.name for path in place.iterdir()]
        ['config.json']
    """
    require_replaceable(folder)
    folder = folder.absolute()
    beside = folder.with_name(f".{folder.name}.unfinished")
    before = folder.with_name(f".{folder.name}.before")
    # What a killed run may have left; killed between the two renames, it left only the older model.
    if before.exists() and not folder.exists():
        before.rename(folder)
    shutil.rmtree(before, ignore_errors=True)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        for path in [*beside.rglob("*"), beside]:
            _to_disk(path)
        if folder.exists():
            folder.rename(before)
        beside.rename(folder)
        _to_disk(folder.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(before, ignore_errors=True)


def require_replaceable(folder: Path) -> None:
    """Refuse a place where something stands that is no model: it would be deleted.

    Raises:
        ValueError: If ``folder`` is a file, or holds files but no model.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; a policy is exported to a folder")
    names = {path.name for path in folder.iterdir()}
    if names and not names & {"config.json", "adapter_config.json"}:
        raise ValueError(
            f"{folder} holds no model but other files ({sorted(names)[0]} …), which an export would delete; name another"
        )


def _base_layer(model: nn.Module, path: str) -> Any:
    """The layer at ``path`` of the base, under whatever PEFT has wrapped around it."""
    layer: Any = model
    for part in path.split("."):
        layer = getattr(layer, part)
        while isinstance(layer, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
            layer = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer.original_module
    return layer


def _file_key(key: str) -> str:
    """DoRA's magnitudes under a name that PEFT and transformers both read; transformers would skip PEFT's own, and warn."""
    return f"{key}.weight" if key.endswith(".lora_magnitude_vector") else key


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
