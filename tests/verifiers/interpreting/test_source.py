"""From the interpreter's lines and columns to characters of the answer."""

from __future__ import annotations

import ast
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.verifiers.interpreting.source import Source, program_in

names = st.sampled_from(["x", "été", "变量", "_"])
strings = st.text(alphabet="aé变😀 \x0c\u2028", max_size=5).map(repr)


@st.composite
def programs(draw):
    """Assignments, over several lines too, with characters of one to four bytes and every kind of line end."""
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines = []
    for _ in range(draw(st.integers(1, 5))):
        value = " + ".join(draw(st.lists(names | strings, min_size=1, max_size=3)))
        lines.append(f"{draw(names)} = {value}" if draw(st.booleans()) else f"{draw(names)} = ({line_end}  {value}{line_end})")
    return draw(st.sampled_from(["", "é\n", "some words\n"])), line_end.join(lines), draw(st.sampled_from(["", "\n", " \n"]))


@given(programs())
@settings(deadline=None)
def test_a_node_s_place_is_the_characters_it_was_parsed_from(parts):
    before, program, after = parts
    source = Source(before + program + after, len(before), len(before) + len(program))
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.expr):
            start, end = source.span((node.lineno, node.end_lineno, node.col_offset, node.end_col_offset))
            piece = source.text[start:end]
            assert ast.dump(ast.parse(f"({piece})", mode="eval").body) == ast.dump(node).replace("Store()", "Load()")


@given(st.text(max_size=60), st.lists(st.none() | st.integers(-5, 70), min_size=4, max_size=4), st.data())
@settings(deadline=None)
def test_whatever_place_is_reported_its_characters_lie_in_the_program(text, at, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    source = Source(text, start, end)
    message = data.draw(st.sampled_from(MESSAGES))
    for low, high in [source.span(at), *source.syntax_spans(at, message), source.code_of_line(at[0] or 1)]:
        assert start <= low <= high <= end


MESSAGES = [
    "invalid syntax",
    "'(' was never closed",
    "unmatched ')'",
    "unterminated string literal (detected at line 1)",
    "unterminated triple-quoted string literal (detected at line 3)",
    "unexpected indent",
    "unindent does not match any outer indentation level",
    "inconsistent use of tabs and spaces in indentation",
    "expected ':'",
    "closing parenthesis ')' does not match opening parenthesis '['",
]


def syntax_findings(program: str) -> list[str]:
    with pytest.raises(SyntaxError) as error:
        ast.parse(program)
    value = error.value
    spans = Source(program, 0, len(program)).syntax_spans(
        (value.lineno, value.end_lineno, value.offset, value.end_offset), value.msg
    )
    return [program[slice(*span)] for span in spans]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("if x\n    y = 1", ["x"]),
        ("y = (1 + 2\nz = 3", ["(1 + 2"]),
        ("y = 1 + 2)\nz = 3", ["y = 1 + 2)"]),
        ("y = f('a)\n", ["'a)"]),
        ("def f():\n    x = 1\n     y = 2", ["     "]),
        ("def f():\n     x = 1\n    y = 2", ["    ", "     "]),
        ("def f():\n    retrun 1", ["retrun"]),
        ("fro x in y:\n    z", ["fro x"]),
        ("x = 1\ny = = 2", ["= ="]),
    ],
)
def test_a_syntax_error_is_shown_where_the_fault_can_be(program, expected):
    findings = syntax_findings(program)
    assert [finding.rstrip() for finding in findings] == [words.rstrip() for words in expected]


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("print(1)\n", "print(1)\n"),
        ("So:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```py\na\n```\nprints\n```\n1\n```", "a\n"),
        ("```python\na\n```\nbetter:\n```python\nb\n```", "b\n"),
        ("```\na\n```", "a\n"),
        ("```python\nno end", "no end"),
        ("```python\r\na\r\n```\r\n", "a\r\n"),
        ("~~~python\na\n~~~", "a\n"),
        ("````python\n'''\n```\n'''\n````", "'''\n```\n'''\n"),
        ("```bash\nls\n```", "```bash\nls\n```"),
        ("```python", ""),
    ],
)
def test_the_program_of_an_answer_is_its_last_block_in_python(text, program):
    start, end = program_in(text)
    assert text[start:end] == program


@given(st.text(alphabet="`~py \n\rthonx", max_size=80))
def test_a_program_is_always_a_part_of_the_answer(text):
    start, end = program_in(text)
    assert 0 <= start <= end <= len(text)


def test_lines_end_where_python_ends_them():
    program = "a = '\x0c\x0b\u2028'\nb = 1\rc = 2\r\nd = 3"
    source = Source(program, 0, len(program))
    lines = [program[slice(*source.line(number))] for number in (1, 2, 3, 4)]
    assert lines == re.split(r"\r\n|\r|\n", program)
    assert len(ast.parse(program).body) == 4
