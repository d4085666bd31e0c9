"""SPoC (https://sumith1896.github.io/spoc): programs of Codeforces with pseudo-code for their lines, read in the set's own format."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

from lit_symbolic.tasks.base import Split
from lit_symbolic.tasks.listing import Line, program
from lit_symbolic.tasks.reading.files import delimited_rows
from lit_symbolic.tasks.reading.hub import hub_rows, is_on_hub
from lit_symbolic.tasks.reading.rows import Row, accept
from lit_symbolic.tasks.splitting import split_of

LOG = logging.getLogger("lit_symbolic.data")

COLUMNS = ("text", "code", "workerid", "probid", "subid", "line", "indent")
SPLITS: tuple[Split, ...] = get_args(Split)
FILES: dict[Split, tuple[str, ...]] = {
    "train": ("train/split/spoc-train-train.tsv", "train/spoc-train.tsv"),
    "validation": ("train/split/spoc-train-eval.tsv",),
    "test": ("train/split/spoc-train-test.tsv",),
}
TEST_FILES = {"test": FILES["test"], "testp": ("test/spoc-testp.tsv",), "testw": ("test/spoc-testw.tsv",)}
TESTCASES = "testcases"

NO_TESTS = "there are no test cases for its problem"
BAD_TESTS = "a file of its problem's test cases is corrupt"
TOO_LONG = "it has more lines or characters than the settings allow"
INCOMPLETE = "a line of it is missing"
HELD_OUT = "a held-out split has programs for the same problem"

STANDARD = "gnu++14"
"""What GCC 5.5, the compiler that the set names, compiles by default is gnu++98; the programs also use what came with C++11."""
PREFIX = '#include <bits/stdc++.h>\nextern "C" char* gets(char*);\nusing namespace std;\n'
"""``gets`` is declared since the language has dropped it; the system's library still has it."""
_LITERAL = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|//[^\n]*|/\*.*?\*/', re.DOTALL)
"""Text and characters of C++, and comments: their braces are none of the program's."""


@dataclass(frozen=True, slots=True)
class AnnotatedProgram:
    """A program of the set.

    Args:
        problem: What it solves; many programs solve the same.
        submission: Its number on Codeforces.
        worker: Who annotated it.
        lines: Its lines.
        tests: Mappings with ``input``, ``output`` and ``hidden``.
    """

    problem: str
    submission: str
    worker: str
    lines: tuple[Line, ...]
    tests: tuple[dict[str, Any], ...] = ()

    @property
    def id(self) -> str:
        """Problem, submission and worker."""
        return f"{self.problem}-{self.submission}-{self.worker}"


@dataclass(frozen=True)
class Spoc:
    """What was made of the set.

    Args:
        splits: Programs of each split.
        total: Rows, that is lines of programs, in all.
        corrupt: Place and fault of each row that could not be used.
        skipped: How many programs were left out, by reason.
        corrupt_tests: Place and fault of each problem's test cases that could not be used.
        lessons: All programs of the training split that are for no held-out problem, too long ones and those without tests among them.
    """

    splits: dict[Split, list[AnnotatedProgram]]
    total: int
    corrupt: list[str]
    skipped: dict[str, int]
    corrupt_tests: list[str] = field(default_factory=list)
    lessons: list[AnnotatedProgram] = field(default_factory=list)


