"""A C++ program as the compiler sees it, and the way back: from its lines and bytes to the characters of an answer."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

Span = tuple[int, int]

_OPENING_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[^\n`]*\n", re.MULTILINE)
_LINE_DIRECTIVE = re.compile(r"(?:#|%:)(?:\s|\\\r?\n|/\*.*?\*/)*(?:l(?:\\\r?\n)*i|[0-9])", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<comment>//(?:[^\n\\]|\\.|\\\n)*|/\*)
    |(?P<raw>(?:u8|[uUL])?R"(?P<delimiter>[^()\\\s"]{0,16})\()
    |(?P<string>(?:u8|[uUL])?"(?:[^"\\\n]|\\.|\\\n)*"?|(?:u8|[uUL])?'(?:[^'\\\n]|\\.|\\\n)*'?)
    |(?P<word>[^\W\d]\w*)
    |(?P<number>\.?\d(?:[eEpP][+-]|'?\w|\.)*)
    |(?P<mark>::|->\*?|<<=?|>>=?|&&|\|\||\+\+|--|[-+*/%^&|=!<>]=|.)""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """A token that is no comment; ``kind`` is ``word``, ``number``, ``string``, ``mark`` or ``directive`` (a whole line)."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Program:
    """What is compiled: the answer, and the code that the problem puts around it.

    Args:
        prefix: Code before the answer, as it stands.
        answer: The answer's code.
        suffix: Code behind it, on lines of its own.

    Example:
        >>> program = Program("int f() {\\n", "return “1”;\\n}", "int main() {}")
        >>> program.text[slice(*program.answer_span)]
        'return “1”;\\n}'
        >>> line, byte_column = 2, 8 + len("“".encode())  # as g++ counts, from 1
        >>> program.text[program.offset(line, byte_column)]
        '1'
    """

    prefix: str
    answer: str
    suffix: str

    @cached_property
    def text(self) -> str:
        """The whole program. A name or macro ``main`` of the answer does not take the place of the suffix's."""
        return self.prefix + self.answer + (f"\n#undef main\n{self.suffix}" if self.suffix else "")

    @cached_property
    def data(self) -> bytes:
        """The text as UTF-8. What UTF-8 cannot hold (a lone surrogate) is passed on as it is: g++ takes it for stray bytes."""
        return self.text.encode("utf-8", "surrogatepass")

    @property
    def answer_span(self) -> Span:
        """The answer's characters in :attr:`text`."""
        return len(self.prefix), len(self.prefix) + len(self.answer)

    @cached_property
    def renumbers_lines(self) -> bool:
        """Whether a ``#line`` of the answer makes the compiler's line numbers say nothing about places."""
        first, last = self.answer_span
        directives = [token for token in self.tokens if token.kind == "directive" and first <= token.start < last]
        return any(_LINE_DIRECTIVE.match(self.text, token.start, token.end) for token in directives)

    @cached_property
    def _lines(self) -> tuple[list[bytes], list[int]]:
        """Lines as bytes, and the character at which each begins."""
        return self.data.split(b"\n"), [0, *accumulate(len(line) + 1 for line in self.text.split("\n"))]

    def offset(self, line: int, byte_column: int) -> int | None:
        """The character at a place that g++ names; None if the program has no such line.

        Args:
            line: From 1.
            byte_column: From 1, in bytes, a tab being one; 0 is the line's begin. Behind the line's end is its end.
        """
        lines, starts = self._lines
        if not 1 <= line <= len(lines):
            return None
        before = lines[line - 1][: max(0, byte_column - 1)]
        return starts[line - 1] + len(before) - sum(byte & 0xC0 == 0x80 for byte in before)

    def line_span(self, offset: int) -> Span:
        """The line that holds a character, without the blanks around it."""
        start = self.text.rfind("\n", 0, offset) + 1
        end = self.text.find("\n", offset)
        line = self.text[start : end if end >= 0 else len(self.text)]
        first = start + len(line) - len(line.lstrip())
        return first, max(first, start + len(line.rstrip()))

    @cached_property
    def tokens(self) -> list[Token]:
        """The program's tokens, in order."""
        return tokenize(self.text)

    @cached_property
    def _token_starts(self) -> list[int]:
        return [token.start for token in self.tokens]

    def token_index(self, offset: int) -> int:
        """Index of the last token that begins at or before a character; -1 if there is none."""
        return bisect_right(self._token_starts, offset) - 1

    def token_end(self, offset: int) -> int:
        """One past the token that holds a character; the next character where none does."""
        index = self.token_index(offset)
        if index >= 0 and self.tokens[index].kind != "directive" and offset < self.tokens[index].end:
            return self.tokens[index].end
        match = re.compile(r"\w+|[^\n]|$").match(self.text, offset)
        return match.end() if match else min(offset + 1, len(self.text))

    def call_span(self, offset: int) -> Span:
        """A call, given its opening parenthesis: from the name to the closing one. Of anything else, the token."""
        index = self.token_index(offset)
        if index < 1 or self.text[self.tokens[index].start : self.tokens[index].end] != "(":
            return offset, self.token_end(offset)
        depth = 0
        for token in self.tokens[index:]:
            depth += {"(": 1, ")": -1}.get(self.text[token.start : token.end], 0)
            if not depth:
                return self.tokens[index - 1].start, token.end
        return self.tokens[index - 1].start, self.token_end(offset)


def tokenize(text: str) -> list[Token]:
    """Cut a program into tokens; never fails, and takes time in proportion to the text.

    Example:
        >>> [text[start:end] for text in ["a<<'x'; // no"] for start, end, kind in tokenize(text)]
        ['a', '<<', "'x'", ';']
    """
    tokens: list[Token] = []
    position, line_start = 0, True
    while position < len(text):
        if text[position].isspace():
            line_start |= text[position] == "\n"
            position += 1
            continue
        if line_start and text.startswith(("#", "%:"), position):
            end = _directive_end(text, position)
            tokens.append(Token(position, end, "directive"))
            position = end
            continue
        match = _TOKEN.match(text, position)
        if match is None:  # no text is left without a match but by a character that "." leaves out
            position += 1
            continue
        kind, end = match.lastgroup or "mark", match.end()
        if match["comment"] is not None:
            if match["comment"] == "/*":
                end = _behind("*/", text, end)
            position = end
            continue
        if match["raw"] is not None:
            end, kind = _behind(f'){match["delimiter"]}"', text, end), "string"
        tokens.append(Token(position, end, kind))
        position, line_start = end, False
    return tokens


def _behind(closing: str, text: str, start: int) -> int:
    found = text.find(closing, start)
    return len(text) if found < 0 else found + len(closing)


def _directive_end(text: str, start: int) -> int:
    """The end of a preprocessor line, with the lines that a backslash joins to it."""
    while True:
        end = text.find("\n", start)
        if end < 0:
            return len(text)
        if text[end - 1 : end] != "\\" and text[end - 2 : end] != "\\\r":
            return end
        start = end + 1


def fenced_code(text: str) -> Span:
    """The code inside the first Markdown fence (unclosed: to the end); the whole text if there is none.

    Example:
        >>> text = "Here it is:\\n```cpp\\nint x;\\n```\\nThat is all."
        >>> text[slice(*fenced_code(text))]
        'int x;\\n'
    """
    opening = _OPENING_FENCE.search(text)
    if opening is None:
        return 0, len(text)
    closing = re.compile(rf"^[ \t]*{re.escape(opening[1])}", re.MULTILINE).search(text, opening.end())
    return opening.end(), closing.start() if closing else len(text)
