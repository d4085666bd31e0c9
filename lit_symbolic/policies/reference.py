"""The policy that the KL is measured against: the one that training started from."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

from lit_symbolic.policies.adapters import active_adapter, clone_adapter, has_adapters
from lit_symbolic.policies.loaders import POLICY_ADAPTER

ReferenceKind = Literal["auto", "adapters_off", "adapter", "copy"]
REFERENCE_ADAPTER = "reference"


class Reference(nn.Module):
    """The frozen policy at the start of training. After supervised fine-tuning it is the fine-tuned one, not the base.

    Args:
        policy: The policy's model, already warm-started.
        kind: ``adapters_off`` is the base without adapters: right only where training starts from the base, no bytes;
            ``adapter`` is a frozen copy of the policy's adapter; ``copy`` a frozen copy of the whole model (its bytes
            once more); ``auto`` takes ``adapter`` where there are adapters, else ``copy``.

    Raises:
        ValueError: If adapters are asked of a model without, or a copy of quantized weights.
    """

    def __init__(self, policy: PreTrainedModel, kind: ReferenceKind) -> None:
        super().__init__()
        self.kind: ReferenceKind = ("adapter" if has_adapters(policy) else "copy") if kind == "auto" else kind
        self.frozen: PreTrainedModel | None = None
        if self.kind == "copy":
            if getattr(policy, "is_quantized", False):
                raise ValueError("reference: copy would hold a second quantized base; use reference: adapter")
            self.frozen = copy.deepcopy(policy).requires_grad_(False).eval()
        elif self.kind == "adapter":
            clone_adapter(policy, POLICY_ADAPTER, REFERENCE_ADAPTER, trainable=False)
        elif not has_adapters(policy):
            raise ValueError("reference: adapters_off needs a policy with adapters; give policy.lora or use reference: copy")

    def train(self, mode: bool = True) -> Reference:
        """Stay in eval mode: a reference is never trained."""
        return super().train(False)

    @contextmanager
    def of(self, policy: PreTrainedModel) -> Iterator[PreTrainedModel]:
        """The model to run for the reference's log-probs, for the time of the block."""
        if self.frozen is not None:
            yield self.frozen
            return
        with active_adapter(policy, REFERENCE_ADAPTER if self.kind == "adapter" else None):
            yield policy