def read_spoc(
    data: str | Path,
    testcases: str | Path | None = None,
    test_file: str = "test",
    cut_by_hash: bool = False,
    max_lines: int | None = None,
    max_characters: int | None = None,
    max_corrupt: float = 0.01,
    seed: int = 0,
) -> Spoc:
    """Read the programs of all splits, see :class:`lit_symbolic.tasks.pseudocode.PseudocodeToCpp` for what is read.

    A row that cannot be read is told with its place and counted; its program is then left out. So are test cases that cannot be read,
    and the programs for their problem. Programs without test cases, too long ones, and those for a problem of a held-out split are
    left out and counted.

    Args:
        data: The set's folder, or the id of a data set on the hub whose rows have the columns of the set's files.
        testcases: Folder of the test cases; None is ``testcases`` in the set's folder.
        test_file: ``test`` is the official test part of the training set, ``testp`` and ``testw`` are the hidden tests.
        cut_by_hash: Where there is no training file, train on the validation file, a sixth of whose problems stay validation.
        max_lines: Lines of a program at most.
        max_characters: Characters of its pseudo-code and its code together at most.
        max_corrupt: See :func:`~lit_symbolic.tasks.reading.rows.accept`; of each file's rows, and of the problems with test cases.
        seed: Of the cut.

    Raises:
        ValueError: If rows or test cases are corrupt beyond ``max_corrupt``, a file is missing and nothing says what to do, or a split
            has no programs.
        FileNotFoundError: If there is no such folder.
    """
    found, skipped, corrupt, total = {}, Counter[str](), [], 0
    folder = Path(testcases) if testcases is not None else None if is_on_hub(data) else Path(data) / TESTCASES
    for split, (name, rows) in _sources(data, test_file, cut_by_hash).items():
        part = read_programs(rows, name, max_corrupt)
        found[split] = part.items
        total += part.total
        corrupt += part.corrupt
        skipped[INCOMPLETE] += part.incomplete
    if "train" not in found:
        held_out = {p.problem for p in found["validation"] if split_of(p.problem, seed) != "train"}
        found["train"] = [p for p in found["validation"] if p.problem not in held_out]
        found["validation"] = [p for p in found["validation"] if p.problem in held_out]
    testcases_of, corrupt_tests = _all_testcases(folder, found, max_corrupt)
    splits: dict[Split, list[AnnotatedProgram]] = {}
    for at, split in enumerate(SPLITS):
        taken, kept = _solved(found, SPLITS[at + 1 :]), []
        for annotated in found[split]:
            tests = annotated.tests or testcases_of.get(annotated.problem, ())
            reason = _why_not(annotated, tests, taken, max_lines, max_characters)
            if reason:
                skipped[reason] += 1
            else:
                kept.append(replace(annotated, tests=tests or ()))
        splits[split] = kept
        if not kept:
            looked = "" if folder is None else f"; test cases are looked for in {folder}"
            raise ValueError(f"{data}: no usable program for the {split} split; left out: {dict(+skipped)}{looked}")
    for reason, count in (+skipped).items():
        LOG.warning("%s: %d programs are left out: %s", data, count, reason)
    held_out = _solved(found, SPLITS[1:])
    lessons = [each for each in found["train"] if each.problem not in held_out]
    return Spoc(splits, total, corrupt, dict(+skipped), corrupt_tests, lessons)


def _solved(found: Mapping[Split, list[AnnotatedProgram]], splits: Iterable[Split]) -> set[str]:
    """The problems that programs of these splits solve."""
    return {each.problem for split in splits for each in found[split]}


def _all_testcases(
    folder: Path | None, found: Mapping[Split, list[AnnotatedProgram]], max_corrupt: float
) -> tuple[dict[str, tuple[dict[str, Any], ...] | None], list[str]]:
    """The test cases of each problem whose programs have none of their own, None if they are corrupt; and what is told of those."""
    problems = dict.fromkeys(each.problem for split in SPLITS for each in found[split] if not each.tests)
    if folder is None or not problems:
        return {}, []
    rows = (Row(f"problem {problem}", {"problem": problem}) for problem in problems)

    def read(row: Row) -> tuple[str, tuple[dict[str, Any], ...]]:
        problem = row.text("problem")
        return problem, read_testcases(folder, problem)

    accepted = accept(rows, read, f"{folder} (a row is a problem's test cases)", max_corrupt)
    return {**dict.fromkeys(problems), **dict(accepted.items)}, accepted.corrupt


