"""Who estimates the value of a state: a head on the policy, a second adapter, or a network of its own."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from lit_symbolic.policies.adapters import active_adapter, clone_adapter
from lit_symbolic.policies.checkpointing import recompute_through_own_adapter
from lit_symbolic.policies.forward import response_hidden
from lit_symbolic.policies.loaders import POLICY_ADAPTER

CriticKind = Literal["head", "adapter", "own"]
CRITIC_ADAPTER = "critic"


class Critic(nn.Module):
    """Values of the states before each token.

    Args:
        policy: The policy's model.
        kind: ``head`` reads the policy's hidden states, costs no forward pass and its loss also trains the trunk;
            ``adapter`` runs the same base through a second LoRA adapter; ``own`` is a copy of the whole policy
            (its bytes once more, and those of its optimizer).

    Raises:
        ValueError: If ``adapter`` is asked of a policy without adapters, or ``own`` of quantized weights.
    """

    def __init__(self, policy: PreTrainedModel, kind: CriticKind) -> None:
        super().__init__()
        self.kind = kind
        # What the output head reads: OPT may project to another width than that of its blocks.
        width = policy.get_output_embeddings().in_features
        # float32 and zero: the first values are 0 whatever the trunk says, and no precision is lost in small returns.
        self.head = nn.Linear(width, 1, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.own: PreTrainedModel | None = None
        if kind == "adapter":
            clone_adapter(policy, POLICY_ADAPTER, CRITIC_ADAPTER, trainable=True)
            recompute_through_own_adapter(policy)
        elif kind == "own":
            if getattr(policy, "is_quantized", False):
                raise ValueError("critic: own would copy a quantized model, which cannot be trained; use critic: head or adapter")
            self.own = copy.deepcopy(policy)
            lm_head = self.own.get_output_embeddings()
            if not any(parameter is self.own.get_input_embeddings().weight for parameter in lm_head.parameters()):
                # Never run: a trainable weight without a gradient would stop distributed training.
                lm_head.requires_grad_(False)

    def forward(
        self,
        policy: PreTrainedModel,
        policy_hidden: Tensor,
        prompt_ids: Tensor,
        prompt_mask: Tensor | None,
        ids: Tensor,
        mask: Tensor,
        prompt_of: Tensor | None = None,
    ) -> Tensor:
        """Value of the state before each answer token.

        Args:
            policy: The policy's model (not registered here, since it belongs to the module).
            policy_hidden: Its hidden states before each answer token, shape (batch, length, width).
            prompt_ids: Left-padded prompts, long, shape (batch, prompt length), or (prompts, prompt length) with ``prompt_of``.
            prompt_mask: True at real prompt tokens, or None.
            ids: Right-padded answers, long, shape (batch, length).
            mask: True at answer tokens, bool, shape (batch, length).
            prompt_of: See :func:`lit_symbolic.policies.forward.response_hidden`.

        Returns:
            Values, float32, shape (batch, length).
        """
        if self.kind == "head":
            hidden = policy_hidden
        elif self.kind == "adapter":
            with active_adapter(policy, CRITIC_ADAPTER):
                hidden = response_hidden(policy, prompt_ids, prompt_mask, ids, mask, prompt_of)
        else:
            assert self.own is not None
            hidden = response_hidden(self.own, prompt_ids, prompt_mask, ids, mask, prompt_of)
        # In float32 also under autocast and where the Trainer has cast the whole module to half precision.
        with torch.autocast(hidden.device.type, enabled=False):
            return functional.linear(hidden.float(), self.head.weight.float(), self.head.bias.float()).squeeze(-1)
