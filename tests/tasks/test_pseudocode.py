"""From pseudo-code to C++: drawn programs, and SPoC's files read as they are."""

import csv
import json
import os
import pickle
import random
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from lit_symbolic.policies.tiny import task_tokenizer
from lit_symbolic.tasks.listing import Line, program, pseudocode
from lit_symbolic.tasks.pseudocode import PseudocodeToCpp
from lit_symbolic.tasks.reading.spoc import COLUMNS, HELD_OUT, INCOMPLETE, NO_TESTS, TOO_LONG
from lit_symbolic.tasks.splitting import split_of
from lit_symbolic.verifiers.compiling.program import fenced_code
from sandboxes import runs_programs

SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", Path(__file__).parents[3] / "shared" / "data"))
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def small():
    return PseudocodeToCpp(train_problems=30, validation_problems=10, test_problems=10)


def certify(task, problem, text):
    return replace(task.verifier, patience=100).verify(problem, text)  # a machine may be busy


# ---------------------------------------------------------------- drawn programs


def test_splits_share_no_normal_form_and_sampling_draws_training_ones():
    task = PseudocodeToCpp(train_problems=300, validation_problems=60, test_problems=60)
    keys = {split: {problem.facts.code for problem in task.problems(split)} for split in SPLITS}
    assert [len(keys[split]) for split in SPLITS] == [300, 60, 60]
    rng = random.Random(0)
    keys["sampled"] = {task.sample(rng).facts.code for _ in range(300)}
    forms = {split: {renamed(code) for code in found} for split, found in keys.items()}
    for split in SPLITS:
        assert {split_of(form) for form in forms[split]} == {split}
    assert {split_of(form) for form in forms["sampled"]} == {"train"}


def test_a_demonstration_may_draw_its_operators_anew(small):
    drawing = PseudocodeToCpp(train_problems=30, validation_problems=10, test_problems=10, operators_kept=0.0)
    rng = random.Random(0)
    demonstrations = [(problem.reference, drawing.demonstration(problem, rng)) for problem in drawing.problems("train")]
    assert sum(shown != reference for reference, shown in demonstrations) > 10
    for reference, shown in demonstrations:
        assert [line[: len(line) - len(line.lstrip())] for line in shown.split("\n")] == [
            line[: len(line) - len(line.lstrip())] for line in reference.split("\n")
        ]
    assert all(small.demonstration(problem, rng) == problem.reference for problem in small.problems("train"))


@pytest.mark.parametrize("bad", [{"operators_kept": 1.5}, {"operators_kept": 0.5, "layout": "commented"}])
def test_operators_that_cannot_be_drawn_so_are_refused(bad):
    with pytest.raises(ValueError, match="operators_kept"):
        PseudocodeToCpp(**bad)


def renamed(code):
    from lit_symbolic.tasks.generating.programs import normal_form

    return normal_form(line.strip() for line in code.split("\n"))


def test_the_same_settings_give_the_same_problems_and_another_seed_others(small):
    again = PseudocodeToCpp(train_problems=5, validation_problems=10, test_problems=3)
    for split in SPLITS:
        assert [(p.id, p.prompt) for p in again.problems(split)] == [(p.id, p.prompt) for p in small.problems(split)][
            : again.sizes[split]
        ]
    other = PseudocodeToCpp(split_seed=1, validation_problems=10)
    assert {p.id for p in other.problems("validation")} != {p.id for p in small.problems("validation")}


def test_a_state_of_randomness_gives_the_same_problem_whoever_asks(small):
    """So a run that is resumed has the problems of one that was not."""
    one, other = random.Random(7), random.Random(7)
    for _ in range(20):
        mine, theirs = small.sample(one), PseudocodeToCpp().sample(other)
        assert (mine.id, mine.prompt, mine.reference, mine.facts.inputs) == (
            theirs.id,
            theirs.prompt,
            theirs.reference,
            theirs.facts.inputs,
        )
    assert one.getstate() == other.getstate()


