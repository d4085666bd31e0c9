"""Rows of files: what is sound is read as it stands, what is corrupt is told with its place."""

import csv
import gzip
import json
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.tasks.reading.files import delimited_rows, json_rows, text_rows
from lit_symbolic.tasks.reading.rows import accept

OBJECTS = [{"name": "één", "smiles": "C/C=C\\C", "count": 3}, {"name": "zwei\tdrei", "smiles": "O", "count": None}]


def fields(found):
    return [dict(row.fields) for row in found]


def places(found):
    return [row.place for row in found]


# ---------------------------------------------------------------- json


def test_json_lines_and_a_json_array_give_the_same_objects(tmp_path):
    lines, array = tmp_path / "a.jsonl", tmp_path / "a.json"
    lines.write_text("\n".join(["", *map(json.dumps, OBJECTS), ""]), encoding="utf-8")
    array.write_text(json.dumps(OBJECTS, indent=2, ensure_ascii=False), encoding="utf-8")
    assert fields(json_rows(lines)) == fields(json_rows(array)) == OBJECTS
    assert places(json_rows(lines)) == [f"{lines}:2", f"{lines}:3"]
    assert places(json_rows(array)) == [f"{array}[0]", f"{array}[1]"]


def test_a_bad_line_of_json_is_a_fault_and_the_others_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": \n[1]\n' + "[" * 100_000 + '\n{"a": 2}\n')
    found = list(json_rows(path))
    assert [row.fields.get("a") for row in found if not row.fault] == [1, 2]
    assert [row.place for row in found if row.fault] == [f"{path}:{line}" for line in (2, 3, 4)]
    assert "not JSON" in found[1].fault
    assert "expected an object, got [1]" in found[2].fault


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('[{"a": 1}, {"a":', 1),
        ('\n \n[{"a": 1},\n{"a" 2}]', 4),
        ('\n[{"a": 1}\n{"a": 2}]', 3),
        ("[", 1),
        ("\n[[1],", 2),
        ("[{},\n]", 2),
        ("[{}]\n[]", 2),
        ('[{},\n{"a": ' + "[" * 100_000, 2),
        ("[{},\n" + "9" * 5_000 + "]", 2),
    ],
)
def test_a_broken_array_is_an_error_that_names_the_file_and_its_line(tmp_path, content, line):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"a\.json:{line}: not JSON"):
        list(json_rows(path))


def test_a_corrupt_row_of_an_array_is_told_with_its_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('\n[\n  {"a": "1"},\n  {\n    "b": "2"\n  }, 3\n]')
    found = accept(json_rows(path), lambda row: row.text("a"), path, max_corrupt=0.9)
    assert found.items == ["1"]
    assert [told.split(": ")[0] for told in found.corrupt] == [f"{path}[1] (line 4)", f"{path}[2] (line 6)"]


