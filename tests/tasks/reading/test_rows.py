"""Rows of files and of the hub: what is sound is read as it stands, what is corrupt is told with its place."""

import csv
import gzip
import json
import logging
import sys
from functools import partial

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.tasks.reading.rows import Row, accept, delimited_rows, hub_rows, is_on_hub, json_rows, text_rows

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


# ---------------------------------------------------------------- the hub


@pytest.mark.parametrize(
    "source",
    [
        "owner/name",
        "owner/name@main:config",
        "owner/name-v1.5",
        "owner/name@v1.0",
        "owner/name@v1.0:small",
        "owner/name@refs/convert/parquet",
        "owner/name@refs/convert/parquet:small",
        "zjunlp/Mol-Instructions:Molecule-oriented Instructions",
        "owner.2/n_a.me",
    ],
)
def test_an_id_may_have_dots_a_revision_and_a_configuration(source):
    assert is_on_hub(source)


@pytest.mark.parametrize(
    "source",
    [
        *("../shared/data/x", "data/24.csv", "./a/b", "../a", "./a", "/a/b", "~/a", "a/b/c", "name", "a.csv", "a/", "/a", ""),
        *("data/A.CSV", "data/a.smi", "data/a.tsv.gz", "data/a.parquet", "data/run@2.jsonl", "my data/a", "C:/data/a"),
    ],
)
def test_what_looks_like_a_path_is_one_whether_it_exists_or_not(source):
    assert not is_on_hub(source)


def test_what_exists_is_not_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_on_hub("owner/name-v1.5")
    for name in ("name-v1.5", "x@y"):
        (tmp_path / "owner" / name).mkdir(parents=True)
    for path in ("owner/name-v1.5", "owner/name-v1.5@main", "owner/x@y", tmp_path):
        assert not is_on_hub(path), path


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder in the place of the hub: ``owner/name`` holds two splits of one configuration."""
    folder = tmp_path / "hub/owner/name"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps({"split": split, "k": k}) for k in range(3)))
    load, asked = datasets.load_dataset, []

    def load_dataset(name, config=None, split=None, revision=None):
        asked.append((name, config, split, revision))
        return load(str(tmp_path / "hub" / name), split=split, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_rows_of_the_hub_are_named_by_data_set_split_and_index(hub):
    found = list(hub_rows("owner/name", "test"))
    assert fields(found) == [{"split": "test", "k": k} for k in range(3)]
    assert places(found) == [f"owner/name[test][{k}]" for k in range(3)]


def test_revision_and_configuration_stand_behind_the_name(hub):
    list(hub_rows("owner/name@v1.0:small", "train"))
    list(hub_rows("owner/name@refs/convert/parquet", "train"))
    assert hub == [("owner/name", "small", "train", "v1.0"), ("owner/name", None, "train", "refs/convert/parquet")]


def test_a_split_or_a_data_set_that_is_not_there_is_named(hub):
    with pytest.raises(ValueError, match="owner/name: the split 'dev' cannot be had"):
        list(hub_rows("owner/name", "dev"))
    with pytest.raises(ValueError, match="owner/other: the split 'test' cannot be had"):
        list(hub_rows("owner/other", "test"))


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'lit-symbolic\[hub\]'"):
        list(hub_rows("owner/name", "test"))


def test_a_data_set_that_is_made_by_a_script_says_what_can_be_read_in_its_place(monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")

    def load_dataset(name, config, split, revision):
        raise RuntimeError("Dataset scripts are no longer supported, but found Mol-Instructions.py")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ValueError, match=r"Download its files and give their path.*zjunlp/Mol-Instructions@refs/convert/parquet"):
        list(hub_rows("zjunlp/Mol-Instructions", "retrosynthesis"))


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
