"""Programs that say all there is to say and know no operators: each is drawn from those of its kind.

They teach a model from scratch to write and to copy code, as random play teaches the Game of 24's arithmetic, and leave to feedback
which operator the words mean.
"""

from __future__ import annotations

import random
import re

KINDS = (("+", "-", "*", "/", "%"), ("<", ">", "<=", ">=", "==", "!="), ("+=", "-=", "*="), ("max", "min"))
"""What is drawn in place of each other. ``/=`` stays: a loop may end by it."""

NEIGHBOURS = {
    **{"+": ("-",), "-": ("+",), "*": ("+",), "/": ("%",), "%": ("/",)},  # what divides stays so: a sum may be 0
    **{"<": ("<=", ">"), ">": (">=", "<"), "<=": ("<", ">="), ">=": (">", "<="), "==": ("!=", ">="), "!=": ("==",)},
    **{"+=": ("-=",), "-=": ("+=",), "*=": ("+=",), "max": ("min",), "min": ("max",)},
}
"""What an operator is most likely taken for."""

_OPERATOR = re.compile(r"(?<= )(?:[-+*]=|[<>=!]=|[-+*/%<>])(?= )|\b(?:max|min)(?=\()")
_LOOP = re.compile(r"\s*(?:for|while)\b")
_KIND_OF = {operator: kind for kind in KINDS for operator in kind}


def draw_operators(code: str, kept: float, rng: random.Random) -> str:
    """Draw the operators of a program anew, but for those of lines that begin a loop.

    Args:
        code: A program with spaces around its operators.
        kept: Probability that an operator stays; the others are drawn from all of their kind, themselves among them.
        rng: Source of randomness.

    Example:
        >>> code = "for (int i = 0; i < n; i++) {\\n  s += max(a, i * 2);\\n}"
        >>> print(draw_operators(code, 0.0, random.Random(0)))
        for (int i = 0; i < n; i++) {
          s -= min(a, i * 2);
        }
    """

    def drawn(match: re.Match[str]) -> str:
        return match[0] if rng.random() < kept else rng.choice(_KIND_OF[match[0]])

    return "\n".join(line if _LOOP.match(line) else _OPERATOR.sub(drawn, line) for line in code.split("\n"))


def one_operator_wrong(code: str) -> list[str]:
    """The programs that differ from this one in one operator, taken for a neighbour; those of lines that begin a loop stay.

    Args:
        code: A program with spaces around its operators, that ends on all its inputs: so do these.

    Example:
        >>> one_operator_wrong("x = a + 2;\\ny = max(x, 3);")
        ['x = a - 2;\\ny = max(x, 3);', 'x = a + 2;\\ny = min(x, 3);']
    """
    found, lines = [], code.split("\n")
    for number, line in enumerate(lines):
        for match in () if _LOOP.match(line) else _OPERATOR.finditer(line):
            for other in NEIGHBOURS[match[0]]:
                changed = f"{line[: match.start()]}{other}{line[match.end() :]}"
                found.append("\n".join([*lines[:number], changed, *lines[number + 1 :]]))
    return found