@pytest.mark.parametrize("layout", ["plain", "commented"])
def test_prompt_and_answer_have_a_line_for_each_line(layout):
    task = PseudocodeToCpp(layout=layout, test_problems=20)
    for problem in task.problems("test"):
        asked = problem.prompt.rstrip("\n").split("\n")
        lines = problem.reference.split("\n")
        code = [line for line in lines if not line.lstrip().startswith("//")]
        said = [line.replace("// ", "", 1) for line in lines if line.lstrip().startswith("//")]
        assert len(code) == len(asked)
        assert said == ([line for line in asked if line not in code] if layout == "commented" else [])
        assert "\n".join(code) == problem.facts.code


def test_a_comment_never_swallows_the_line_below_it():
    lines = [Line("int n;", "create n \\"), Line("n = 1;", "\\")]
    assert program(lines, "commented") == "// create n\nint n;\n//\nn = 1;"
    assert pseudocode(lines) == "create n \\\n\\"


class TestDrawnAnswers:
    pytestmark = runs_programs()

    def test_references_are_correct_in_both_layouts_and_faults_are_not(self, small):
        commented = PseudocodeToCpp(layout="commented", test_problems=2)
        for task in (small, commented):
            for problem in task.problems("test")[:2]:
                certificate = certify(task, problem, task.demonstration(problem, random.Random(0)))
                assert certificate.correct, certificate
                assert certificate.measures["tests"] == 6
        broken = problem.reference.replace(" << endl;", " << endl", 1)
        finding, *_ = certify(task, problem, broken).findings
        assert broken[: finding.start].endswith("endl")

    def test_a_program_that_prints_something_else_fails_its_tests(self, small):
        problem = next(p for p in small.problems("test") if 'cout << "' not in p.reference)
        assert [test["hidden"] for test in problem.facts["tests"]] == [False] * 2 + [True] * 4
        wrong = problem.reference.replace("cout << ", "cout << 1 + ", 1)
        certificate = certify(small, problem, wrong)
        assert (certificate.correct, certificate.measures["compiled"]) == (False, 1.0)
        assert certificate.score < 1

    def test_a_problem_arrives_in_a_worker_with_its_tests(self, small):
        problem = small.problems("test")[3]
        arrived = pickle.loads(pickle.dumps(problem))
        assert type(arrived.facts) is dict
        assert arrived == problem
        assert len(arrived.facts["tests"]) == 6

    def test_a_chat_models_fence_is_found_where_the_task_is_not_strict(self, small):
        lenient = PseudocodeToCpp(strict=False, test_problems=10)
        problem = lenient.problems("test")[0]
        answer = f"Here it is:\n```cpp\n{problem.reference}\n```\nDone."
        start, end = fenced_code(answer)
        assert answer[start:end].strip() == problem.reference
        assert certify(lenient, problem, answer).correct
        assert not certify(small, problem, answer).correct


def test_the_few_shot_prompt_has_an_instruction_and_worked_examples_of_training():
    task = PseudocodeToCpp(prompt_style="few_shot", layout="commented", test_problems=20, validation_problems=20)
    held_out = {p.reference for split in ("validation", "test") for p in task.problems(split)}
    for problem in task.problems("test"):
        instruction, *shots, question = problem.prompt.split("Pseudo-code:\n")
        assert "line by line" in instruction
        assert "as a comment" in instruction
        assert question.endswith("\nProgram:\n")
        assert len(shots) == 2
        for shot in shots:
            answer = shot.partition("Program:\n")[2].strip()
            assert answer.startswith("int main() {")
            assert "// " in answer
            assert answer not in held_out


