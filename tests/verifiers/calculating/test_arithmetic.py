import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.verifiers.calculating.arithmetic import (
    MAX_DEPTH,
    MAX_DIGITS,
    ZeroDivisor,
    apply,
    evaluate,
    read_expression,
    read_step,
    whole,
    write_step,
)

numbers = st.builds(lambda n, d: whole(Fraction(n, d)), st.integers(-999, 999), st.integers(1, 99))
operators = st.sampled_from("+-*/")
blanks = st.sampled_from(["", " ", "  ", "\t", "\r"])


def step(text):
    return read_step(text, 0, len(text))


def expression(text):
    return read_expression(text, 0, len(text))


@given(numbers, operators, numbers, numbers, st.lists(numbers, max_size=5))
def test_a_written_step_is_read_back_with_the_spans_of_its_parts(a, operator, b, result, left):
    text = write_step(a, operator, b, result, left)
    reading = step(text)
    assert reading.fault is None
    assert (reading.a.value, reading.operator, reading.b.value, reading.result.value) == (a, operator, b, result)
    assert [number.value for number in reading.left] == left
    for literal in (reading.a, reading.b, reading.result, *reading.left):
        assert Fraction(text[literal.start : literal.end]) == literal.value
    assert text[reading.operator_start] == operator
    assert reading.close == len(text) - 1


@given(st.integers(0, 99), operators, st.integers(0, 99), st.integers(0, 99), st.data())
def test_blanks_may_be_missing_or_doubled_where_that_is_unambiguous(a, operator, b, result, data):
    gap = lambda: data.draw(blanks)  # noqa: E731
    around = " " if operator == "/" else ""  # a glued slash makes a fraction
    text = (
        f"{a}{around}{gap()}{operator}{around}{gap()}{b}{gap()}={gap()}{result}{gap()}(left:{gap()}{a} {gap()}{b}{gap()}){gap()}"
    )
    reading = step(text)
    assert reading.fault is None
    assert (reading.a.value, reading.operator, reading.b.value, reading.result.value) == (a, operator, b, result)
    assert [number.value for number in reading.left] == [a, b]


def test_a_glued_slash_is_a_fraction_and_a_spaced_one_a_division():
    assert step("8/3 * 3 = 8 (left: 8)").a.value == Fraction(8, 3)
    for text in ("8 / 3 = 8/3 (left: 8/3)", "8 /3 = 8/3 (left: 8/3)", "8/ 3 = 8/3 (left: 8/3)"):
        reading = step(text)
        assert (reading.a.value, reading.operator, reading.b.value, reading.fault) == (8, "/", 3, None)
    assert step("8/3 = 8/3 (left: 8/3)").fault == 4


def test_a_sign_belongs_to_a_number_only_where_a_number_must_begin():
    for text, a, b in (("6-4=2(left: 2)", 6, 4), ("6 -4 = 2 (left: 2)", 6, 4), ("6--4 = 10 (left: 10)", 6, -4)):
        reading = step(text)
        assert (reading.a.value, reading.operator, reading.b.value, reading.fault) == (a, "-", b, None)
    assert [n.value for n in step("1 - 4 = -3 (left: 2 -3)").left] == [2, -3]
    assert step("1 + 2 = 3 (left: 2-3)").fault == 18


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", 0),
        ("x", 0),
        ("4 ", 2),
        ("4 % 8 = 12 (left: 12)", 2),
        ("4 + ", 4),
        ("4 + y", 4),
        ("4 + 8 12", 6),
        ("4 + 8 = z", 8),
        ("4 + 8 = 12", 10),
        ("4 + 8 = 12 [left: 12]", 11),
        ("4 + 8 = 12 (left: 12", 20),
        ("4 + 8 = 12 (left: 12, 6)", 20),
        ("4 + 8 = 12 (left: 12) so", 22),
        ("4 + 1/0 = 12 (left: 12)", 4),
        ("٤ + 8 = 12 (left: 12)", 0),
        ("4 + 8 = " + "1" * (MAX_DIGITS + 1), 8),
        ("4abc", 1),
        ("- 4 + 8", 0),
    ],
)
def test_a_step_is_faulted_at_the_first_character_that_cannot_be_read(text, fault):
    reading = step(text)
    assert reading.fault == fault
    assert reading.expected


def test_reading_stays_within_its_bounds():
    text = "9 1 + 2 = 3 (left: 3) 9"
    reading = read_step(text, 2, 21)
    assert (reading.a.value, reading.fault) == (1, None)
    assert read_expression("99*(3+5)99", 1, 8).literals[0] == (9, 1, 2)
    assert evaluate(read_expression("99*(3+5)99", 1, 8).tree) == 72


naturals = st.integers(0, 99)
expressions = st.recursive(
    naturals.map(str),
    lambda inner: st.builds(lambda a, op, b, pad: f"({a}{pad}{op}{pad}{b})", inner, operators, inner, st.sampled_from(["", " "])),
    max_leaves=8,
)


@given(st.lists(expressions, min_size=1, max_size=4), st.data())
def test_an_expression_has_the_value_that_python_gives_it_over_fractions(parts, data):
    text = parts[0] + "".join(data.draw(operators) + part for part in parts[1:])
    reading = expression(text)
    assert reading.fault is None
    assert [n.value for n in reading.literals] == [int(word) for word in "".join(c if c.isdigit() else " " for c in text).split()]
    python = "".join(
        f"Fraction({text[n.start : n.end]})" + _behind(text, reading.literals, i) for i, n in enumerate(reading.literals)
    )
    python = text[: reading.literals[0].start] + python
    try:
        expected = eval(python, {"Fraction": Fraction})  # the test's own text
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisor):
            evaluate(reading.tree)
    else:
        assert evaluate(reading.tree) == expected


def _behind(text, literals, i):
    return text[literals[i].end : literals[i + 1].start if i + 1 < len(literals) else len(text)]


def test_a_division_by_zero_is_located_at_its_divisor():
    text = "8/(3-(1+2))"
    with pytest.raises(ZeroDivisor) as error:
        evaluate(expression(text).tree)
    assert text[error.value.start : error.value.end] == "3-(1+2"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("9**9", 2),
        ("__import__('os')", 0),
        ("(1+2", 4),
        ("1+2)", 3),
        ("1+", 2),
        ("-1+2", 0),
        ("1 2", 2),
        ("1+2=", 4),
        ("1+2=3=3", 5),
        ("1+2=x", 4),
        ("()", 1),
        ("1" * (MAX_DIGITS + 1), 0),
        ("(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1), MAX_DEPTH),
    ],
)
def test_an_expression_is_faulted_at_the_first_character_that_cannot_be_read(text, fault):
    assert expression(text).fault == fault


def test_only_parentheses_recurse_and_they_are_bounded():
    depth = "(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH
    assert evaluate(expression(depth).tree) == 1
    limit = sys.getrecursionlimit()
    assert expression("1" + "+1" * 10 * limit).fault is None
    assert expression("(" * 10 * limit).fault == MAX_DEPTH


def test_values_are_whole_numbers_wherever_they_can_be():
    assert type(apply("*", Fraction(8, 3), 3)) is int
    assert type(apply("/", 8, 4)) is int
    assert type(apply("-", Fraction(1, 2), Fraction(1, 2))) is int
    assert apply("/", Fraction(1, 3), 8) == Fraction(1, 24)
    assert apply("/", 5, 0) is None
