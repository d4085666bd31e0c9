"""Log-probs of chosen tokens from hidden states, without a logit tensor over all positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def token_logprobs(
    hidden: Tensor, head: nn.Module, ids: Tensor, mask: Tensor, temperature: float = 1.0, chunk_tokens: int = 2048
) -> tuple[Tensor, Tensor]:
    """Log-prob and entropy of the next-token distribution at the positions that count.

    Logits exist for ``chunk_tokens`` positions at a time, in the backward pass too, and only where ``mask`` is True.

    Args:
        hidden: Hidden state *before* each token, float, shape (batch, length, width).
        head: Maps hidden states to logits, width -> vocabulary.
        ids: Chosen tokens, long, shape (batch, length).
        mask: True where a token counts, bool, shape (batch, length).
        temperature: Divides the logits.
        chunk_tokens: Positions whose logits exist at the same time.

    Returns:
        Log-probs ``logit[id] - logsumexp(logits)`` and entropies in nats, float32, shape (batch, length), 0 where
        ``mask`` is False.

    Raises:
        ValueError: If ``temperature`` or ``chunk_tokens`` is not positive.

    Example:
        >>> head = nn.Linear(2, 4, bias=False)
        >>> _ = nn.init.zeros_(head.weight)
        >>> logprobs, entropy = token_logprobs(torch.ones(1, 2, 2), head, torch.tensor([[0, 3]]), torch.tensor([[True, False]]))
        >>> [[round(x, 3) for x in row] for row in logprobs.tolist()]
        [[-1.386, 0.0]]
    """
    if temperature <= 0 or chunk_tokens < 1:
        raise ValueError(f"temperature and chunk_tokens must be positive, got {temperature} and {chunk_tokens}")
    states, chosen = hidden[mask], ids[mask]

    def chunk(part: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(part).float() / temperature
        normalised = logits.log_softmax(dim=-1)
        entropy = -(normalised.exp() * normalised).sum(dim=-1)
        return normalised.gather(1, wanted[:, None]).squeeze(1), entropy

    pairs = list(zip(states.split(chunk_tokens), chosen.split(chunk_tokens), strict=True))
    recompute = torch.is_grad_enabled() and len(pairs) > 1
    parts = [checkpoint(chunk, *pair, use_reentrant=False) if recompute else chunk(*pair) for pair in pairs]
    logprobs, entropies = (torch.cat(column) for column in zip(*parts, strict=True))
    zeros = torch.zeros(ids.shape, dtype=torch.float32, device=hidden.device)
    return zeros.masked_scatter(mask, logprobs), zeros.masked_scatter(mask, entropies)
