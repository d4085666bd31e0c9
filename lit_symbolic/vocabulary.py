"""What a tokenizer that is made for one task is made of. Standard library only: tasks say it, policies read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LearnedVocabulary:
    """What a tokenizer for a task alone is learned from, where its words cannot be listed: any text can then be written.

    Args:
        texts: Prompts and answers of the training split; what is frequent in them becomes a token.
        pieces: Regular expression that cuts a text; no token crosses a border between two of its matches, so that a reward for a
            token is one for an atom, an operator, a name. It must match any character somewhere.
        size: Tokens at most; at least 256 for the bytes and 4 for padding, begin, end and unknown.

    Example:
        >>> LearnedVocabulary(["sum of a and b", "a+b"], r" ?[a-z]+|[\\s\\S]", 300).size
        300
    """

    texts: Sequence[str]
    pieces: str
    size: int = 1024


Vocabulary = Sequence[str] | LearnedVocabulary
"""Words (see :func:`lit_symbolic.policies.tiny.tiny_tokenizer`), or what to learn them from."""
