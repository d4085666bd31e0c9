"""Log-prob and entropy of chosen tokens from hidden states, without a logit tensor over all positions."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lit_symbolic.objectives.linear_logprobs import (
    Entropy,
    accumulation_dtype,
    entropy_of,
    linear_logprobs,
    scaled_logits,
    tile_for,
)

# On a CPU memory of this size is reused between chunks and stays near the caches; an accelerator wants fewer, larger kernels.
CPU_LOGITS_BYTES = 16 * 2**20
ACCELERATOR_LOGITS_BYTES = 128 * 2**20


@overload
def token_logprobs(
    hidden: Tensor,
    head: nn.Module,
    ids: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    entropy: Literal["value", "gradient"] = "gradient",
    logits_bytes: int | None = None,
) -> tuple[Tensor, Tensor]: ...


@overload
def token_logprobs(
    hidden: Tensor,
    head: nn.Module,
    ids: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    *,
    entropy: Literal["none"],
    logits_bytes: int | None = None,
) -> tuple[Tensor, None]: ...


def token_logprobs(
    hidden: Tensor,
    head: nn.Module,
    ids: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
    entropy: Entropy = "gradient",
    logits_bytes: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Log-prob and entropy of the next-token distribution at the positions that count.

    Logits exist only where ``mask`` is True, and only ``logits_bytes`` of them at a time, in the backward pass too. Where
    all of them fit, their softmax is kept from the forward pass to the backward pass; else the backward pass computes
    them anew. A plain ``nn.Linear`` is cut in tokens and in words (:mod:`lit_symbolic.objectives.linear_logprobs`), so that memory
    does not grow with the vocabulary; any other head (LoRA, quantized, with hooks) is called as it is on some tokens at a
    time, and each chunk's gradient of the head's own weights is then a tensor of its own.

    The mask's positions are listed once, which on CUDA waits for the device; nothing else here does.

    Args:
        hidden: Hidden state *before* each token, float, shape (batch, length, width).
        head: Maps hidden states to logits, width -> vocabulary.
        ids: Chosen tokens, long, shape (batch, length).
        mask: True where a token counts, bool, shape (batch, length).
        temperature: Divides the logits.
        entropy: ``gradient`` for an entropy that can stand in a loss, ``value`` for one that is only looked at and costs
            nothing in the backward pass, ``none`` for none.
        logits_bytes: Bytes of the float32 logits that exist at the same time; working memory is about twice that, three
            times with entropies. At least one token's logits, of a plain linear head one logit. None takes 16 MiB on a CPU and 128 MiB elsewhere.

    Returns:
        Log-probs ``log_softmax(logits / temperature)[id]`` and entropies in nats (None with ``entropy="none"``), shape
        (batch, length), 0 where ``mask`` is False; float32, or float64 if the hidden states are.

    Raises:
        ValueError: If ``temperature`` or ``logits_bytes`` is not positive, if shapes disagree, or, on a CPU, if an id that counts
            is no word of the head; on other devices such an id's log-prob is NaN or the device reports it.

    Example:
        >>> head = nn.Linear(2, 4, bias=False)
        >>> _ = nn.init.zeros_(head.weight)
        >>> logprobs, entropy = token_logprobs(torch.ones(1, 2, 2), head, torch.tensor([[0, 3]]), torch.tensor([[True, False]]))
        >>> [[round(x, 3) for x in row] for row in logprobs.tolist()]
        [[-1.386, 0.0]]
    """
    _check(hidden, ids, mask, temperature, logits_bytes)
    positions = mask.flatten().nonzero().squeeze(1)
    states, chosen = hidden.flatten(0, -2).index_select(0, positions), ids.flatten().index_select(0, positions)
    words, dtype = _vocabulary(head, states), accumulation_dtype(hidden.dtype)
    _require_words(chosen, words)
    elements = max(1, _budget(hidden.device, logits_bytes) // dtype.itemsize)
    if len(chosen) * words > elements and is_plain_linear(head, states):
        assert isinstance(head, nn.Linear)
        tile = tile_for(states, head.weight, elements)
        logprobs, entropies = linear_logprobs(states, head.weight, head.bias, chosen, temperature, entropy, tile)
    else:
        logprobs, entropies = _chunks_of_any_head(states, head, chosen, temperature, entropy, max(1, elements // words))

    def at_positions(values: Tensor) -> Tensor:
        return torch.zeros(ids.numel(), dtype=dtype, device=ids.device).scatter(0, positions, values).view(ids.shape)

    return at_positions(logprobs), None if entropies is None else at_positions(entropies)


def is_plain_linear(head: nn.Module, states: Tensor) -> bool:
    """Whether ``head(states)`` is ``states @ weight.T + bias`` and nothing besides.

    False for a subclass (4-bit, LoRA, a parametrization), for hooks (offloading, sharding), for a weight that is no plain
    tensor (a sharded one), and where types differ, so that the head itself says what it cannot multiply.

    Example:
        >>> [is_plain_linear(head, torch.ones(1, 2)) for head in (nn.Linear(2, 4), nn.Sequential(nn.Linear(2, 4)))]
        [True, False]
    """
    if type(head) is not nn.Linear or type(head.weight) not in (nn.Parameter, Tensor) or "forward" in vars(head):
        return False
    hooks = (head._forward_hooks, head._forward_pre_hooks, head._backward_hooks, head._backward_pre_hooks)
    same = head.weight.dtype == states.dtype or torch.is_autocast_enabled(states.device.type)
    return same and head.weight.device == states.device and not any(hooks)


def _chunks_of_any_head(
    states: Tensor, head: nn.Module, chosen: Tensor, temperature: float, entropy: Entropy, tokens: int
) -> tuple[Tensor, Tensor | None]:
    """The head as it is on ``tokens`` positions at a time; recomputed in the backward pass if there is more than one chunk."""

    def chunk(part: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor | None]:
        normalised = scaled_logits(head(part), temperature, overwrite=False).log_softmax(dim=-1)
        logprobs = normalised.gather(1, wanted[:, None]).squeeze(1)
        if entropy == "gradient":
            return logprobs, -(normalised.exp() * normalised).sum(dim=-1)
        return logprobs, entropy_of(normalised.detach()) if entropy == "value" else None

    pairs = list(zip(states.split(tokens), chosen.split(tokens), strict=True))
    if len(pairs) == 1:
        return chunk(*pairs[0])
    recompute = torch.is_grad_enabled()
    parts = [checkpoint(chunk, *pair, use_reentrant=False) if recompute else chunk(*pair) for pair in pairs]
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), None if entropy == "none" else torch.cat(entropies)


def _budget(device: torch.device, logits_bytes: int | None) -> int:
    if logits_bytes is None:
        return CPU_LOGITS_BYTES if device.type == "cpu" else ACCELERATOR_LOGITS_BYTES
    return logits_bytes


def _check(hidden: Tensor, ids: Tensor, mask: Tensor, temperature: float, logits_bytes: int | None) -> None:
    if temperature <= 0 or (logits_bytes is not None and logits_bytes < 1):
        raise ValueError(f"temperature and logits_bytes must be positive, got {temperature} and {logits_bytes}")
    if not hidden.shape[:-1] == ids.shape == mask.shape or mask.dtype != torch.bool:
        raise ValueError(
            "hidden states (batch, length, width), ids (batch, length) and a boolean mask (batch, length) belong together, "
            f"got {tuple(hidden.shape)}, {tuple(ids.shape)} and {tuple(mask.shape)} of {mask.dtype}"
        )


def _vocabulary(head: nn.Module, states: Tensor) -> int:
    """Words of the head; one that does not say is run on no token."""
    words = getattr(head, "out_features", None)
    if isinstance(words, int):
        return words
    with torch.no_grad():
        return int(head(states[:0]).shape[-1])


def _require_words(chosen: Tensor, words: int) -> None:
    """On a CPU only: elsewhere to look would be to wait for the device."""
    if chosen.device.type != "cpu" or not len(chosen):
        return
    values = chosen.numpy()
    if not 0 <= values.min() <= values.max() < words:
        raise ValueError(
            f"a chosen id is no word of the head: ids go from {values.min()} to {values.max()}, words from 0 to {words - 1}"
        )