@given(
    st.recursive(
        st.none() | st.floats(allow_nan=False) | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
    )
)
@settings(max_examples=60, deadline=None)
def test_an_array_is_read_as_json_reads_it(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "a.json"
    array = [{"value": value}] * 3
    for indent in (None, 1):
        path.write_text(f" {json.dumps(array, indent=indent)} \n")
        assert fields(json_rows(path)) == array
    path.write_text(" [ ] ")
    assert fields(json_rows(path)) == []


# ---------------------------------------------------------------- delimited


def test_quoted_fields_hold_delimiters_and_quotation_marks(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('name,text\r\nx,"a, ""b"" c"\r\n"y",d\r\n', newline="")
    assert fields(delimited_rows(path)) == [{"name": "x", "text": 'a, "b" c'}, {"name": "y", "text": "d"}]


def test_a_field_with_a_line_break_is_a_fault_where_it_begins_and_the_other_rows_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('name,text\nx,1\ny,"a\nb"\nz,3\n')
    found = list(delimited_rows(path))
    assert fields(row for row in found if not row.fault) == [{"name": "x", "text": "1"}, {"name": "z", "text": "3"}]
    assert [row.place for row in found if row.fault] == [f"{path}:3", f"{path}:4"]
    assert "without its counterpart in this line; fields with line breaks are read from JSON lines alone" in found[1].fault


@pytest.mark.parametrize("column", [0, 1, 2])
def test_one_opening_quotation_mark_too_many_costs_its_own_row_alone(tmp_path, column):
    path = tmp_path / "a.csv"
    table = [[f"a{k}", f"b{k}", f"c{k}"] for k in range(1, 1001)]
    table[499][column] = '"' + table[499][column]
    path.write_text("".join(",".join(row) + "\n" for row in [["a", "b", "c"], *table]))
    accepted = accept(delimited_rows(path), lambda row: row.text("a"), path)
    assert accepted.items == [f"a{k}" for k in range(1, 1001) if k != 500]
    assert (accepted.total, len(accepted.corrupt)) == (1000, 1)
    assert accepted.corrupt[0].startswith(f"{path}:501: a quotation mark")


def test_a_header_that_cannot_be_read_is_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,"b\n1,2\n')
    with pytest.raises(ValueError, match=r"a\.csv:1: the header cannot be read: a quotation mark"):
        list(delimited_rows(path))


def test_a_quotation_mark_may_be_a_character_like_others(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('name\ttext\nx\t"open\ny\t5\' "end"\n')
    assert [row.fields["text"] for row in delimited_rows(path, "\t", quoted=False)] == ['"open', '5\' "end"']


def test_a_row_with_other_than_the_headers_fields_is_a_fault_with_its_line(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("a\tb\n1\t2\n\n3\n4\t5\t6\n7\t8\n")
    found = list(delimited_rows(path, "\t"))
    assert fields(row for row in found if not row.fault) == [{"a": "1", "b": "2"}, {"a": "7", "b": "8"}]
    assert [(row.place, row.fault) for row in found if row.fault] == [
        (f"{path}:4", "1 fields where the header has 2"),
        (f"{path}:5", "3 fields where the header has 2"),
    ]


def test_a_field_beyond_all_measure_is_a_fault(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"a,b\n1,{'x' * 200_000}\n3,4\n")
    found = list(delimited_rows(path))
    assert "field larger than field limit" in found[0].fault
    assert fields(found[1:]) == [{"a": "3", "b": "4"}]


def test_a_missing_column_is_named_with_the_header_that_is_there(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"a\.csv:1: expected a header with the columns c, got \['a', 'b'\]"):
        list(delimited_rows(path, columns=["a", "c"]))


cells = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r\n") | st.sampled_from('",'))
tables = st.lists(st.lists(cells, min_size=2, max_size=2))


def write_csv(path, table, quoting=csv.QUOTE_MINIMAL):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n", quoting=quoting).writerows([["a", "b"], *table])


@given(tables)
def test_what_csv_writes_is_read_back(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    write_csv(path, table)
    assert [list(row.fields.values()) for row in delimited_rows(path)] == table


@given(tables.filter(bool), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.data())
def test_a_quotation_mark_too_many_anywhere_loses_its_own_row_at_most_and_that_is_counted(tmp_path_factory, table, quoting, data):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    write_csv(path, table, quoting)
    header, *lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    at = data.draw(st.integers(0, len(lines) - 1), "row")
    where = data.draw(st.integers(0, len(lines[at])), "character")
    lines[at] = f'{lines[at][:where]}"{lines[at][where:]}'
    path.write_text("\n".join([header, *lines, ""]), encoding="utf-8", newline="")
    found = list(delimited_rows(path))
    assert [list(row.fields.values()) for row in found if not row.fault] == [*table[:at], *table[at + 1 :]]
    assert [row.place for row in found if row.fault] == [f"{path}:{at + 2}"]


# ---------------------------------------------------------------- any file


def test_lines_are_read_without_blank_ones_and_keep_their_number(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n  \n two \n")
    assert [(row.place, row.text("text")) for row in text_rows(path)] == [(f"{path}:1", "one"), (f"{path}:4", " two ")]


def test_packed_files_are_unpacked(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, OBJECTS)).encode()))
    assert fields(json_rows(path)) == OBJECTS


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (partial(delimited_rows, delimiter="\t"), b"a\tb\n1\tcaf\xe9\n2\tok\n"),
        (text_rows, b"caf\xe9\nok\n"),
        (json_rows, b'{"a": "caf\xe9"}\n{"a": "ok"}\n'),
        (json_rows, b'[{"a": "caf\xe9"},\n{"a": "ok"}]\n'),
    ],
)
def test_what_is_not_utf_8_is_a_fault_and_stops_nothing(tmp_path, read, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    bad, sound = read(path)
    assert bad.fault == "not UTF-8"
    assert not sound.fault
    assert "ok" in sound.fields.values()


@pytest.mark.parametrize("read", [text_rows, json_rows, delimited_rows])
def test_a_packed_file_that_cannot_be_unpacked_is_an_error_that_names_it(tmp_path, read):
    path = tmp_path / "a.gz"
    packed = gzip.compress("\n".join(json.dumps({"a": str(n) * n}) for n in range(300)).encode())
    damaged = bytearray(packed)
    damaged[len(packed) // 2 :] = b"\0\xff" * (len(packed) // 4)
    for content in (packed[:-20], bytes(damaged), b"no gzip"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.gz cannot be unpacked: "):
            list(read(path))


@pytest.mark.parametrize("read", [text_rows, json_rows, delimited_rows])
def test_an_empty_file_gives_no_rows_and_accepting_them_says_so(tmp_path, read):
    path = tmp_path / "empty"
    path.write_text("")
    assert list(read(path)) == []
    with pytest.raises(ValueError, match="empty holds no rows"):
        accept(read(path), lambda row: row, path)


@pytest.mark.parametrize("read", [text_rows, json_rows, delimited_rows])
def test_a_missing_file_is_an_error(tmp_path, read):
    with pytest.raises(FileNotFoundError, match="missing"):
        list(read(tmp_path / "missing"))
