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