def test_the_vocabulary_is_the_same_for_everyone_writes_everything_and_keeps_tokens_within_words(small):
    vocabulary = small.vocabulary()
    assert vocabulary == PseudocodeToCpp().vocabulary()
    tokenizer = task_tokenizer(vocabulary)
    assert len(tokenizer) <= 512
    rng = random.Random(3)
    for _ in range(50):
        problem = small.sample(rng)
        for text in (problem.prompt, problem.reference, "int unheard_of = 12345; // ƒ"):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids) == text
        tokens = [tokenizer.decode([i]) for i in tokenizer(problem.reference, add_special_tokens=False)["input_ids"]]
        joined = [t for t in tokens if t.strip() and not t.strip().isalnum() and any(c.isalnum() for c in t)]
        assert all(token.startswith(("int main() {", "return 0;", "} else {")) for token in joined), joined


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": (2, 1)}, "blocks are two numbers from 1 to 8"),
        ({"blocks": (0, 1)}, "blocks are two numbers"),
        ({"test_problems": 0}, "at least 1"),
        ({"max_lines": 0}, "max_lines is at least 1, or null"),
        ({"public_tests": 0, "hidden_tests": 0}, "1 to 24 together"),
        ({"hidden_tests": 23}, "1 to 24 together"),
    ],
)
def test_an_argument_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        PseudocodeToCpp(**options)


def test_an_unknown_split_is_named(small):
    with pytest.raises(ValueError, match="train, validation, test; got 'dev'"):
        small.problems("dev")


# ---------------------------------------------------------------- SPoC's files

BODY = ["int main() {", "int n;", "cin >> n;", "cout << 2 * n << endl;", "return 0;", "}"]
WORDS = ["", "create integer n", "read n", "print 2 times n", "", ""]
INDENTS = [0, 1, 1, 1, 1, 0]


def rows_of(problem, submission="1", worker="00", code=BODY):
    return [
        {
            "text": text,
            "code": line,
            "workerid": worker,
            "probid": problem,
            "subid": submission,
            "line": str(i),
            "indent": str(indent),
        }
        for i, (text, line, indent) in enumerate(zip(WORDS, code, INDENTS, strict=True))
    ]


def write_tsv(path, found, columns=COLUMNS):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns), *("\t".join(row[name] for name in columns) for row in found)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_tests(folder, problem):
    for visibility, number in (("public", 4), ("hidden", 5)):
        path = folder / "testcases" / problem / f"{problem}_testcases_{visibility}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n###ENDINPUT###\n{2 * number}\n###ENDOUTPUT###\n")


@pytest.fixture
def spoc(tmp_path):
    """Nine programs for six problems: one without tests, one for a problem that is held out elsewhere."""
    files = {"train": ["1A", "1A", "2B", "3C", "9Z", "8T"], "eval": ["4D", "5E"], "test": ["8T"]}
    for name, problems in files.items():
        found = [row for number, problem in enumerate(problems) for row in rows_of(problem, submission=str(number))]
        write_tsv(tmp_path / "train" / "split" / f"spoc-train-{name}.tsv", found)
    for problem in ("1A", "2B", "3C", "4D", "5E", "8T"):
        write_tests(tmp_path, problem)
    return tmp_path


def ids(task):
    return {split: [problem.id for problem in task.problems(split)] for split in SPLITS}


def test_the_official_splits_are_read_and_what_is_left_out_is_counted(spoc, caplog):
    task = PseudocodeToCpp(data=spoc)
    assert ids(task) == {
        "train": ["1A-0-00", "1A-1-00", "2B-2-00", "3C-3-00"],
        "validation": ["4D-0-00", "5E-1-00"],
        "test": ["8T-0-00"],
    }
    assert task.spoc.skipped == {NO_TESTS: 1, HELD_OUT: 1}
    assert (task.spoc.total, task.spoc.corrupt) == (9 * 6, [])
    assert f"1 programs are left out: {NO_TESTS}" in caplog.text
    problem = task.problems("test")[0]
    assert problem.prompt == "int main() {\n  create integer n\n  read n\n  print 2 times n\n  return 0;\n}\n\n"
    assert problem.reference == "int main() {\n  int n;\n  cin >> n;\n  cout << 2 * n << endl;\n  return 0;\n}"
    assert problem.facts["tests"] == [
        {"input": "4\n", "output": "8\n", "hidden": False},
        {"input": "5\n", "output": "10\n", "hidden": True},
    ]
    assert task.sample(random.Random(0)).id in ids(task)["train"]
    assert "int main" in task.vocabulary().texts[0]


