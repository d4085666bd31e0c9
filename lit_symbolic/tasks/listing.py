"""Programs as lines with their pseudo-code, and the two ways in which an answer may show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
