"""One forward pass over prompts and answers, up to the hidden states before each answer token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel


def response_hidden(
    model: PreTrainedModel,
    prompt_ids: Tensor,
    prompt_mask: Tensor | None,
    ids: Tensor,
    mask: Tensor,
    prompt_of: Tensor | None = None,
) -> Tensor:
    """Hidden state before each answer token: the state from which the policy chose it.

    Args:
        model: A causal LM; its head is not run.
        prompt_ids: Left-padded prompts, long, shape (batch, prompt length), or (prompts, prompt length) with ``prompt_of``.
        prompt_mask: True at real prompt tokens, bool, the same shape; None if nothing is padded.
        ids: Right-padded answers, long, shape (batch, length).
        mask: True at answer tokens, bool, shape (batch, length).
        prompt_of: Prompt of each answer, long, shape (batch,): a prompt of several answers is then read once for all of them,
            and gets the gradients of all. Only for models for which :func:`shares_prompts` is true.

    Returns:
        Hidden states after the final norm, shape (batch, length, width).
    """
    if prompt_of is not None:
        return _shared_hidden(model, prompt_ids, prompt_mask, ids, prompt_of)
    # The last answer token is never read from, so it is not fed.
    fed = torch.cat([prompt_ids, ids[:, :-1]], dim=1)
    arguments: dict[str, Any] = {}
    if prompt_mask is not None:
        # Padding on the right needs no mask: causal attention never looks there from a token that counts.
        attend = torch.cat([prompt_mask, torch.ones_like(mask[:, :-1])], dim=1)
        arguments = {"attention_mask": attend, "position_ids": _positions(attend)}
    trunk = model.get_decoder()
    hidden = trunk(input_ids=fed, use_cache=False, **arguments).last_hidden_state
    return hidden[:, prompt_ids.shape[1] - 1 :]


def shares_prompts(model: PreTrainedModel) -> bool:
    """Whether a forward pass may read a prompt once for all its answers, through the model's key-value cache.

    Not with gradient checkpointing, which runs without a cache, nor where a layer sees less than the whole prompt (sliding
    windows, recurrent layers).
    """
    config = model.config.get_text_config(decoder=True)
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    windowed = getattr(config, "sliding_window", None) is not None and "layer_types" not in config.to_dict()
    recomputed = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    return not recomputed and not windowed and all(kind == "full_attention" for kind in kinds)


def _shared_hidden(
    model: PreTrainedModel, prompt_ids: Tensor, prompt_mask: Tensor | None, ids: Tensor, prompt_of: Tensor
) -> Tensor:
    trunk, cache = model.get_decoder(), DynamicCache()
    arguments: dict[str, Any] = {}
    if prompt_mask is not None:
        arguments = {"attention_mask": prompt_mask, "position_ids": _positions(prompt_mask)}
    read = trunk(input_ids=prompt_ids, past_key_values=cache, use_cache=True, **arguments).last_hidden_state
    first = read[prompt_of, -1:]
    if ids.shape[1] == 1:
        return first
    # Keys and values of the prompts, a row for each answer: the gradients of a prompt's answers meet here.
    cache.batch_select_indices(prompt_of)
    if prompt_mask is not None:
        attend = torch.cat([prompt_mask[prompt_of], torch.ones_like(ids[:, :-1], dtype=torch.bool)], dim=1)
        arguments = {"attention_mask": attend, "position_ids": _positions(attend)[:, prompt_ids.shape[1] :]}
    rest = trunk(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True, **arguments).last_hidden_state
    return torch.cat([first, rest], dim=1)


def _positions(attend: Tensor) -> Tensor:
    return (attend.long().cumsum(1) - 1).clamp(min=0)


def require_plain_head(model: PreTrainedModel) -> None:
    """Refuse a model that alters logits after its head: log-probs are computed from hidden states and head alone.

    Raises:
        ValueError: If the logits of two tokens are not the head's output (soft-capped as in Gemma 2, scaled as in Granite).
    """
    words = model.config.get_text_config(decoder=True).vocab_size
    # Not the first word: it is often padding, whose embedding is zero and shows nothing.
    ids = torch.tensor([[words // 3, words // 2]], device=model.device)
    training = model.training
    model.eval()
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits.float()
        plain = model.get_output_embeddings()(model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state).float()
    model.train(training)
    if (whole - plain).abs().max() > 1e-3 * plain.abs().max():
        raise ValueError(
            f"{type(model).__name__} alters its logits after the head (soft-capping or scaling), and its log-probs would come out "
            "wrong here; take a model whose logits are the head's output (Llama, Qwen, Mistral, Phi, OPT …)"
        )