def test_without_the_training_file_an_option_says_what_is_trained_on(spoc):
    (spoc / "train" / "split" / "spoc-train-train.tsv").unlink()
    with pytest.raises(ValueError, match=r"no train/split/spoc-train-train\.tsv and no train/spoc-train\.tsv.*set cut_by_hash"):
        PseudocodeToCpp(data=spoc).problems("train")
    names = [f"{number}Q" for number in range(30)]
    write_tsv(spoc / "train" / "split" / "spoc-train-eval.tsv", [row for name in names for i in "12" for row in rows_of(name, i)])
    for name in names:
        write_tests(spoc, name)
    task = PseudocodeToCpp(data=spoc, cut_by_hash=True)
    found = {split: {name.split("-")[0] for name in found} for split, found in ids(task).items()}
    assert found["test"] == {"8T"}
    assert found["train"] | found["validation"] == set(names)
    assert not found["train"] & found["validation"]
    assert 0 < len(found["validation"]) < 12


def test_the_whole_training_file_serves_and_gives_its_held_out_problems_away(spoc):
    split = spoc / "train" / "split"
    (split / "spoc-train-train.tsv").rename(spoc / "train" / "spoc-train.tsv")
    assert ids(PseudocodeToCpp(data=spoc))["train"] == ["1A-0-00", "1A-1-00", "2B-2-00", "3C-3-00"]


def test_the_hidden_tests_of_the_set_can_be_the_test_split(spoc):
    write_tsv(spoc / "test" / "spoc-testw.tsv", rows_of("1A", "7", "58"))
    task = PseudocodeToCpp(data=spoc, test_file="testw")
    assert ids(task)["test"] == ["1A-7-58"]
    assert ids(task)["train"] == ["2B-2-00", "3C-3-00", "8T-5-00"], "a problem is in one split only"
    with pytest.raises(ValueError, match=r"no test/spoc-testp\.tsv"):
        PseudocodeToCpp(data=spoc, test_file="testp").problems("test")


def test_long_programs_are_left_out_and_counted(spoc):
    task = PseudocodeToCpp(data=spoc, max_lines=6)
    assert TOO_LONG not in task.spoc.skipped
    for options in ({"max_lines": 5}, {"max_characters": 80}):
        with pytest.raises(ValueError, match=f"no usable program for the train split; left out: .*{TOO_LONG}"):
            PseudocodeToCpp(data=spoc, **options).problems("test")


def test_a_corrupt_row_is_told_and_its_program_left_out(spoc):
    path = spoc / "train" / "split" / "spoc-train-train.tsv"
    lines = path.read_text().split("\n")
    lines[3] = lines[3].replace("\t", " ")
    lines[9] = lines[9].replace("\t1\t", "\tone\t").replace("2\t1", "2\tone")
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"2 of 36 rows are corrupt(.|\n)*{path.name}:4: 1 fields where the header has 7"):
        PseudocodeToCpp(data=spoc).problems("train")
    task = PseudocodeToCpp(data=spoc, max_corrupt=0.1)
    assert ids(task)["train"] == ["2B-2-00", "3C-3-00"]
    assert task.spoc.skipped[INCOMPLETE] == 2
    assert len(task.spoc.corrupt) == 2


@pytest.mark.parametrize(
    ("line", "kept"), [(12, ["1A-0-00", "2B-2-00", "3C-3-00"]), (36, ["1A-0-00", "1A-1-00", "2B-2-00", "3C-3-00"])]
)
def test_a_program_whose_last_line_is_corrupt_is_no_whole_program(spoc, line, kept):
    path = spoc / "train" / "split" / "spoc-train-train.tsv"
    lines = path.read_text().split("\n")
    lines[line] = "}"
    path.write_text("\n".join(lines))
    task = PseudocodeToCpp(data=spoc, max_corrupt=0.1)
    assert ids(task)["train"] == kept
    assert task.spoc.skipped[INCOMPLETE] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no rows"),
        ("\t".join(COLUMNS) + "\n", "holds no rows"),
        ("text\tcode\na\tb\n", r"expected a header with the columns .*probid"),
    ],
)
def test_an_empty_or_foreign_file_is_named(spoc, content, message):
    (spoc / "train" / "split" / "spoc-train-test.tsv").write_text(content)
    with pytest.raises(ValueError, match=message):
        PseudocodeToCpp(data=spoc).problems("test")


