"""What goes into a checkpoint, and what a run may start from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from peft import PeftConfig, set_peft_model_state_dict
from peft.utils import load_peft_weights
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_symbolic.policies.adapters import belongs_to, has_adapters, meaning_of, require_same_adapter
from lit_symbolic.policies.loaders import POLICY_ADAPTER, PolicyLoader, TinyLlama, load_folder
from lit_symbolic.policies.reference import REFERENCE_ADAPTER
from lit_symbolic.policies.tiny import task_tokenizer
from lit_symbolic.vocabulary import Vocabulary

VOCABULARY = "lit_symbolic_vocabulary"
ADAPTER = "lit_symbolic_adapter"


def load_start(
    policy: PolicyLoader, init_from: str | None, vocabulary: Vocabulary
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the policy with the weights of ``init_from``: a Lightning checkpoint, a model folder or an adapter folder.

    Raises:
        MisconfigurationException: If the weights do not belong to this policy.
        FileNotFoundError: If a folder holds no model.
    """
    path = None if init_from is None else Path(init_from)
    if path is not None and path.is_dir():
        opened = load_folder(path, policy)
        if opened is not None:
            if isinstance(policy, TinyLlama):
                check_vocabulary(task_tokenizer(vocabulary), {VOCABULARY: vocabulary_of(opened[1])})
            return opened
    model, tokenizer = policy.load(vocabulary)
    if path is not None and path.is_dir():
        if not has_adapters(model):
            raise MisconfigurationException(
                f"model.init_from: {path} is a LoRA adapter, and the policy has none; give policy.lora"
            )
        load_adapter(model, path)
    elif path is not None:
        try:
            load_checkpoint(model, tokenizer, path)
        except MisconfigurationException as error:
            raise MisconfigurationException(f"model.init_from: {error}") from error
    return model, tokenizer


