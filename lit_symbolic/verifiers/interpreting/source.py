"""Places in the source text of a Python program: from the interpreter's lines and columns to characters of the answer."""

from __future__ import annotations

import difflib
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[int, int]

_LINE_END = re.compile(r"\r\n|\r|\n")
_FENCE = re.compile(r"[ \t]*(```+|~~~+)[ \t]*([A-Za-z0-9+_.-]*)[ \t]*\r?")
_HEAD = re.compile(r"(?:async|case|class|def|elif|else|except|finally|for|if|match|try|while|with)\b")
_LEADING = (
    "return",
    "import",
    "from",
    "raise",
    "assert",
    "global",
    "nonlocal",
    "yield",
    "while",
    "class",
    "with",
    "else",
    "elif",
)
_PYTHON = ("python", "py", "python3", "py3")


def program_in(text: str) -> Span:
    """The characters of an answer that are its program: its last fenced block in Python, else all of it.

    A block is Python's if its fence says so; if no block does, the last one that names no language counts. A block that is not closed
    goes to the end.

    Example:
        >>> text = "Let me see:\\n```python\\nprint(1)\\n```\\nIt prints:\\n```\\n1\\n```"
        >>> text[slice(*program_in(text))]
        'print(1)\\n'
        >>> program_in("print(1)")
        (0, 8)
    """
    blocks: dict[str, Span] = {}
    opened: tuple[str, str, int] | None = None
    start = 0
    for line in text.split("\n"):
        match = _FENCE.fullmatch(line) if "```" in line or "~~~" in line else None
        end = start + len(line) + 1
        if match:
            fence, language = match.groups()
            if opened is None:
                opened = fence, "python" if language.lower() in _PYTHON else language, min(end, len(text))
            elif fence.startswith(opened[0]) and not language:
                blocks[opened[1]] = opened[2], start
                opened = None
        start = end
    if opened is not None:
        blocks[opened[1]] = opened[2], len(text)
    return blocks.get("python") or blocks.get("") or (0, len(text))


@dataclass(frozen=True)
class Source:
    """A program as a part of an answer.

    Args:
        text: The answer.
        start: Where the program begins.
        end: Where it ends.
    """

    text: str
    start: int
    end: int

    def __post_init__(self) -> None:
        ends = [match.end() for match in _LINE_END.finditer(self.text, self.start, self.end)]
        # Python's lines: str.splitlines() would also break at form feeds and the like.
        object.__setattr__(self, "_starts", [self.start, *ends])

    @property
    def program(self) -> str:
        """The program."""
        return self.text[self.start : self.end]

    def line(self, number: int) -> Span:
        """Characters of a line, counted from 1, without its end; the last line's if there are not so many."""
        starts: Sequence[int] = self._starts  # type: ignore[attr-defined]
        number = min(max(number, 1), len(starts))
        start = starts[number - 1]
        end = starts[number] if number < len(starts) else self.end
        return start, start + len(self.text[start:end].rstrip("\r\n"))

    def code_of_line(self, number: int) -> Span:
        """As :meth:`line`, without the blanks around it."""
        start, end = self.line(number)
        line = self.text[start:end]
        return start + len(line) - len(line.lstrip()), max(start + len(line.rstrip()), start + len(line) - len(line.lstrip()))

    def line_at(self, place: int) -> int:
        """The number of the line of a character."""
        starts: Sequence[int] = self._starts  # type: ignore[attr-defined]
        return max(1, sum(start <= place for start in starts))

    def end_of_code(self) -> int:
        """Behind the last character that is not blank."""
        return self.start + len(self.program.rstrip())

    def span(self, at: Sequence[int | None]) -> Span:
        """Characters of ``(line, last line, column, last column)`` with lines from 1 and columns in bytes from 0.

        Where columns are missing, whole lines.

        Example:
            >>> source = Source("é = x", 0, 5)
            >>> source.span((1, 1, 5, 6))
            (4, 5)
        """
        first, last, column, last_column = at
        if first is None:
            return self.end_of_code(), self.end_of_code()
        last = max(first, last or first)
        if column is None or last_column is None:
            return self.code_of_line(first)[0], self.code_of_line(last)[1]
        start = self._character(first, column)
        return start, max(start, self._character(last, last_column))

    def syntax_spans(self, at: Sequence[int | None] | None, message: str) -> list[Span]:
        """The characters to show for a syntax error, given as the interpreter does: columns in characters from 1.

        The interpreter names the place where it could not go on. What is wrong may stand before it:

        - a bracket without its other one: the part of the line in which that can be missing;
        - a string that does not end: from the line's first quote to the line's end;
        - indentation: the blanks before the line, and those before the block, or the line, that may be at fault instead;
        - a line that ends in a colon and begins with no keyword: from its begin; one that begins with nearly a keyword: that word;
        - anything else: from the token before the place.
        """
        first, last, column, last_column = at or (None,) * 4
        if first is None:
            return [(self.end_of_code(), self.end_of_code())]
        line, code = self.line(first), self.code_of_line(first)
        start = min(line[0] + max((column or 1) - 1, 0), line[1])
        end = start
        if last_column and last_column > 0:
            last_line = self.line(max(first, last or first))
            end = max(start, min(last_line[0] + last_column - 1, last_line[1]))
        if "indent" in message and "expected an indented" not in message:
            above = None
            if "unindent" in message:
                above = self._block_above(first)
            elif "tabs" in message and first > 1:
                above = self.line(first - 1)[0], self.code_of_line(first - 1)[0]
            return [(line[0], code[0]), *([above] if above else [])]
        if "was never closed" in message:
            return [(start, max(code[1], start))]
        if "unterminated string" in message or "unterminated f-string" in message:
            quote = re.search("[\"']", self.text[line[0] : line[1]])
            return [(min(start, line[0] + quote.start()) if quote else start, line[1])]
        if message.startswith("unmatched") or "does not match opening" in message:
            return [(min(code[0], start), max(end, min(start + 1, line[1])))]
        words = self.text[slice(*code)]
        if words.endswith(":") and not _HEAD.match(words):
            return [(min(code[0], start), max(end, start))]
        word = re.match(r"[a-z]{0,20}", words)
        if word and not keyword.iskeyword(word.group()) and difflib.get_close_matches(word.group(), _LEADING, 1, cutoff=0.75):
            return [(code[0], code[0] + word.end())]
        return [(self._before(start), max(end, start))]

    def _block_above(self, number: int) -> Span | None:
        """The indentation of the lines above that are deeper than this one: of the first of the least deep ones."""
        depth = self.code_of_line(number)[0] - self.line(number)[0]
        found: tuple[int, Span] | None = None
        for above in range(number - 1, 0, -1):
            start, (code, end) = self.line(above)[0], self.code_of_line(above)
            if code == end:
                continue
            if code - start <= depth:
                break
            if found is None or code - start <= found[0]:
                found = code - start, (start, code)
        return found and found[1]

    def _before(self, place: int) -> int:
        """Where the token before a place begins, on the same line; the place if there is none."""
        line_start = self.line(self.line_at(place))[0]
        match = re.search(r"(\w+|[^\w\s])\s*$", self.text[max(line_start, place - 200) : place])
        return max(line_start, place - 200) + match.start() if match else place

    def _character(self, line: int, column: int) -> int:
        start, end = self.line(line)
        text = self.text[start:end]
        if text.isascii():
            return min(start + max(column, 0), end)
        return start + len(text.encode("utf-8", "replace")[: max(column, 0)].decode("utf-8", "ignore"))
