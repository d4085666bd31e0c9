"""Where a program that fails its tests left the reference: the first piece of it that breaks the reference when put into it.

A program and its reference are compared line by line, by their tokens. Pieces in which they differ are taken over from the program into
the reference, from the top: with none the reference passes, with all of them it is the program, which fails. Between two neighbours
the outcome changes; halving finds such a place with few trials. Where only one piece differs there is nothing to try.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

from lit_symbolic.verifiers.compiling.program import Span, Token, tokenize

MAX_LINES = 400
"""Programs with more lines are not compared: that takes time by the square."""


@dataclass(frozen=True)
class Piece:
    """Lines in which a program and its reference differ.

    Args:
        place: First characters that differ in the program; empty where something is missing there.
        end: Where the piece ends in the program.
        reference_end: Where it ends in the reference.
    """

    place: Span
    end: int
    reference_end: int


@dataclass(frozen=True)
class _Line:
    tokens: tuple[Token, ...]
    words: tuple[str, ...]

    @property
    def start(self) -> int:
        return self.tokens[0].start


def pieces(answer: str, reference: str) -> list[Piece]:
    """The pieces in which the tokens of two programs differ, in order; comments and blanks are no tokens.

    Example:
        >>> answer, reference = "int a;\\ncin >> b;\\n", "int a;\\ncin >> a; // the number\\ncout << a;\\n"
        >>> [answer[slice(*piece.place)] for piece in pieces(answer, reference)]
        ['b']
        >>> pieces("int a;\\n  cin >> a;", "int a; // a number\\ncin>>a;")
        []
    """
    ours, theirs = _lines(answer), _lines(reference)
    if max(len(ours), len(theirs)) > MAX_LINES:
        return []
    matcher = SequenceMatcher(None, [line.words for line in ours], [line.words for line in theirs], autojunk=False)
    found = []
    for tag, first, last, reference_first, reference_last in matcher.get_opcodes():
        if tag == "equal":
            continue
        if last - first == reference_last - reference_first:  # line for line
            pairs = [(first + i, first + i + 1, reference_first + i, reference_first + i + 1) for i in range(last - first)]
        else:
            pairs = [(first, last, reference_first, reference_last)]
        found += [_piece(answer, reference, ours, theirs, pair) for pair in pairs]
    return found


def _piece(answer: str, reference: str, ours: list[_Line], theirs: list[_Line], lines: tuple[int, int, int, int]) -> Piece:
    first, last, reference_first, reference_last = lines
    mine = [token for line in ours[first:last] for token in line.tokens]
    words = [word for line in theirs[reference_first:reference_last] for word in line.words]
    same = 0
    while same < min(len(mine), len(words)) and answer[mine[same].start : mine[same].end] == words[same]:
        same += 1
    following = mine[same] if same < len(mine) else ours[last].tokens[0] if last < len(ours) else None
    place = (following.start, following.end) if following else (len(answer), len(answer))
    return Piece(place, _begin(ours, last, answer), _begin(theirs, reference_last, reference))


def first_that_breaks(answer: str, reference: str, passes: Callable[[str], bool | None]) -> Piece | None:
    """A piece before which the reference passes with the answer's text up to there, and behind which it does not.

    Args:
        answer: A program that does not pass.
        reference: One that does.
        passes: Tries a program; None if that says nothing.

    Returns:
        None if no tokens differ, or a trial said nothing.

    Example:
        >>> answer, reference = "a = 1;\\nb = 3;\\nc = 4;\\n", "a = 0 + 1;\\nb = 2;\\nc = 5;\\n"
        >>> answer[slice(*first_that_breaks(answer, reference, lambda text: "b = 2;" in text).place)]
        '3'
    """
    differing = pieces(answer, reference)
    low, high = 0, len(differing)  # with so many pieces it passes, and does not
    while high - low > 1:
        middle = (low + high) // 2
        outcome = passes(answer[: differing[middle - 1].end] + reference[differing[middle - 1].reference_end :])
        if outcome is None:
            return None
        low, high = (middle, high) if outcome else (low, middle)
    return differing[high - 1] if differing else None


def _lines(text: str) -> list[_Line]:
    """The lines of a program that have tokens; a token is on the line where it begins."""
    found, number, position = [], 0, 0
    numbered = []
    for token in tokenize(text):
        number += text.count("\n", position, token.start)
        position = token.start
        numbered.append((number, token))
    for _, group in groupby(numbered, key=lambda pair: pair[0]):
        tokens = tuple(token for _, token in group)
        found.append(_Line(tokens, tuple(text[token.start : token.end] for token in tokens)))
    return found


def _begin(lines: list[_Line], index: int, text: str) -> int:
    return lines[index].start if index < len(lines) else len(text)
