"""One forward pass over prompts and answers, up to the hidden states before each answer token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


def response_hidden(model: PreTrainedModel, prompt_ids: Tensor, prompt_mask: Tensor | None, ids: Tensor, mask: Tensor) -> Tensor:
    """Hidden state before each answer token: the state from which the policy chose it.

    Args:
        model: A causal LM; its head is not run.
        prompt_ids: Left-padded prompts, long, shape (batch, prompt length).
        prompt_mask: True at real prompt tokens, bool, the same shape; None if nothing is padded.
        ids: Right-padded answers, long, shape (batch, length).
        mask: True at answer tokens, bool, shape (batch, length).

    Returns:
        Hidden states after the final norm, shape (batch, length, width).
    """
    # The last answer token is never read from, so it is not fed.
    fed = torch.cat([prompt_ids, ids[:, :-1]], dim=1)
    arguments: dict[str, Any] = {}
    if prompt_mask is not None:
        # Padding on the right needs no mask: causal attention never looks there from a token that counts.
        attend = torch.cat([prompt_mask, torch.ones_like(mask[:, :-1])], dim=1)
        arguments = {"attention_mask": attend, "position_ids": (attend.long().cumsum(1) - 1).clamp(min=0)}
    trunk = model.get_decoder()
    hidden = trunk(input_ids=fed, use_cache=False, **arguments).last_hidden_state
    return hidden[:, prompt_ids.shape[1] - 1 :]


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
