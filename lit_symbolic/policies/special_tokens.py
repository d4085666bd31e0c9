"""What sampling and training need of a tokenizer: an end-of-sequence token, a padding token of its own, a chat template."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_symbolic.policies.adapters import has_adapters

# Words that vocabularies keep for padding, then words that real text hardly ever becomes.
PADDING_WORDS = (
    "<pad>",
    "[PAD]",
    "<|pad|>",
    "<|padding|>",
    "<|finetune_right_pad_id|>",
    "<|fim_pad|>",
    "<|endoftext|>",
    "<unk>",
    "[UNK]",
)
ADDED_PAD = "<pad>"


def complete_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, frozen: bool) -> bool:
    """Give the tokenizer an end-of-sequence token and a padding token of its own, and the model a row for each.

    Without an end-of-sequence token the tokenizer takes the model's (Galactica's names none). Without a padding token, or
    where that is the end-of-sequence token, it takes a fitting word of its vocabulary (:data:`PADDING_WORDS`), else a new
    one: in a spare row where the embedding has more rows than the vocabulary words, else in a row that is added.

    An added row is the mean of the others, so its logit is their mean logit and its probability at most one in the size
    of the vocabulary. Where the base is frozen, so is the row: it follows from the base alone and is made again, the same,
    whenever the base is loaded; checkpoints and adapter folders neither hold nor miss it. ``config.vocab_size`` stays that
    of the base then, since PEFT would else write all embeddings into each adapter folder.

    Args:
        model: As loaded, before adapters of its own are added.
        tokenizer: Changed in place.
        frozen: Whether only adapters will be trained; else an added row is a weight like the others.

    Returns:
        Whether rows were added.

    Raises:
        ValueError: If neither tokenizer nor model name an end-of-sequence token, or the row would have to be added to
            embeddings that carry an adapter.
    """
    ends = end_ids(model)
    if tokenizer.eos_token_id is None:
        if not ends:
            raise ValueError(
                f"neither the tokenizer nor the configuration of {model.config.name_or_path!r} names an end-of-sequence token, so no "
                "answer could end; set eos_token in its tokenizer_config.json"
            )
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])
        rank_zero_info("end-of-sequence token: %r, as the model's configuration says", tokenizer.eos_token)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        _choose_padding(tokenizer, {tokenizer.bos_token_id, tokenizer.eos_token_id, *ends})
        rank_zero_info("padding token: %r (id %d)", tokenizer.pad_token, tokenizer.pad_token_id)
    rows = _rows(model)
    missing = tokenizer.pad_token_id + 1 - rows
    if missing > 0:
        _add_rows(model, missing, frozen)
        rank_zero_info("the embedding had no row for it: it has %d rows now, not %d", tokenizer.pad_token_id + 1, rows)
    if model.generation_config is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id
    return missing > 0


def require_plain_embeddings(model: PreTrainedModel) -> None:
    """Refuse adapters on embeddings or head of a model with added rows: they would not fit its base when loaded again.

    Raises:
        ValueError: If there are such adapters.
    """
    if has_adapters(model.get_input_embeddings()) or has_adapters(model.get_output_embeddings()):
        raise ValueError(
            f"{model.config.name_or_path!r} has no row to spare for a padding token, and rows cannot be added where adapters sit on "
            "embeddings or head: leave those out of policy.lora, or save the model once with a padding token of its own"
        )


def require_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that does not say how a conversation is written.

    Raises:
        ValueError: If it has no chat template.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"model.chat is true, and the tokenizer of {tokenizer.name_or_path!r} has no chat template; set model.chat to false for a "
            "model that is not tuned for conversation, or add a chat_template to its folder"
        )


def end_ids(model: PreTrainedModel) -> list[int]:
    """Ids that end an answer as the model's own configurations say, the most telling first."""
    found: list[int] = []
    for config in (model.generation_config, model.config.get_text_config(decoder=True)):
        named = getattr(config, "eos_token_id", None)
        found.extend(named if isinstance(named, list) else [named] if named is not None else [])
    return list(dict.fromkeys(found))


def _rows(model: PreTrainedModel) -> int:
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight.shape[0]


def _choose_padding(tokenizer: PreTrainedTokenizerBase, taken: set[int | None]) -> None:
    vocabulary = tokenizer.get_vocab()
    for word in PADDING_WORDS:
        if word in vocabulary and vocabulary[word] not in taken:
            tokenizer.pad_token = word
            return
    word = ADDED_PAD
    while word in vocabulary:
        word = f"<{word}>"
    tokenizer.add_special_tokens({"pad_token": word})


def _add_rows(model: PreTrainedModel, count: int, frozen: bool) -> None:
    """Add rows to embedding and head, each the mean of those that are there."""
    require_plain_embeddings(model)
    config = model.config.get_text_config(decoder=True)
    rows, size = _rows(model), config.vocab_size
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # transformers draws values, which are replaced here
        model.resize_token_embeddings(rows + count, mean_resizing=False)
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            for values in (layer.weight, getattr(layer, "bias", None)):
                if isinstance(values, Tensor):
                    values[rows:] = values[:rows].float().mean(dim=0).to(values.dtype)
    if frozen:
        config.vocab_size = size
