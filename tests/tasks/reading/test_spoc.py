"""SPoC's rows and test cases: what is corrupt is told with its place. What else is read: see the task's own tests."""

import logging

import pytest

from lit_symbolic.tasks.reading import spoc
from lit_symbolic.tasks.reading.rows import Row
from lit_symbolic.tasks.reading.spoc import BAD_TESTS, COLUMNS, NO_TESTS, read_programs, read_spoc, read_testcases

CODE = ["int main() {", "return 0;", "}"]
TESTS = [{"input": "4", "output": "8", "hidden": True}]


def hub_rows_of(problem, **changed):
    return [
        {"text": "", "code": code, "workerid": 0, "probid": problem, "subid": 1, "line": i, "indent": int(i == 1)} | changed
        for i, code in enumerate(CODE)
    ]


def placed(rows):
    return [Row(f"someone/spoc[train][{index}]", fields) for index, fields in enumerate(rows)]


# --- rows of the hub ---


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"line": None}, "expected a whole number in the field 'line', got None"),
        ({"indent": None}, "expected a whole number in the field 'indent', got None"),
        ({"line": 0.5}, "expected a whole number in the field 'line', got 0.5"),
        ({"line": True}, "expected a whole number in the field 'line', got True"),
        ({"line": "one"}, "invalid literal for int"),
        ({"text": 7}, "expected text in the field 'text', got 7"),
        ({"probid": None}, "expected text in the field 'probid', got None"),
        ({"tests": "[{'input': '4'}]"}, "expected a list of objects in the field 'tests', got"),
        ({"tests": {"input": ["4"], "output": ["8"]}}, "expected a list of objects in the field 'tests', got"),
        ({"tests": ["4"]}, "expected objects with input and output in the field 'tests', got '4'"),
        ({"tests": [{"input": None, "output": "8"}]}, "expected text in the input of each of the tests, got None"),
        ({"tests": [{"input": "4"}]}, "no field 'output'"),
    ],
)
def test_a_row_that_cannot_be_read_is_corrupt_and_told_with_its_place(changed, told):
    rows = placed([*hub_rows_of("3C", **changed), *hub_rows_of("1A"), *hub_rows_of("2B", tests=TESTS)])
    with pytest.raises(ValueError, match="3 of 9 rows are corrupt"):
        read_programs(rows, "someone/spoc")
    found = read_programs(rows, "someone/spoc", max_corrupt=0.4)
    assert [program.problem for program in found.items] == ["1A", "2B"]
    assert found.items[1].tests == tuple(TESTS)
    assert len(found.corrupt) == 3
    assert found.corrupt[0].startswith(f"someone/spoc[train][0]: {told}")


def test_whole_numbers_may_be_written_as_such_as_text_or_with_a_point():
    for form in (int, str, float):
        rows = [row | {name: form(row[name]) for name in ("line", "indent")} for row in hub_rows_of("1A")]
        [program] = read_programs(placed(rows), "someone/spoc").items
        assert [line.indent for line in program.lines] == [0, 1, 0]


def test_a_program_without_its_last_line_is_incomplete():
    rows = [row for problem in "AB" for row in hub_rows_of(problem)]
    assert read_programs(placed(rows[:-1]), "someone/spoc").incomplete == 1
    text = [dict(row, code="cout << \"{\" << '{'; // {") if row["line"] == 1 else row for row in hub_rows_of("C")]
    assert read_programs(placed(text), "someone/spoc").incomplete == 0


# --- test cases ---


@pytest.fixture
def folder(tmp_path):
    """Ten programs for ten problems."""
    for name, problems in {"train": "ABCDEF", "eval": "GH", "test": "IJ"}.items():
        path = tmp_path / "train" / "split" / f"spoc-train-{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [row for problem in problems for row in hub_rows_of(problem)]
        path.write_text("\n".join(["\t".join(COLUMNS), *("\t".join(str(row[name]) for name in COLUMNS) for row in rows)]) + "\n")
    for problem in "ABCDEFGHIJ":
        path = public(tmp_path, problem)
        path.parent.mkdir(parents=True)
        path.write_text("4\n###ENDINPUT###\n8\n###ENDOUTPUT###\n" * 2)
    return tmp_path


