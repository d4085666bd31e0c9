"""Drawn C++ programs, executed by Python: a reference that shares nothing with g++ and knows no bounds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

LARGEST_INT = 2**31 - 1


def outputs(code: str, given: str, most_steps: int = 100_000) -> str:
    """What a program of the grammar writes; a number that an ``int`` cannot hold is an AssertionError."""
    words = given.split()
    written: list[str] = []
    steps = 0

    def kept(value: int) -> int:
        nonlocal steps
        steps += 1
        assert abs(value) <= LARGEST_INT, f"{value} overflows"
        assert steps < most_steps, "it does not end"
        return value

    tools: dict[str, Any] = {
        "kept": kept,
        "read": lambda: int(words.pop(0)),
        "quotient": lambda a, b: kept(abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)),
        "rest": lambda a, b: a - b * tools["quotient"](a, b),
        "write": lambda *values: written.append(" ".join(map(str, values))),
    }
    exec(_in_python(code), tools)
    assert not words, "it did not read all its input"
    return "".join(f"{line}\n" for line in written)


def _in_python(code: str) -> str:
    lines = ["def main():", " pass"]
    depth = 1
    for line in map(str.strip, code.split("\n")):
        if line == "int main() {":
            continue
        depth -= line.startswith("}")
        said = next((make(match) for form, make in FORMS if (match := re.fullmatch(form, line))), None)
        assert said is not None, f"no statement of the grammar: {line}"
        lines += [" " * depth + part for part in said.split("; ")]
        if line.endswith("{"):
            depth += 1
            lines.append(" " * depth + "pass")
    assert depth == 0
    return "\n".join([*lines, "main()"])


def _expression(code: str) -> str:
    operand = r"([\w\[\]]+)"
    return re.sub(rf"{operand} ([/%]) {operand}", lambda m: f"{'quotient' if m[2] == '/' else 'rest'}({m[1]}, {m[3]})", code)


FORMS: list[tuple[str, Callable[[re.Match[str]], str]]] = [
    (r"int (\w+)\[(\d+)\];", lambda m: f"{m[1]} = [0] * {m[2]}"),
    (r"int \w+(?:, \w+)*;", lambda m: "pass"),
    (r"cin >> (.+);", lambda m: "; ".join(f"{name} = read()" for name in m[1].split(" >> "))),
    (r"(?:int )?(\w+) = (.+);", lambda m: f"{m[1]} = kept({_expression(m[2])})"),
    (r"(\w+) /= (\d+);", lambda m: f"{m[1]} = quotient({m[1]}, {m[2]})"),
    (r"(\w+) ([-+*])= (.+);", lambda m: f"{m[1]} = kept({m[1]} {m[2]} ({_expression(m[3])}))"),
    (r"(\w+)\+\+;", lambda m: f"{m[1]} = kept({m[1]} + 1)"),
    (r"cout << (.+) << endl;", lambda m: f"write({', '.join(m[1].split(' << ' + chr(34) + ' ' + chr(34) + ' << '))})"),
    (r"if \((.+)\) \{", lambda m: f"if {_expression(m[1])}:"),
    (r"\} else \{", lambda m: "else:"),
    (r"while \((\w+ > 0)\) \{", lambda m: f"while {m[1]}:"),
    (r"for \(int i = 0; i < (\w+); i\+\+\) \{", lambda m: f"for i in range({m[1]}):"),
    (r"for \(int i = 1; i <= (\w+); i\+\+\) \{", lambda m: f"for i in range(1, {m[1]} + 1):"),
    (r"return 0;", lambda m: "return"),
    (r"\}", lambda m: "pass"),
]
