"""Programs in other names: they compute the same, say the same, and nothing but names of one letter changes."""

import os
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.tasks.generating.expected import ExpectedOutputs
from lit_symbolic.tasks.generating.programs import draw_program
from lit_symbolic.tasks.listing import Line, program
from lit_symbolic.tasks.pseudocode import PseudocodeToCpp
from lit_symbolic.tasks.renaming import in_other_names
from sandboxes import runs_programs

SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", Path(__file__).parents[3] / "shared" / "data"))
LETTER = re.compile(r"(?<!\w)[A-Za-z](?!\w)")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_the_program_is_the_same_but_for_its_names_and_so_are_its_words(seed):
    rng = random.Random(seed)
    found = draw_program(rng, (1, 3))
    other = in_other_names(found.lines, rng)
    names = {}
    for before, after in zip(found.lines, other, strict=True):
        assert LETTER.sub("_", before.code) == LETTER.sub("_", after.code)
        assert LETTER.sub("_", before.text) == LETTER.sub("_", after.text)
        for old, new in zip(LETTER.findall(before.code), LETTER.findall(after.code), strict=True):
            assert names.setdefault(old, new) == new, "the same everywhere"
            assert old.islower() == new.islower()
    assert len(set(names.values())) == len(names), "and no two become one"
    for before, after in zip(found.lines, other, strict=True):
        assert [names.get(old, old) for old in LETTER.findall(before.text)] == LETTER.findall(after.text)


@runs_programs()
def test_it_computes_what_it_did(tmp_path):
    rng = random.Random(0)
    pairs = []
    for found in (draw_program(rng, (1, 3)) for _ in range(60)):
        inputs = tuple(found.input(rng) for _ in range(5))
        pairs += [(program(found.lines), inputs), (program(in_other_names(found.lines, rng)), inputs)]
    written = ExpectedOutputs(headers=("algorithm", "iostream", "sstream"), cache_dir=tmp_path).of(pairs)
    assert written[::2] == written[1::2]
    assert sum(before != after for (before, _), (after, _) in zip(pairs[::2], pairs[1::2], strict=True)) > 50


def test_what_is_quoted_and_the_article_stay():
    line = Line('if (s[b] == \'s\') cout << "b s \\" s" << a << 1e9;', "let a char s of b be 's'; it's \"b\"")
    for seed in range(20):
        other = in_other_names([line], random.Random(seed))[0]
        s, b = other.code[4], other.code[6]
        assert other.code == f'if ({s}[{b}] == \'s\') cout << "b s \\" s" << a << 1e9;'
        assert other.text == f"let a char {s} of {b} be 's'; it's \"b\""
        assert "a" not in (s, b)


@runs_programs()
@pytest.mark.skipif(not (SHARED / "spoc").exists(), reason=f"needs the public data: spoc in {SHARED}")
def test_renamed_programs_of_spoc_still_pass_their_tests_and_are_drawn_for_training_alone():
    task = PseudocodeToCpp(data=SHARED / "spoc", cut_by_hash=True, max_characters=300, other_names=True)
    rng = random.Random(0)
    drawn = [task.sample(rng) for _ in range(12)]
    plain = {problem.prompt for problem in task.problems("train")}
    assert sum(problem.prompt not in plain for problem in drawn) > 8
    verifier = replace(task.verifier, patience=100)  # a machine may be busy
    for problem in drawn:
        assert verifier.verify(problem, problem.reference).correct, problem.reference
    unchanged = PseudocodeToCpp(data=SHARED / "spoc", cut_by_hash=True, max_characters=300)
    assert [p.prompt for p in task.problems("test")] == [p.prompt for p in unchanged.problems("test")]


@pytest.mark.skipif(not (SHARED / "spoc").exists(), reason=f"needs the public data: spoc in {SHARED}")
def test_lessons_are_excerpts_of_training_programs_long_ones_too_and_no_held_out_problem():
    bounds = {"cut_by_hash": True, "max_characters": 300, "max_lines": 12}
    task = PseudocodeToCpp(data=SHARED / "spoc", excerpt_share=0.5, **bounds)
    assert len(task.spoc.lessons) > len(task.problems("train"))
    held_out = {found.problem for split in ("validation", "test") for found in task.spoc.splits[split]}
    assert held_out
    assert not held_out & {found.problem for found in task.spoc.lessons}
    by_id = {found.id: found for found in task.spoc.lessons}
    rng = random.Random(0)
    lessons = [task.lesson(rng) for _ in range(400)]
    whole = {problem.prompt for problem in task.problems("train")}
    assert 0.4 < sum(lesson.prompt not in whole for lesson in lessons) / len(lessons) < 0.6
    code = {name: [line.code for line in found.lines] for name, found in by_id.items()}
    for lesson in lessons:
        written = [line.strip() for line in lesson.reference.splitlines()]
        assert len(written) <= 12
        assert any(code[lesson.id][start : start + len(written)] == written for start in range(len(code[lesson.id])))
    assert any(len(code[lesson.id]) > 12 for lesson in lessons)
    plain = PseudocodeToCpp(data=SHARED / "spoc", **bounds)
    assert {plain.lesson(rng).prompt for _ in range(50)} <= whole
