"""Steps of an answer as tokens: where sampling stops so that the step can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

_STOPS: WeakKeyDictionary[PreTrainedTokenizerBase, dict[str, tuple[int, ...]]] = WeakKeyDictionary()


def step_stops(tokenizer: PreTrainedTokenizerBase, step_end: str) -> tuple[int, ...]:
    """Every id that writes the character with which a step ends.

    It need not be a token of its own: one may hold what comes before and behind it too (``)`` and a line break, two line breaks, a
    line break and the next line's blanks). What stands behind it then is the beginning of the next step.

    Args:
        tokenizer: Whose ids.
        step_end: One character.

    Raises:
        ValueError: If it is not one character, or no id writes it.

    Example:
        >>> from lit_symbolic.policies.tiny import tiny_tokenizer
        >>> tokenizer = tiny_tokenizer(["4", "+"])
        >>> tokenizer.convert_ids_to_tokens(list(step_stops(tokenizer, "\\n")))
        ['\\n']
    """
    if len(step_end) != 1:
        raise ValueError(f"a step ends with one character, got {step_end!r}")
    known = _STOPS.setdefault(tokenizer, {})
    if step_end not in known:
        # Twice, since a decoder may strip a blank from the beginning.
        twice = tokenizer.batch_decode([[token, token] for token in range(len(tokenizer))], clean_up_tokenization_spaces=False)
        special = set(tokenizer.all_special_ids)
        known[step_end] = tuple(token for token, text in enumerate(twice) if step_end in text and token not in special)
    if not known[step_end]:
        raise ValueError(f"no token of this tokenizer writes {step_end!r}, with which a step ends")
    return known[step_end]


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of sampled ids, special tokens removed, as :func:`lit_symbolic.rollouts.alignment.align` reads it."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def whole_steps(text: str, step_end: str) -> str:
    """The steps of a beginning that are complete.

    Example:
        >>> whole_steps("1 + 1 = 2;2 +", ";")
        '1 + 1 = 2;'
    """
    return text[: text.rfind(step_end) + 1]