def load_trained(
    policy: PolicyLoader, init_from: str | None, checkpoint: Path, vocabulary: Vocabulary
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the policy as the checkpoint of a run left it.

    Args:
        policy: The run's policy.
        init_from: What the run started from. Only a model folder still counts: it holds the base.
        checkpoint: A Lightning checkpoint of this package.
        vocabulary: The task's.

    Raises:
        MisconfigurationException: If the weights do not belong to this policy.
        FileNotFoundError: If the model folder that the run started from is gone.
    """
    start = None if init_from is None else Path(init_from)
    if start is not None and (start.is_file() or start.suffix == ".ckpt" or (start / "adapter_config.json").is_file()):
        start = None  # trained over since: it need not be there any more
    if start is not None and not start.is_dir():
        raise FileNotFoundError(
            f"the run started from {start}, which is gone and may hold the base of its weights; put it back, or set model.init_from "
            "to null in a copy of the config if it held an adapter"
        )
    model, tokenizer = load_start(policy, None if start is None else str(start), vocabulary)
    load_checkpoint(model, tokenizer, checkpoint)
    return model, tokenizer


def load_checkpoint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Give the policy the trained weights of the Lightning checkpoint ``path``.

    Raises:
        MisconfigurationException: If the file is no checkpoint of this package, or one of another policy.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = {key.removeprefix("model."): value for key, value in checkpoint["state_dict"].items() if key.startswith("model.")}
    except Exception as error:
        raise MisconfigurationException(
            f"{path} is not a Lightning checkpoint of this package ({type(error).__name__})"
        ) from error
    check_vocabulary(tokenizer, checkpoint)
    check_adapter(model, checkpoint)
    wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    missing = sorted(wanted - set(state))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    wrong = sorted(name for name in wanted & set(state) if tuple(state[name].shape) != shapes[name])
    if missing or wrong:
        raise MisconfigurationException(
            f"the weights in {path} do not belong to this policy "
            f"(missing: {missing[:3] or 'none'}, other shape: {wrong[:3] or 'none'}); give the policy that it was trained with"
        )
    model.load_state_dict({name: state[name] for name in wanted}, strict=False)


def load_adapter(model: PreTrainedModel, path: Path) -> None:
    """Give the policy's adapter the weights of the adapter folder ``path``.

    Raises:
        MisconfigurationException: If the folder's adapter is of another kind, shape or set of layers.
    """
    try:
        require_same_adapter(meaning_of(PeftConfig.from_pretrained(str(path))), meaning_of(model.peft_config[POLICY_ADAPTER]))
        outcome: Any = set_peft_model_state_dict(model, load_peft_weights(str(path), device="cpu"), adapter_name=POLICY_ADAPTER)
    except (ValueError, RuntimeError) as error:
        raise MisconfigurationException(f"model.init_from: the adapter in {path} does not fit this policy: {error}") from error
    missing = [key for key in outcome.missing_keys if belongs_to(key, POLICY_ADAPTER)]
    if missing or outcome.unexpected_keys:
        raise MisconfigurationException(
            f"model.init_from: the adapter in {path} sits on other layers than this policy's "
            f"(missing: {missing[:3] or 'none'}, too many: {outcome.unexpected_keys[:3] or 'none'}); give policy.lora its target_modules"
        )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint whose ids mean other words.

    Raises:
        MisconfigurationException: If the vocabularies differ.
    """
    words = checkpoint.get(VOCABULARY)
    if words is not None and words != vocabulary_of(tokenizer):
        raise MisconfigurationException(
            "the checkpoint was trained with another vocabulary, so its ids mean other words; "
            "give the task options (data.task) that it was trained with"
        )


def check_adapter(model: PreTrainedModel, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint whose LoRA weights would be scaled otherwise here.

    Raises:
        MisconfigurationException: If the adapters differ.
    """
    saved = checkpoint.get(ADAPTER)
    if saved is not None and has_adapters(model):
        try:
            require_same_adapter(saved, meaning_of(model.peft_config[POLICY_ADAPTER]))
        except ValueError as error:
            raise MisconfigurationException(f"the checkpoint does not fit this policy: {error}") from error


def vocabulary_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """A fingerprint of all words in the order of their ids."""
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(repr(words).encode("utf-8", "surrogatepass")).hexdigest()


def keep_trained_weights(module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Leave frozen base weights out of a checkpoint; a frozen reference stays in, since a resumed run needs it."""
    kept = _kept_names(module)
    checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in kept}
    checkpoint[VOCABULARY] = vocabulary_of(module.tokenizer)  # type: ignore[arg-type]
    if has_adapters(module.model):  # type: ignore[arg-type]
        checkpoint[ADAPTER] = meaning_of(module.model.peft_config[POLICY_ADAPTER])  # type: ignore[union-attr, index]


def require_trained_weights(module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint that lacks a trained weight of this module, or holds it in another shape or for another adapter.

    Raises:
        MisconfigurationException: If weights are missing or differ in shape, or their adapter is scaled otherwise.
    """
    check_adapter(module.model, checkpoint)  # type: ignore[arg-type]
    missing = sorted(_kept_names(module) - set(checkpoint["state_dict"]))
    if missing:
        raise MisconfigurationException(
            f"the checkpoint lacks {len(missing)} weights of this {type(module).__name__} ({', '.join(missing[:3])} …): it was "
            "written by another module or with other options; to start from its policy alone use --model.init_from"
        )
    ours = module.state_dict()
    wrong = sorted(name for name in _kept_names(module) if checkpoint["state_dict"][name].shape != ours[name].shape)
    if wrong:
        name = wrong[0]
        raise MisconfigurationException(
            f"{len(wrong)} weights of the checkpoint have another shape than this {type(module).__name__}'s (first {name}: "
            f"{tuple(checkpoint['state_dict'][name].shape)}, not {tuple(ours[name].shape)}); give the policy that it was trained with"
        )


def refuse_foreign_weights(module: LightningModule, checkpoint: dict[str, Any]) -> None:
    """Refuse to go on training from a checkpoint of a larger module: its optimizer would not fit either.

    Raises:
        MisconfigurationException: If the checkpoint holds weights that this module does not have.
    """
    foreign = sorted(set(checkpoint["state_dict"]) - set(module.state_dict()))
    if foreign:
        raise MisconfigurationException(
            f"the checkpoint holds {len(foreign)} weights that this {type(module).__name__} does not have ({', '.join(foreign[:3])} "
            "…): it was written by another module or with other options; to start from its policy alone use --model.init_from"
        )


def _kept_names(module: LightningModule) -> set[str]:
    trained = {name for name, parameter in module.named_parameters(remove_duplicate=False) if parameter.requires_grad}
    reference = {name for name, _ in module.named_parameters() if belongs_to(name, REFERENCE_ADAPTER)}
    buffers = {name for name, _ in module.named_buffers(recurse=False)}
    return (trained | reference | buffers) & set(module.state_dict())
