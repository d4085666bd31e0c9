"""Rows: objects as text, and what becomes of corrupt ones."""

import json
import logging

import pytest

from lit_symbolic.tasks.reading.rows import Row, accept

# ---------------------------------------------------------------- objects as text

METADATA = {"task": "retrosynthesis", "split": "test", "note": None}


@pytest.mark.parametrize("written", [METADATA, json.dumps(METADATA), str(METADATA), f"  {METADATA}\n"])
def test_an_object_may_be_written_as_such_as_json_or_as_a_python_literal(written):
    assert Row("a:1", {"metadata": written}).mapping("metadata") == METADATA


@pytest.mark.parametrize("found", [{}, {"metadata": None}, {"metadata": " "}])
def test_a_missing_object_is_empty(found):
    assert Row("a:1", found).mapping("metadata") == {}


@pytest.mark.parametrize(
    "written",
    [
        "train",
        "{'split': 'test'",
        "[1]",
        "7",
        "null",
        "{[]: 1}",
        "dict(a=1)",
        "[" * 9_000,
        "-" * 9_000 + "1",
        f"{{'a': '{'x' * 9_999}'}}",
        7,
        ["split"],
    ],
)
def test_what_is_no_object_in_any_form_is_told(written):
    with pytest.raises(ValueError, match="expected an object, or its text in JSON or Python, in the field 'metadata', got"):
        Row("a:1", {"metadata": written}).mapping("metadata")


# ---------------------------------------------------------------- corrupt rows


def numbered(bad, total):
    return [Row(f"f:{k}", {"text": "x" if k <= bad else str(k)}) for k in range(1, total + 1)]


def to_int(row):
    return int(row.text("text"))


def test_a_share_of_corrupt_rows_that_is_allowed_is_told_counted_and_left_out(caplog):
    with caplog.at_level(logging.WARNING, "lit_symbolic.data"):
        accepted = accept(numbered(1, 100), to_int, "f")
    assert (len(accepted.items), accepted.total) == (99, 100)
    assert len(accepted.corrupt) == 1
    assert accepted.corrupt[0].startswith("f:1: invalid literal")
    assert "1 of 100 rows are corrupt and left out" in caplog.text
    assert "f:1" in caplog.text


def test_more_than_that_is_an_error_that_lists_the_first_places():
    with pytest.raises(ValueError, match=r"2 of 100 rows are corrupt, more than max_corrupt = 0\.01") as error:
        accept(numbered(2, 100), to_int, "f")
    assert "f:1" in str(error.value)
    assert "f:2" in str(error.value)
    with pytest.raises(ValueError, match="50 of 100") as error:
        accept(numbered(50, 100), to_int, "f", max_corrupt=0.3)
    assert "f:10:" in str(error.value)
    assert "f:11:" not in str(error.value)
    assert "…" in str(error.value)


def test_where_no_row_is_left_there_is_an_error_whatever_is_allowed():
    with pytest.raises(ValueError, match="3 of 3 rows are corrupt"):
        accept(numbered(3, 3), to_int, "f", max_corrupt=0.99)


def test_faults_of_reading_missing_fields_and_refusals_are_all_corrupt_rows():
    found = [Row("f:1", fault="torn"), Row("f:2", {"b": 1}), Row("f:3", {"text": " "}), Row("f:4", {"text": "7"})]
    accepted = accept(found, lambda row: (row.fields["text"], to_int(row))[1], "f", max_corrupt=0.9)
    assert accepted.items == [7]
    assert accepted.corrupt == ["f:1: torn", "f:2: no field 'text'", "f:3: expected text in the field 'text', got ' '"]


def test_another_error_is_a_bug_and_not_hidden():
    with pytest.raises(ZeroDivisionError):
        accept(numbered(0, 3), lambda row: 1 // 0, "f", max_corrupt=0.99)


@pytest.mark.parametrize("share", [5, 1.0, -0.1, float("nan")])
def test_a_share_of_corrupt_rows_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="max_corrupt is a share from 0 to below 1, got"):
        accept(numbered(50, 53), to_int, "f", max_corrupt=share)


def test_every_corrupt_row_is_told_where_the_rest_is_used_and_ten_where_it_is_not(caplog):
    rows = [Row(f"a.txt:{n}", {"text": "7" if n > 25 else "x"}) for n in range(1, 51)]
    found = accept(rows, to_int, "a.txt", max_corrupt=0.5)
    [warned] = caplog.messages
    assert len(found.corrupt) == 25
    assert all(f"\n  a.txt:{n}: " in warned for n in range(1, 26))
    with pytest.raises(ValueError, match="25 of 50 rows are corrupt") as refused:
        accept(rows, to_int, "a.txt", max_corrupt=0.4)
    assert [f"\n  a.txt:{n}: " in str(refused.value) for n in range(1, 26)] == [True] * 10 + [False] * 15
    assert str(refused.value).endswith("\n  … and 15 more")