def public(folder, problem):
    return folder / "testcases" / problem / f"{problem}_testcases_public.txt"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("4\n###ENDINPUT###\n8\n###ENDOUTPUT###\n5\n10\n###ENDOUTPUT###\n", "5: a test case without ###ENDINPUT###"),
        ("4\n###ENDINPUT###\n8\n###ENDOUTPUT###\n5\n", "5: a test case without ###ENDOUTPUT### at its end"),
        ("4\n", "1: a test case without ###ENDOUTPUT### at its end"),
        ("1\n###ENDINPUT###\n2\n" * 2 + "###ENDOUTPUT###\n", "1: a marker in the middle of a test case: another one is lost"),
        (
            "4\n###ENDINPUT###\n8\n###ENDOUTPUT###\n5\n###ENDINPUT###\n10\n###ENDOUTPUT### 6\n###ENDINPUT###\n12\n###ENDOUTPUT###\n",
            "5: a marker in the middle of a test case: another one is lost",
        ),
        ("4\n###ENDINPUT###\n\udcff\n###ENDOUTPUT###\n", "1: a test case that is not UTF-8"),
    ],
)
def test_corrupt_test_cases_leave_out_the_programs_for_their_problem_and_are_told_with_their_line(folder, caplog, content, fault):
    public(folder, "B").write_text(content, encoding="utf-8", errors="surrogateescape")
    public(folder, "C").unlink()
    with pytest.raises(ValueError, match=rf"1 of 10 rows are corrupt(.|\n)*B_testcases_public\.txt:{fault}"):
        read_spoc(folder)
    with caplog.at_level(logging.WARNING, "lit_symbolic.data"):
        found = read_spoc(folder, max_corrupt=0.1)
    assert [program.problem for program in found.splits["train"]] == ["A", "D", "E", "F"]
    assert found.skipped == {BAD_TESTS: 1, NO_TESTS: 1}
    assert found.corrupt == []
    assert found.corrupt_tests == [f"problem B: {public(folder, 'B')}:{fault}"]
    assert found.corrupt_tests[0] in caplog.text
    assert f"1 programs are left out: {BAD_TESTS}" in caplog.text


def test_a_byte_order_mark_is_no_input_and_the_last_line_needs_no_end(folder):
    public(folder, "A").write_text("\ufeff4\n###ENDINPUT###\n8\n###ENDOUTPUT###", encoding="utf-8")
    assert read_testcases(folder / "testcases", "A") == ({"input": "4\n", "output": "8\n", "hidden": False},)


def test_test_cases_are_read_alone_too(folder):
    assert read_testcases(folder / "testcases", "A") == ({"input": "4\n", "output": "8\n", "hidden": False},) * 2
    assert read_testcases(folder / "testcases", "Z") == ()


def test_a_problem_whose_rows_have_tests_needs_no_file(folder, monkeypatch):
    public(folder, "A").write_text("4\n")
    problems = {"train": "A", "validation": "G", "test": "I"}
    monkeypatch.setattr(
        spoc,
        "hub_rows",
        lambda source, split: iter(placed(hub_rows_of(problems[split], tests=TESTS if split == "train" else None))),
    )
    found = read_spoc("someone/spoc", testcases=folder / "testcases")
    assert {split: [each.problem for each in found.splits[split]] for split in found.splits} == {
        split: [problem] for split, problem in problems.items()
    }
    assert found.corrupt_tests == []


def test_missing_test_cases_and_an_empty_file_are_told_with_their_path(folder):
    with pytest.raises(ValueError, match=r"no usable program.*there are no test cases.*looked for in .*elsewhere"):
        read_spoc(folder, testcases=folder / "elsewhere")
    (folder / "train" / "split" / "spoc-train-eval.tsv").write_text("")
    with pytest.raises(ValueError, match=r"spoc-train-eval\.tsv holds no rows"):
        read_spoc(folder)