def _sources(data: str | Path, test_file: str, cut_by_hash: bool) -> dict[Split, tuple[str, Iterable[Row]]]:
    """Name and rows of each split."""
    if test_file not in TEST_FILES:
        raise ValueError(f"test_file is one of {', '.join(TEST_FILES)}, got {test_file!r}")
    if is_on_hub(data):
        wanted = [split for split in SPLITS if split != "train" or not cut_by_hash]
        return {split: (f"{data}[{split}]", hub_rows(str(data), split)) for split in wanted}
    folder = Path(data)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; expected SPoC's, with train/split/*.tsv and testcases/ in it")
    sources: dict[Split, tuple[str, Iterable[Row]]] = {}
    for split, names in {**FILES, "test": TEST_FILES[test_file]}.items():
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is not None:
            sources[split] = str(path), delimited_rows(path, "\t", quoted=False, columns=COLUMNS)
        elif split != "train" or not cut_by_hash:
            advice = "; to train on a part of the validation file's problems instead, set cut_by_hash" if split == "train" else ""
            raise ValueError(f"{folder}: there is no {' and no '.join(names)}{advice}")
    return sources


@dataclass(frozen=True)
class ProgramsRead:
    """What was made of one file.

    Args:
        items: Its whole programs, in order, without tests but for those that stand in its rows.
        total: Rows in all.
        corrupt: Place and fault of each row that could not be used.
        incomplete: How many programs lack a line: by its number, or because a brace is left open.
    """

    items: list[AnnotatedProgram]
    total: int
    corrupt: list[str]
    incomplete: int


def read_programs(rows: Iterable[Row], source: str | Path, max_corrupt: float = 0.01) -> ProgramsRead:
    """Put rows together to programs. Where a row is corrupt, so is the program that it may belong to.

    Args:
        rows: With the columns of the set's files.
        source: Where they come from, for messages.
        max_corrupt: See :func:`~lit_symbolic.tasks.reading.rows.accept`.

    Raises:
        ValueError: As for :func:`~lit_symbolic.tasks.reading.rows.accept`.
    """
    at = -1

    def counted() -> Iterator[Row]:
        nonlocal at
        for at, row in enumerate(rows):  # noqa: B007 - read by parse()
            yield row

    def parse(row: Row) -> _ProgramLine:
        return _parse(row, at)

    accepted = accept(counted(), parse, source, max_corrupt)
    groups = list(_grouped(accepted.items))
    behind = [*(group[0].row for group in groups[1:]), accepted.total]
    items = [
        AnnotatedProgram(*group[0].program, tuple(row.line for row in group), group[0].tests)
        for group, next_row in zip(groups, behind, strict=True)
        if group[0].number == 0 and group[-1].number == len(group) - 1 and group[-1].row + 1 == next_row and _is_closed(group)
    ]
    return ProgramsRead(items, accepted.total, accepted.corrupt, len(groups) - len(items))


@dataclass(frozen=True, slots=True)
class _ProgramLine:
    """A line, its place among the rows and in its program, and tests if the row has them."""

    row: int
    program: tuple[str, str, str]
    number: int
    line: Line
    tests: tuple[dict[str, Any], ...]


def _is_closed(group: Sequence[_ProgramLine]) -> bool:
    """Whether all braces close, as they do not where the last lines of a program are missing: nothing else in a file tells."""
    code = _LITERAL.sub("", "\n".join(row.line.code for row in group))
    return code.count("{") == code.count("}")


def _parse(row: Row, at: int) -> _ProgramLine:
    code = row.text("code")
    number, indent = _number(row, "line"), _number(row, "indent")
    if number < 0 or not 0 <= indent <= 100:
        raise ValueError(f"expected line and indent to be small numbers, got {number} and {indent}")
    text = row.fields.get("text") or ""
    if not isinstance(text, str):
        raise ValueError(f"expected text in the field 'text', got {repr(text)[:80]}")
    # What is not UTF-8 was replaced on reading, and in code that is a fault.
    if "\ufffd" in code:
        raise ValueError("the code is not UTF-8")
    program = _word(row, "probid"), _word(row, "subid"), _word(row, "workerid")
    return _ProgramLine(at, program, number, Line(code, text.strip(), indent), tuple(_tests(row)))


