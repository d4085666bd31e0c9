"""When a value that a program gave is the one that was expected."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.verifiers.interpreting.harness import Encoder
from lit_symbolic.verifiers.interpreting.values import Expected, Opaque, decode, numbers_of, printed_result

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.fractions()
    | st.decimals(allow_nan=False),
    lambda parts: st.lists(parts) | st.tuples(parts, parts) | st.dictionaries(st.text() | st.integers(), parts),
    max_leaves=20,
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["int", "list", "dict", "decimal", "0x1"]),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
    max_leaves=15,
)


@given(plain)
@settings(deadline=None)
def test_a_value_comes_out_of_its_report_as_it_went_in(value):
    decoded = decode(Encoder().encode(value))
    assert repr(decoded) == repr(value)


@given(json_values, st.sampled_from([3, 0.5, "x", [1], {"a": 1}, None, True, 1j]))
@settings(deadline=None)
def test_whatever_stands_in_a_report_only_a_value_error_comes_of_it(report, expected):
    try:
        value = decode(report)
    except ValueError:
        return
    assert Expected(expected).agrees(value) in (True, False)


@pytest.mark.parametrize(
    "report", [["set", [["list", []]]], ["fraction", ["0x1", "0x0"]], ["decimal", "sNaN"], ["decimal", "1e9999999"], ["int", "-"]]
)
def test_reports_that_no_honest_harness_writes_are_refused_or_equal_to_nothing(report):
    try:
        value = decode(report)
    except ValueError:
        return
    assert not Expected(1).agrees(value)
    assert not Expected("1").agrees(value)


def test_a_deeply_nested_report_is_refused():
    report: list[object] = ["int", "0x1"]
    for _ in range(100_000):
        report = ["list", [report]]
    with pytest.raises(ValueError, match="not a report"):
        decode(report)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from([0.0, 1e-6, 1e-3, 10.0]), st.sampled_from([0.0, 1e-9, 0.5]))
def test_numbers_agree_within_the_larger_of_the_tolerances(expected, result, tolerance, relative):
    agrees = Expected(expected, tolerance, relative).agrees(result)
    difference = abs(Fraction(expected) - Fraction(result))
    assert agrees == (difference <= tolerance or difference <= Fraction(relative) * abs(Fraction(expected)))
    assert Expected(expected, 0.0, 0.0).agrees(expected)


@pytest.mark.parametrize(
    ("expected", "result"),
    [
        (42, 42.0005),
        (42.0, "42"),
        (1234.5, " $1,234.50 "),
        (0.75, "3/4"),
        (0.75, Fraction(3, 4)),
        (Fraction(1, 3), 0.3333),
        (Decimal("2.50"), 2.5),
        (25, "25%"),
        (0.25, "25 %"),
        (-3, "-3."),
        (2, complex(2, 1e-9)),
        (1 + 1j, complex(1, 1)),
        (10**400, 10**400),
        (1e300, 10**300),
        (math.inf, math.inf),
        (math.sqrt(2), Opaque("sqrt(2)", 1.4142135623730951)),
        ("42", 42),
        ("Blue whale", "blue  WHALE\n"),
        ("x**2", Opaque("x**2")),
        ("yes", True),
        (False, "No"),
        (None, None),
        ([1, 2], (1.0, 2)),
        ((1, 2), "[1, 2]"),
        ({1, 2}, [2, 1]),
        (["a", "b"], "a, b"),
        ({"a": 1}, {"a": 1.0}),
    ],
)
def test_results_that_agree(expected, result):
    assert Expected(expected).agrees(result)


@pytest.mark.parametrize(
    ("expected", "result"),
    [
        (42, 42.01),
        (1, True),
        (True, 1),
        (0, None),
        (0, ""),
        (42, "42 dollars"),
        (0.25, 25),
        (1, math.nan),
        (math.nan, math.nan),
        (1, math.inf),
        (10**400, 10**401),
        (10**400, 1e300),
        (2, complex(2, 1)),
        ("blue", "red"),
        ("blue", 3),
        ([1, 2], [2, 1]),
        ([1, 2], [1, 2, 2]),
        ([1, [2]], "[1, [2]]"),
        ({1, 2}, [1, 1, 2]),
        ({"a": 1}, {"b": 1}),
        (3, [3]),
        (None, 0),
        (1, Opaque("1")),
        (1, Decimal("NaN")),
    ],
)
def test_results_that_do_not_agree(expected, result):
    assert not Expected(expected).agrees(result)


def test_order_counts_unless_the_problem_says_otherwise():
    assert Expected([1, 2, 2], ordered=False).agrees([2, 1, 2])
    assert not Expected([1, 2, 2], ordered=False).agrees([2, 1, 1])


@given(st.text(alphabet="0123456789.,+-/%eE$ \tx", max_size=12))
def test_a_text_is_a_number_only_if_python_can_read_what_is_left_without_signs_of_money(text):
    for number in numbers_of(text):
        plain_text = text.strip().rstrip("%").strip("$ \t").replace(",", "")
        numerator, _, denominator = plain_text.partition("/")
        value = Fraction(numerator.strip()) / int(denominator or 1)
        assert number in ((value, value / 100) if "%" in text else (value,))


@pytest.mark.parametrize("text", ["9" * 100_000, "1e999999999", "1/0", "0x10", "--1", ".", "%", "١٢", "1,2", "", "e5"])
def test_what_is_no_number_is_none(text):
    assert numbers_of(text) == ()


@pytest.mark.parametrize(
    ("output", "expected", "result"),
    [
        ("1\n2\n\n", 2, "2"),
        ("The answer is 42.\n", 42, "42"),
        ("It costs $1,234.50", 1234.5, "1,234.50"),
        ("the answer is blue", "blue", "the answer is blue"),
        ("a\nb\n", "a\nb", "a\nb\n"),
        ("none at all", 3, "none at all"),
        ("\n \n", 3, ""),
    ],
)
def test_the_result_of_what_was_printed_is_its_last_line_or_number(output, expected, result):
    assert printed_result(output, expected) == result
