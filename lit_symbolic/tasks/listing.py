"""Programs as lines with their pseudo-code, and the two ways in which an answer may show them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Layout = Literal["plain", "commented"]
"""``plain``: code alone; ``commented``: behind a ``//`` comment with its pseudo-code, on a line of its own, each line that has one."""

INDENT = "  "


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a program.

    Args:
        code: In C++, without its indentation.
        text: What it does, in words; empty for a line that goes without saying, such as a closing brace.
        indent: Depth of its block.
    """

    code: str
    text: str = ""
    indent: int = 0


def pseudocode(lines: Sequence[Line]) -> str:
    """What a program does, line by line; a line without words is shown as its code, as SPoC gives it away.

    Example:
        >>> print(pseudocode([Line("int main() {"), Line("int n;", "create n", 1), Line("}")]))
        int main() {
          create n
        }
    """
    return "\n".join(INDENT * line.indent + (line.text or line.code) for line in lines)


def program(lines: Sequence[Line], layout: Layout = "plain") -> str:
    """The program, as an answer shows it.

    Example:
        >>> print(program([Line("int main() {"), Line("int n;", "create n", 1), Line("}")], "commented"))
        int main() {
          // create n
          int n;
        }
    """
    written = []
    for line in lines:
        if layout == "commented" and line.text:
            # A backslash at its end would make the code below a part of the comment.
            written.append(f"{INDENT * line.indent}// {line.text}".rstrip("\\ "))
        written.append(INDENT * line.indent + line.code)
    return "\n".join(written)


def excerpt(
    lines: Sequence[Line], rng: random.Random, max_lines: int | None = None, max_characters: int | None = None
) -> tuple[Line, ...]:
    """Some lines on end, as many as are drawn and the bounds allow, moved to the left as far as they go.

    Args:
        lines: A program.
        rng: Draws where they begin and how many they are.
        max_lines: Of the excerpt.
        max_characters: Of its pseudo-code and code together; no excerpt begins with a line that alone is longer, unless all are.

    Example:
        >>> lines = (Line("int main() {"), Line("int n;", "create n", 1), Line("}"))
        >>> print(program(excerpt(lines, random.Random(7))))
        int n;
    """
    beginnings = [
        at
        for at, line in enumerate(lines)
        if max_characters is None or len(program([replace(line, indent=0)], "commented")) <= max_characters
    ]
    start = rng.choice(beginnings or range(len(lines)))
    kept = list(lines[start : start + rng.randint(1, min(max_lines or len(lines), len(lines) - start))])
    while len(kept) > 1 and max_characters is not None and len(program(kept, "commented")) > max_characters:
        kept.pop()
    least = min(line.indent for line in kept)
    return tuple(replace(line, indent=line.indent - least) for line in kept)