def _number(row: Row, name: str) -> int:
    """A whole number; in files it is text."""
    value = row.fields[name]
    whole = isinstance(value, str | int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, float) and value.is_integer()):
        raise ValueError(f"expected a whole number in the field {name!r}, got {repr(value)[:80]}")
    return int(value)


def _tests(row: Row) -> Iterator[dict[str, Any]]:
    """The tests that a row of the hub may have."""
    tests = row.fields.get("tests") or ()
    if not isinstance(tests, list | tuple):
        raise ValueError(f"expected a list of objects in the field 'tests', got {repr(tests)[:80]}")
    for test in tests:
        if not isinstance(test, Mapping):
            raise ValueError(f"expected objects with input and output in the field 'tests', got {repr(test)[:80]}")
        for name in ("input", "output"):
            if not isinstance(test[name], str | int | float):
                raise ValueError(f"expected text in the {name} of each of the tests, got {repr(test[name])[:80]}")
        yield {"input": str(test["input"]), "output": str(test["output"]), "hidden": bool(test.get("hidden"))}


def _word(row: Row, name: str) -> str:
    """A field that names something; on the hub it may be a number."""
    return str(value) if isinstance(value := row.fields[name], int) else row.text(name)


def _grouped(rows: Iterable[_ProgramLine]) -> Iterator[list[_ProgramLine]]:
    """The rows of one program after the other: a new one begins where the lines do not go on."""
    group: list[_ProgramLine] = []
    for row in rows:
        if group and (row.number <= group[-1].number or row.program != group[-1].program):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _why_not(
    annotated: AnnotatedProgram,
    tests: tuple[dict[str, Any], ...] | None,
    taken: set[str],
    max_lines: int | None,
    max_characters: int | None,
) -> str:
    """Why a program is left out; empty if it is not."""
    if annotated.problem in taken:
        return HELD_OUT
    if tests is None:
        return BAD_TESTS
    if not tests:
        return NO_TESTS
    characters = len(program(annotated.lines, "commented"))
    if (max_lines or len(annotated.lines)) < len(annotated.lines) or (max_characters or characters) < characters:
        return TOO_LONG
    return ""


@cache
def read_testcases(folder: Path, problem: str) -> tuple[dict[str, Any], ...]:
    """The test cases of one problem, from the set's folder of that name; empty if there are none.

    Raises:
        ValueError: If a file is not in the set's format (a marker is lost, too), or not UTF-8; names file and line.
    """
    tests = []
    for visibility in ("public", "hidden"):
        path = folder / problem / f"{problem}_testcases_{visibility}.txt"
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        *cases, rest = (text if text.endswith("\n") else f"{text}\n").split("###ENDOUTPUT###\n")
        line = 1
        for case in cases:
            given, mark, output = case.partition("###ENDINPUT###\n")
            if not mark:
                raise ValueError(f"{path}:{line}: a test case without ###ENDINPUT###")
            if any(marker in each for marker in ("###ENDINPUT###", "###ENDOUTPUT###") for each in (given, output)):
                raise ValueError(f"{path}:{line}: a marker in the middle of a test case: another one is lost")
            if "\ufffd" in case:
                raise ValueError(f"{path}:{line}: a test case that is not UTF-8")
            tests.append({"input": given, "output": output, "hidden": visibility == "hidden"})
            line += case.count("\n") + 1
        if rest.strip():
            raise ValueError(f"{path}:{line}: a test case without ###ENDOUTPUT### at its end")
    return tuple(tests)
