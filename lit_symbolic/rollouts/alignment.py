"""Tokens to characters: which characters of an answer each sampled token wrote.

This is the one place that translates between the characters of a symbolic tool and the tokens of a model. It decodes
the sampled ids and never tokenizes the text again: that would give other tokens (BPE merges), and none at all for
what no text encodes to (half a UTF-8 character, a special token in the middle).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
Decode = Callable[[Sequence[int]], str]
Pieces = dict[tuple[tuple[int, ...], int], str | None]

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
MAX_PIECES = 200_000
MAX_CACHED_CONTEXT = 4

_PIECES: WeakKeyDictionary[PreTrainedTokenizerBase, Pieces] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class AlignedText:
    """An answer as text, with the characters of each of its tokens.

    Attributes:
        text: The decoded answer, special tokens removed.
        spans: ``[start, end)`` in ``text`` of each token id; empty for a token without characters.
    """

    text: str
    spans: tuple[Span, ...]


def align(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> AlignedText:
    """Decode sampled ids and find the characters that each id wrote.

    Holds for any ids, also for those that no text encodes to:

    - ``text == tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)``, one span per id;
    - every character belongs to a token, and tokens that share a character (the bytes of an emoji) all have it;
    - special tokens and tokens without characters have an empty span, where the text decoded before them ends;
    - starts and ends of the spans that are not empty never decrease.

    Where a token's bytes are no character, it has the replacement characters that stand for them.

    Args:
        tokenizer: The tokenizer whose ids these are.
        ids: Sampled ids, prompt and padding left out.

    Returns:
        The text and a span for each id.

    Example:
        >>> from lit_symbolic.policies.tiny import tiny_tokenizer
        >>> tokenizer = tiny_tokenizer(["4", "8", "12", "+", "=", "(left:"])
        >>> ids = [*tokenizer("4 + 8 = 12 (left: 12)", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        >>> aligned = align(tokenizer, ids)
        >>> [aligned.text[start:end] for start, end in aligned.spans]
        ['4', ' +', ' 8', ' =', ' 12', ' (left:', ' 12', ')', '']
    """
    ids = list(ids)

    def decode(part: Sequence[int]) -> str:
        return str(tokenizer.decode(list(part), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    text = decode(ids)
    pieces = _PIECES.setdefault(tokenizer, {})
    if len(pieces) > MAX_PIECES:
        pieces.clear()
    spans = _spans_by_pieces(decode, pieces, ids, text)
    if spans is None:
        spans = spans_by_prefixes([decode(ids[:k]) for k in range(len(ids) + 1)], [_alone(decode, token) for token in ids])
    return AlignedText(text, tuple(spans))


def tokens_in(spans: Sequence[Span], start: int, end: int) -> list[bool]:
    """Which tokens have a character in ``[start, end)``.

    An empty range (something is missing at ``start``) is hit by the tokens that hold the character there; at or behind
    the end of the text, by the last token that has characters. A token without characters is in no range.

    Args:
        spans: Characters of each token.
        start: First character.
        end: One past the last character.

    Returns:
        A truth value for each token.

    Example:
        >>> spans = [(0, 1), (1, 3), (3, 5), (5, 5)]
        >>> tokens_in(spans, 2, 4)
        [False, True, True, False]
        >>> tokens_in(spans, 3, 3), tokens_in(spans, 5, 5)
        ([False, False, True, False], [False, False, True, False])
    """
    length = max((span[1] for span in spans), default=0)
    if start >= length:
        start = length - 1
    end = max(end, start + 1)
    return [max(first, start) < min(behind, end) for first, behind in spans]


def _spans_by_pieces(decode: Decode, pieces: Pieces, ids: Sequence[int], text: str) -> list[Span] | None:
    """Lay remembered pieces of text side by side, as long as they give ``text``; None if they do not.

    A piece is what an id adds to the text of the ids right before it, which decides about blanks at a seam. One that
    holds no replacement character is whole characters, which no neighbour changes: decoders that join bytes do so
    within a character, or (byte fallback) turn a run of bytes into replacement characters, and then the text shows a
    replacement character where the piece has none. So a piece that fits where the text goes on is what its token wrote.
    All else is taken together with the ids behind it until that holds again.
    """
    spans: list[Span] = []
    context: tuple[int, ...] = ()
    position = k = 0
    while k < len(ids):
        token = ids[k]
        key = (context, token)
        if key in pieces:
            piece = pieces[key]
        else:
            piece = _piece(decode, context, token)
            if len(context) <= MAX_CACHED_CONTEXT:
                pieces[key] = piece
        if piece is not None and text.startswith(piece, position):
            end = position + len(piece)
            spans.append((position, end))
            k += 1
            if piece:
                context, position = (token,), end
            elif not position:  # a blank that is stripped because the text begins here may let the next one stand
                context = (*context, token)[-MAX_CACHED_CONTEXT:]
            continue
        group = _group(decode, context, ids, k, text, position)
        if group is None:
            return None
        spans += group
        context = tuple(ids[k : k + len(group)])
        k += len(group)
        position = max(end for _, end in group)
    return spans if position == len(text) else None


def _piece(decode: Decode, context: tuple[int, ...], token: int) -> str | None:
    """What ``token`` adds to the text of ``context``, None if that is not certain to be whole characters."""
    before, both = decode(context), decode([*context, token])
    piece = both[len(before) :]
    return piece if both.startswith(before) and REPLACEMENT not in piece else None


def _alone(decode: Decode, token: int) -> str:
    """Text of ``token`` by itself; of two of them where that is a blank that is stripped from the beginning."""
    return decode([token]) or decode([token, token])


def _group(
    decode: Decode, context: tuple[int, ...], ids: Sequence[int], first: int, text: str, position: int
) -> list[Span] | None:
    """Spans of the fewest ids from ``first`` on whose text is final, or None if there are none.

    Text is final when it fits and either holds no replacement character, or the next id is whole characters, added to it
    unchanged, or nothing comes any more.
    """
    prefixes = [decode(context)]
    offset = len(prefixes[0])
    for k in range(first, len(ids) + 1):
        piece = prefixes[-1][offset:]
        fits = k > first and bool(piece) and prefixes[-1].startswith(prefixes[0]) and text.startswith(piece, position)
        final = fits and (k == len(ids) or REPLACEMENT not in piece)
        following = "" if final or k == len(ids) else decode([*context, *ids[first : k + 1]])
        if fits and not final and following.startswith(prefixes[-1]):
            added = following[len(prefixes[-1]) :]
            final = bool(added) and REPLACEMENT not in added + _alone(decode, ids[k])
        if final:
            spans = spans_by_prefixes(prefixes, [_alone(decode, token) for token in ids[first:k]])
            return [(start + position - offset, end + position - offset) for start, end in spans]
        prefixes.append(following)
    return None


def spans_by_prefixes(prefixes: Sequence[str], alone: Sequence[str]) -> list[Span]:
    """Spans from what the ids decode to when cut off behind each of them: slow, and for any decoder.

    Where the text of a prefix is a beginning of the whole text, its length is the place of the cut. Where it is not, a
    character is cut in two (or a run of bytes is turned to replacement characters by a later one): all tokens up to the
    next such place share what is not settled between them.

    Args:
        prefixes: Text in front of the first id, up to behind the first, and so on up to the last: the whole text.
        alone: Text of each id by itself; empty for special tokens.

    Returns:
        A span in ``prefixes[-1]`` for each id.

    Example:
        >>> half = REPLACEMENT
        >>> spans_by_prefixes(["", "a", "a" + half, "aé"], ["a", half, half])
        [(0, 1), (1, 2), (1, 2)]
    """
    text = prefixes[-1]
    places = [k for k, prefix in enumerate(prefixes) if text.startswith(prefix)]
    spans: list[Span] = []
    high = len(prefixes[0])
    for i, j in pairwise(places):
        low, high = high, max(high, len(prefixes[j]))
        if j - i > 1 and high - low == sum(map(bool, alone[i:j])) and text[low:high] == REPLACEMENT * (high - low):
            for own in alone[i:j]:  # byte fallback: one replacement character for each byte
                spans.append((low, low + bool(own)))
                low += bool(own)
            continue
        settled = low
        for k in range(i, j):
            before, after, own = prefixes[k], prefixes[k + 1], alone[k]
            if after == before and not own:
                end = spans[-1][1] if spans else low
                spans.append((end, end))
                continue
            start = settled
            # Fewer characters than by itself: its first bytes went on with an unfinished character.
            continues = (
                k == i and own.startswith(REPLACEMENT) and len(after) - len(before) < len(own) and before.endswith(REPLACEMENT)
            )
            if k + 1 < j:
                settled = max(settled, _common(after, text))
                end = min(settled + 1, high)
            else:
                end = high
            if continues or (start == end and own):
                start = max(start - 1, 0)
            spans.append((start, end))
    return spans


def _common(one: str, other: str) -> int:
    """Number of characters with which both begin."""
    return next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
