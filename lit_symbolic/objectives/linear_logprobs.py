"""Log-probs of chosen tokens under a plain linear head, whose logits exist one tile (some tokens x some words) at a time.

The forward pass normalises each tile by itself and keeps, for each token, the tile's log-sum-exp; those of a token's tiles add
up to its own. The backward pass computes a tile's logits anew. So no tensor grows with tokens x words, and none but the
gradients with words x width. Tiles of words, not only of tokens, keep the matrix products large where the vocabulary is:
with 256k words a whole row is a megabyte, and products of few tokens would do little but read the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import linear

Entropy = Literal["none", "value", "gradient"]

# Narrower tiles make small matrix products; tokens are split before words get fewer than this.
LEAST_WORDS = 1024


@dataclass(frozen=True)
class Tile:
    """How many tokens and words meet at one time."""

    tokens: int
    words: int

    @classmethod
    def within(cls, elements: int, tokens: int, words: int, widest: int | None = None) -> Tile:
        """The tile of at most ``elements`` logits: all tokens if they fit, else equal parts of them; then as many words as fit.

        Args:
            elements: Logits that may exist at the same time.
            tokens: Tokens there are.
            words: Words there are.
            widest: Most words in a tile, for what is copied of the weights.

        Example:
            >>> Tile.within(4 * 2**20, tokens=1024, words=128_000), Tile.within(4 * 2**20, tokens=8192, words=32_000)
            (Tile(tokens=1024, words=4096), Tile(tokens=4096, words=1024))
        """
        widest = max(1, min(words, elements, words if widest is None else widest))
        parts = max(1, -(-tokens * min(widest, LEAST_WORDS) // elements))
        several = max(1, min(-(-tokens // parts), elements // min(widest, LEAST_WORDS)))
        return cls(tokens=several, words=min(widest, elements // several))


def tile_for(states: Tensor, weight: Tensor, elements: int) -> Tile:
    """The tile of at most ``elements`` logits; what is copied of the weights for it has no more elements than they.

    In half precision that is the sum of a tile's gradient, and under autocast the tile's weights in the other type.

    Args:
        states: Hidden states, float, shape (tokens, width).
        weight: Shape (words, width).
        elements: Logits that may exist at the same time.
    """
    dtype = product_dtype(states)
    copied = weight.dtype != dtype or (weight.requires_grad and dtype != accumulation_dtype(dtype))
    return Tile.within(elements, len(states), len(weight), elements // weight.shape[1] if copied else None)


def linear_logprobs(
    states: Tensor, weight: Tensor, bias: Tensor | None, chosen: Tensor, temperature: float, entropy: Entropy, tile: Tile
) -> tuple[Tensor, Tensor | None]:
    """Log-prob of the chosen word and entropy of ``softmax((states @ weight.T + bias) / temperature)``.

    Under autocast products are taken in its type, as ``nn.Linear`` takes them. Log-sum-exps, entropies and the sums over
    tiles that make the gradients are of :func:`accumulation_dtype`. A second derivative is refused.

    Args:
        states: Hidden states, float, shape (tokens, width).
        weight: Of the type of ``states`` unless autocast is on, shape (words, width).
        bias: Shape (words,), or None.
        chosen: Long, shape (tokens,).
        temperature: Divides the logits.
        entropy: ``gradient`` for an entropy that can stand in a loss, ``value`` for one that is only looked at, or ``none``.
        tile: What exists at one time.

    Returns:
        Log-probs (NaN where ``chosen`` is no word) and entropies in nats (or None), shape (tokens,).

    Example:
        >>> logprobs, _ = linear_logprobs(torch.ones(1, 8), torch.zeros(4, 8), None, torch.tensor([3]), 1.0, "none", Tile(1, 3))
        >>> round(logprobs.item(), 3)
        -1.386
    """
    logprobs, entropies = _LinearLogprobs.apply(states, weight, bias, chosen, temperature, entropy, tile)
    return logprobs, entropies


def product_dtype(states: Tensor) -> torch.dtype:
    """What ``nn.Linear`` multiplies ``states`` in: their own type, or that of autocast, which leaves float64 alone."""
    device = states.device.type
    cast = torch.is_autocast_enabled(device) and states.dtype != torch.float64
    return torch.get_autocast_dtype(device) if cast else states.dtype


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """What sums over words are taken in: float64 for float64, else float32.

    Example:
        >>> accumulation_dtype(torch.bfloat16)
        torch.float32
    """
    return torch.promote_types(dtype, torch.float32)


def scaled_logits(logits: Tensor, temperature: float, overwrite: bool) -> Tensor:
    """``logits / temperature`` in :func:`accumulation_dtype`; ``overwrite`` says whether ``logits`` may be spoiled."""
    scaled = logits.to(accumulation_dtype(logits.dtype))
    if temperature == 1:
        return scaled
    return scaled.div_(temperature) if overwrite or scaled is not logits else scaled / temperature


def entropy_of(log_probabilities: Tensor) -> Tensor:
    """``-sum(p log p)`` over the last dimension; a tensor of the same size exists meanwhile."""
    return log_probabilities.exp().mul_(log_probabilities).sum(dim=-1).neg_()


class _LinearLogprobs(torch.autograd.Function):
    """See :func:`linear_logprobs`. Words outside, tokens inside: a tile's weights are cast, and their gradient is summed, once.

    With z = logits / temperature, p = softmax(z), c the chosen word and H the entropy, the gradients are

        d log p_c / d z_j = [j = c] - p_j          d H / d z_j = -p_j (log p_j + H)
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        chosen: Tensor,
        temperature: float,
        entropy: Entropy,
        tile: Tile,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.dtype = states.dtype
        states = states.to(product_dtype(states))
        all_words, all_tokens = _spans(len(weight), tile.words), _spans(len(states), tile.tokens)
        sums = states.new_empty(len(all_words), len(states), dtype=accumulation_dtype(states.dtype))  # of each tile's words
        entropies = None if entropy == "none" else torch.empty_like(sums)
        logprobs = torch.full_like(sums[0], torch.nan)
        owner = torch.zeros_like(chosen)  # the tile that has the chosen word
        with torch.autocast(states.device.type, enabled=False):
            for index, words in enumerate(all_words):
                part = _part(weight, bias, words, states.dtype)
                for tokens in all_tokens:
                    logits = scaled_logits(linear(states[tokens], *part), temperature, overwrite=True)
                    largest = logits.amax(dim=1)
                    normalised = logits.log_softmax(dim=1)
                    del logits
                    sums[index, tokens] = largest - normalised.amax(dim=1)
                    inside, column = _columns(chosen[tokens], words)
                    logprobs[tokens] = normalised.gather(1, column).squeeze(1).where(inside, logprobs[tokens])
                    owner[tokens] = owner[tokens].masked_fill(inside, index)
                    if entropies is not None:
                        entropies[index, tokens] = entropy_of(normalised)
                    del normalised
        whole = sums.logsumexp(dim=0)
        shares = sums - whole  # log-probs of the tiles: a word is chosen by its tile, then within it
        logprobs += shares.gather(0, owner[None]).squeeze(0)
        if entropies is not None:
            entropies = (shares.exp() * (entropies - shares)).sum(dim=0)
        ctx.set_materialize_grads(False)
        ctx.temperature, ctx.tile = temperature, tile
        ctx.save_for_backward(states, weight, bias, chosen, whole, entropies if entropy == "gradient" else None)
        if entropies is not None and entropy == "value":
            ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, slope: Tensor | None, entropy_slope: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # that is what create_graph=True turns on
            raise RuntimeError(
                "these log-probs have no second derivative, and create_graph=True asks for one: drop it, or give "
                "token_logprobs enough logits_bytes for all logits, which are then left to autograd"
            )
        states, weight, bias, chosen, whole, entropies = ctx.saved_tensors
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        slope = torch.zeros_like(whole) if slope is None else slope / ctx.temperature
        entropy_slope = None if entropy_slope is None else entropy_slope / ctx.temperature
        by_states = whole.new_zeros(states.shape) if wants_states else None
        by_weight = torch.zeros_like(weight) if wants_weight else None
        by_bias = whole.new_zeros(bias.shape) if wants_bias else None
        all_tokens = _spans(len(states), ctx.tile.tokens)
        with torch.autocast(states.device.type, enabled=False):
            for words in _spans(len(weight), ctx.tile.words):
                part = _part(weight, bias, words, states.dtype)
                by_part = None if by_weight is None else by_weight[words].to(whole.dtype)  # no copy of a float32 weight's
                for tokens in all_tokens:
                    logits = scaled_logits(linear(states[tokens], *part), ctx.temperature, overwrite=True)
                    normalised = logits.sub_(whole[tokens, None])
                    if entropy_slope is None:
                        gradient = normalised.exp_().mul_(-slope[tokens, None])
                    else:
                        gradient = normalised.exp()
                        surprise = normalised.add_(entropies[tokens, None])
                        gradient.mul_(surprise.mul_(-entropy_slope[tokens, None]).sub_(slope[tokens, None]))
                        del surprise
                    del logits, normalised
                    inside, column = _columns(chosen[tokens], words)
                    gradient.scatter_add_(1, column, (slope[tokens] * inside)[:, None])
                    if by_bias is not None:
                        by_bias[words] += gradient.sum(dim=0)
                    gradient = gradient.to(states.dtype)
                    if by_states is not None:
                        _add_product(by_states[tokens], gradient, part[0])
                    if by_part is not None:
                        _add_product(by_part, gradient.t(), states[tokens])
                    del gradient
                if by_weight is not None and by_part is not None and by_part.dtype != by_weight.dtype:
                    by_weight[words] = by_part
        by_states = None if by_states is None else by_states.to(ctx.dtype)
        by_bias = None if by_bias is None else by_bias.to(bias.dtype)
        return by_states, by_weight, by_bias, None, None, None, None


def _part(weight: Tensor, bias: Tensor | None, words: slice, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of some words, in the type of the products."""
    return weight[words].to(dtype), None if bias is None else bias[words].to(dtype)


def _columns(chosen: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """Whether each chosen word is among ``words``, and its column there (some column, if it is not)."""
    inside = (chosen >= words.start) & (chosen < words.stop)
    return inside, (chosen - words.start).clamp(0, words.stop - words.start - 1)[:, None]


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left @ right``, summed in the type of ``total``."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _spans(total: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, total)) for start in range(0, total, size)]
