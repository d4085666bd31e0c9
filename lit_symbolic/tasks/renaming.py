"""Programs in other names: what a variable is called says nothing, and a model that has seen few programs must not think it does."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Sequence
from dataclasses import replace

from lit_symbolic.tasks.listing import Line

_QUOTED = r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'"
_IN_CODE = re.compile(rf"{_QUOTED}|(?<!\w)[A-Za-z](?!\w)")
_IN_TEXT = re.compile(rf"{_QUOTED}|(?<![\w'])[A-Za-z](?!\w)")
_LETTERS = (string.ascii_lowercase.replace("a", ""), string.ascii_uppercase)  # in words "a" is an article


def in_other_names(lines: Sequence[Line], rng: random.Random) -> tuple[Line, ...]:
    """The same program, its names of one letter exchanged for other letters, everywhere alike, in code and in words.

    ``a`` stays what it is, and what stands in quotation marks. The program computes what it did: the letters are permuted, so no two
    names become one.

    Args:
        lines: A program.
        rng: Draws the names.

    Example:
        >>> lines = (Line("int n;", "let n be an integer"), Line("cin >> n;", "read n"))
        >>> [(line.code, line.text) for line in in_other_names(lines, random.Random(0))]
        [('int w;', 'let w be an integer'), ('cin >> w;', 'read w')]
    """
    others = {
        letter: other for letters in _LETTERS for letter, other in zip(letters, rng.sample(letters, len(letters)), strict=True)
    }
    used = {match for line in lines for match in _IN_CODE.findall(line.code)}
    others = {letter: other for letter, other in others.items() if letter in used}

    def renamed(pattern: re.Pattern[str], text: str) -> str:
        return pattern.sub(lambda match: others.get(match[0], match[0]), text)

    return tuple(replace(line, code=renamed(_IN_CODE, line.code), text=renamed(_IN_TEXT, line.text)) for line in lines)