def test_a_missing_folder_and_a_bad_test_case_are_named(spoc, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is no folder; expected SPoC's"):
        PseudocodeToCpp(data=tmp_path / "nowhere").problems("test")
    path = spoc / "testcases" / "8T" / "8T_testcases_public.txt"
    for content, message in (("4\n8\n###ENDOUTPUT###\n", "without ###ENDINPUT###"), ("4\n", "without ###ENDOUTPUT###")):
        path.write_text(content)
        other = tmp_path / message[-9:-3]
        shutil.copytree(spoc / "testcases", other)
        with pytest.raises(ValueError, match=message):
            PseudocodeToCpp(data=spoc, testcases=other).problems("test")


def test_a_data_set_of_the_hub_has_the_same_columns_and_perhaps_tests(spoc, tmp_path, monkeypatch):
    folder = tmp_path / "hub"
    folder.mkdir()
    for split, name in (("train", "train"), ("validation", "eval"), ("test", "test")):
        with (spoc / "train" / "split" / f"spoc-train-{name}.tsv").open() as file:
            found = [row | {n: int(row[n]) for n in ("line", "indent")} for row in csv.DictReader(file, delimiter="\t")]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, found)))
    load = datasets.load_dataset
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, *_, split, **__: load(str(folder), split=split, cache_dir=str(tmp_path / "cache"))
    )
    task = PseudocodeToCpp(data="someone/spoc", testcases=spoc / "testcases")
    own = PseudocodeToCpp(data=spoc)
    assert {split: list(task.problems(split)) for split in SPLITS} == {split: list(own.problems(split)) for split in SPLITS}
    with pytest.raises(ValueError, match=f"no usable program for the train split; left out: .*{NO_TESTS}"):
        PseudocodeToCpp(data="someone/spoc").problems("test")
    for path in folder.iterdir():
        tests = [{"input": "4", "output": "8", "hidden": True}]
        path.write_text("\n".join(json.dumps(json.loads(line) | {"tests": tests}) for line in path.read_text().split("\n")))
    problem = PseudocodeToCpp(data="someone/spoc").problems("test")[0]
    assert problem.facts["tests"] == tests


@pytest.fixture(scope="module")
def whole_spoc():
    return PseudocodeToCpp(data=SHARED / "spoc", cut_by_hash=True)


class TestSpocsOwnFiles:
    pytestmark = pytest.mark.skipif(not (SHARED / "spoc").exists(), reason="needs the public data: spoc")

    def test_all_programs_are_read_and_none_is_left_out(self, whole_spoc):
        task = whole_spoc
        found = {split: len(task.problems(split)) for split in SPLITS}
        assert found["train"] + found["validation"] == 2010
        assert found["test"] == 1025
        assert (task.spoc.skipped, task.spoc.corrupt, task.spoc.total) == ({}, [], 47_768)
        assert sum(bool(line.text) for programs in task.spoc.splits.values() for p in programs for line in p.lines) == 34_363
        problems = {split: {name.split("-")[0] for name in found} for split, found in ids(task).items()}
        assert not problems["train"] & problems["validation"]
        assert not problems["test"] & (problems["train"] | problems["validation"])

    @runs_programs()
    def test_a_gold_program_passes_its_tests_without_optimization_in_both_layouts(self, whole_spoc):
        index = random.Random(0).randrange(1025)
        problem, found = whole_spoc.problems("test")[index], whole_spoc.spoc.splits["test"][index]
        assert certify(whole_spoc, problem, program(found.lines)).correct, problem.id
        assert certify(whole_spoc, problem, program(found.lines, "commented")).correct, problem.id
