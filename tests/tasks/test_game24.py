import csv
import json
import os
import pickle
import random
import statistics
from collections import Counter
from fractions import Fraction
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.tasks.game24 import Game24, read_puzzles
from lit_symbolic.tasks.reading.puzzles import UNSOLVABLE
from lit_symbolic.verifiers.calculating.game24_solver import all_card_sets, solvable

SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", Path(__file__).parents[3] / "shared" / "data"))
PUBLIC_PUZZLES = SHARED / "game24" / "24.csv"

TASK = Game24()
seeds = st.integers(0, 1_000_000)


def puzzle(problem):
    return problem.facts["cards"], problem.facts["target"]


def held_out(task):
    return {puzzle(problem) for split in ("validation", "test") for problem in task.problems(split)}


def certify(task, problem, text):
    return task.verifier.verify(problem, text)


# --- splits ---


def test_splits_are_disjoint_and_hold_every_solvable_puzzle_once():
    everything = [puzzle(problem) for split in ("train", "validation", "test") for problem in TASK.problems(split)]
    assert len(everything) == len(set(everything)) == 1362
    assert [len(TASK.problems(split)) for split in ("validation", "test")] == [100, 300]


def test_the_split_depends_on_its_seed_alone():
    first, again, other = (Game24(split_seed=seed).problems("test") for seed in (0, 0, 1))
    assert first == again == TASK.problems("test")
    assert {p.id for p in other} != {p.id for p in first}
    assert Game24(validation_problems=7).problems("test") == first
    assert Game24(classic_share=0.5, generator_cards=(3, 5)).problems("train") == TASK.problems("train")


def test_problems_carry_facts_a_stable_id_and_a_right_reference():
    for split in ("train", "validation", "test"):
        for problem in TASK.problems(split)[:100]:
            cards, target = puzzle(problem)
            assert (problem.task, target, list(cards)) == (TASK.name, 24, sorted(cards))
            assert problem.id == f"24:{'-'.join(map(str, cards))}"
            assert problem.prompt == f"Make 24 from {' '.join(map(str, cards))}\n"
            assert certify(TASK, problem, problem.reference).correct
    assert pickle.loads(pickle.dumps(TASK.problems("train")[0])) == TASK.problems("train")[0]


def test_other_classic_puzzles_can_be_chosen():
    task = Game24(cards=3, max_card=10, target=12, validation_problems=10, test_problems=20)
    problems = [problem for split in ("train", "validation", "test") for problem in task.problems(split)]
    assert all(len(p.facts["cards"]) == 3 and max(p.facts["cards"]) <= 10 and solvable(*puzzle(p)) for p in problems)
    assert all(certify(task, p, p.reference).correct for p in problems)


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="train, validation, test; got 'dev'"):
        TASK.problems("dev")


# --- training problems ---


def test_training_problems_are_classic_by_default_and_drawn_by_the_generator_given():
    train = {puzzle(problem) for problem in TASK.problems("train")}
    drawn = [TASK.sample(random.Random(seed)) for seed in range(50)]
    assert {puzzle(problem) for problem in drawn} <= train
    assert drawn == [TASK.sample(random.Random(seed)) for seed in range(50)]
    assert len({problem.id for problem in drawn}) > 30


@pytest.mark.parametrize("targets", ["fixed", "random"])
def test_generated_problems_are_solvable_within_the_options_and_never_held_out(targets):
    task = Game24(
        classic_share=0.0, generator_cards=(3, 4), generator_max_card=9, generator_targets=targets, generator_max_target=30
    )
    rng, forbidden = random.Random(0), held_out(task)
    drawn = [task.sample(rng) for _ in range(3_000)]
    assert not {puzzle(problem) for problem in drawn} & forbidden
    assert {len(problem.facts["cards"]) for problem in drawn} == {3, 4}
    assert max(max(problem.facts["cards"]) for problem in drawn) == 9
    assert {p.facts["target"] for p in drawn} == ({24} if targets == "fixed" else set(range(1, 31)))
    for problem in drawn[::10]:
        assert certify(task, problem, problem.reference).correct
        assert problem.prompt.startswith(f"Make {problem.facts['target']} from ")


def test_where_nearly_all_puzzles_are_held_out_the_generator_gives_only_the_others():
    task = Game24(classic_share=0.0, validation_problems=100, test_problems=1200)
    rng, train = random.Random(0), {puzzle(problem) for problem in task.problems("train")}
    assert len(train) == 62
    assert {puzzle(task.sample(rng)) for _ in range(300)} <= train


def test_the_same_cards_with_another_target_are_another_puzzle():
    task = Game24(classic_share=0.0, generator_targets="random", test_problems=1200)
    rng = random.Random(0)
    cards = {cards for cards, target in held_out(task)}
    assert any(task.sample(rng).facts["cards"] in cards for _ in range(200))


def test_generated_puzzles_can_be_held_out_as_those_of_training_are_drawn():
    options = {"held_out": "generated", "classic_share": 0, "generator_cards": [3, 4], "generator_targets": "random"}
    options |= {"test_problems": 60, "max_value": 50}
    task = Game24(**options)
    held_out = {split: [problem.id for problem in task.problems(split)] for split in ("validation", "test")}
    assert {split: len(set(ids)) for split, ids in held_out.items()} == {"validation": 100, "test": 60}
    rng = random.Random(0)
    drawn = [task.sample(rng) for _ in range(1500)]
    trained = {problem.id for problem in (*drawn, *task.problems("train"))}
    assert not trained & {*held_out["validation"], *held_out["test"]}
    assert not {*held_out["validation"]} & {*held_out["test"]}
    test = task.problems("test")
    assert {len(problem.facts["cards"]) for problem in test} == {3, 4}
    assert len({problem.facts["target"] for problem in test}) > 20
    assert [problem.id for problem in Game24(**options).problems("test")] == held_out["test"]
    with pytest.raises(ValueError, match="classic_share: 0"):
        Game24(held_out="generated")


def test_the_generator_of_the_comparison_has_a_hundred_thousand_puzzles():
    """Four or five cards up to 25, target 24 (benchmarks/rlsf.py); of all such sets a sample is looked at."""
    fewest = 0.0
    for count in (4, 5):
        sets = list(all_card_sets(count, 25))
        share = statistics.mean(solvable(cards, 24) for cards in random.Random(0).sample(sets, 150))
        fewest += len(sets) * (share - 2 * (share * (1 - share) / 150) ** 0.5)
    assert fewest > 100_000


def test_a_generator_without_puzzles_says_so():
    with pytest.raises(ValueError, match=r"no solvable puzzle in .* allow more cards"):
        Game24(classic_share=0.0, generator_cards=(2,), generator_max_card=3).sample(random.Random(0))


# --- demonstrations ---


@given(seeds)
@settings(max_examples=150, deadline=None)
def test_random_solutions_are_certified(seed):
    rng = random.Random(seed)
    problem = TASK.sample(rng)
    text = TASK.random_solution(problem, rng)
    assert certify(TASK, problem, text).correct, text
    assert text == TASK.random_solution(problem, _rng_after_sampling(seed))


def _rng_after_sampling(seed):
    rng = random.Random(seed)
    TASK.sample(rng)
    return rng


@given(seeds, st.sampled_from([0.0, 0.5]), st.sampled_from([3, 4, 5]))
@settings(max_examples=150, deadline=None)
def test_random_play_is_legal_and_at_most_loses(seed, fraction_share, cards):
    task = Game24(classic_share=0.0, generator_cards=(cards,), generator_targets="random", fraction_share=fraction_share)
    task.__dict__["_held_out"] = frozenset()  # spares the enumeration, which is not looked at here
    rng = random.Random(seed)
    problem = task.sample(rng)
    text = task.random_play(problem, rng)
    certificate = certify(task, problem, text)
    assert {finding.kind for finding in certificate.findings} <= {"unreachable"}, (text, certificate)
    assert certificate.measures["step_validity"] == 1
    assert certificate.measures["steps"] == cards - 1
    results = [Fraction(line.split(" = ")[1].split(" ")[0]) for line in text.split("\n")]
    assert all(0 <= result <= task.max_value for result in results)
    if not fraction_share:
        assert all(result.denominator == 1 for result in results)


def test_the_share_of_solutions_is_kept():
    def solved(share):
        task, rng = Game24(solution_share=share), random.Random(0)
        problems = [task.sample(rng) for _ in range(800)]
        return sum(certify(task, problem, task.demonstration(problem, rng)).correct for problem in problems) / 800

    by_chance = solved(0.0)
    assert by_chance < 0.06
    assert solved(1.0) == 1.0
    assert solved(0.5) == pytest.approx(0.5 + by_chance / 2, abs=0.06)


def test_solutions_vary_and_fractions_are_shown_on_request():
    problem = TASK.problem((4, 4, 6, 8), 24)
    assert len({TASK.random_solution(problem, random.Random(seed)) for seed in range(60)}) > 4
    task = Game24(fraction_share=1.0)
    assert any("/" in task.random_play(problem, random.Random(seed)).replace(" / ", " ") for seed in range(40))


def test_lists_in_demonstrations_are_ascending():
    rng = random.Random(0)
    for _ in range(50):
        for line in TASK.demonstration(TASK.sample(rng), rng).split("\n"):
            left = [Fraction(word) for word in line.split("(left: ")[1].rstrip(")").split()]
            assert left == sorted(left)


# --- words and prompts ---


def test_the_vocabulary_is_small_and_holds_every_word_of_prompts_and_legal_play():
    words = list(TASK.vocabulary())
    assert len(words) == len(set(words)) < 400
    rng, missing, count = random.Random(0), Counter(), 0
    for _ in range(1_000):
        problem = TASK.sample(rng)
        play, solution = TASK.random_play(problem, rng), TASK.random_solution(problem, rng)
        split = lambda text: text.replace("\n", " ").replace(")", " ) ").split()  # noqa: E731
        assert set(split(problem.prompt + play)) <= set(words)
        count += len(split(solution))
        missing.update(word for word in split(solution) if word not in words)
    assert sum(missing.values()) < 0.01 * count, "solutions may need a few numbers that play does not"


def test_the_few_shot_prompt_explains_the_format_by_right_examples_that_are_not_held_out():
    task = Game24(prompt_style="few_shot")
    forbidden = {cards for cards, _ in held_out(task)}
    for split in ("train", "validation", "test"):
        for problem in task.problems(split)[:20]:
            *shots, question = problem.prompt.split("Make 24 from ")[1:]
            assert question == " ".join(map(str, problem.facts["cards"])) + "\n"
            assert len(shots) == 3
            for shot in shots:
                cards = tuple(map(int, shot.partition("\n")[0].split()))
                assert cards not in forbidden
                assert cards != problem.facts["cards"]
                assert certify(task, task.problem(cards, 24), shot.partition("\n")[2]).correct
            assert "(left: " in problem.prompt.split("Make 24 from ")[0]


# --- files ---


def test_a_csv_file_gives_the_puzzles(tmp_path):
    path = tmp_path / "24.csv"
    path.write_text("Rank,Puzzles,AMT (s)\n1,1 1 4 6,4.4\n2,8 3 8 3,9\n3,1 1 11 11,4.41\n")
    assert read_puzzles(path) == [(1, 1, 4, 6), (3, 3, 8, 8), (1, 1, 11, 11)]
    task = Game24(data=path, validation_problems=1, test_problems=1)
    found = {problem.facts["cards"] for split in ("train", "validation", "test") for problem in task.problems(split)}
    assert found == {(1, 1, 4, 6), (3, 3, 8, 8), (1, 1, 11, 11)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Rank,Cards\n1,1 1 4 6\n", ":2: expected a column Puzzles, puzzles or numbers, got Rank, Cards"),
        (b"", "holds no rows"),
        (b"Rank,Puzzles\n1,1 1 4 6\n2,1 1 4\n", ":3: expected a puzzle of 4 numbers"),
        (b"Rank,Puzzles\n1,1 1 four 6\n", ":2: expected a puzzle of 4 numbers"),
        (b"Rank,Puzzles\n1\n", ":2: 1 fields where the header has 2"),
        (b"Rank,Puzzles\n1,1 1 4 14\n", ":2: cards lie between 1 and 13"),
        (b"Rank,Puzzles\n1,1 1 4 6\n2,6 4 1 1\n", r":3: the puzzle '1 1 4 6' stands at .*bad\.csv:2 already"),
        (b"Rank,Puzzles\n1,1 1 1 1\n", ":2: the puzzle '1 1 1 1' has no solution for 24"),
        (b"Rank,Puzzles\n1,\xff\xfe\n", ":2: not UTF-8"),
    ],
)
def test_a_bad_csv_file_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_puzzles(path)
    assert str(path) in str(error.value)


def test_a_data_set_on_the_hub_is_read_by_the_same_option_and_what_was_read_is_counted(tmp_path, monkeypatch):
    rows = [{"numbers": list(cards), "solvable": solvable(cards, 24)} for cards in list(all_card_sets(4, 13))[:200]]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    load, files = datasets.load_dataset, {"train": str(tmp_path / "train.jsonl")}
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name, config, split, revision: load("json", data_files=files, split=split, cache_dir=str(tmp_path / "cache")),
    )
    task = Game24(data="nlile/24-game", validation_problems=10, test_problems=20)
    found = {problem.facts["cards"] for split in ("train", "validation", "test") for problem in task.problems(split)}
    assert found == {tuple(row["numbers"]) for row in rows if row["solvable"]}
    assert (task.read.total, task.read.corrupt, task.read.skipped) == (200, [], {UNSOLVABLE: 200 - len(found)})
    assert TASK.read is None


def test_a_share_of_corrupt_rows_that_is_allowed_leaves_the_other_puzzles(tmp_path):
    path = tmp_path / "24.csv"
    path.write_text("Rank,Puzzles\n1,1 1 4 6\n2,3 3 8 8\n3,1 1 11 11\n4,1 one 4 6\n")
    options = {"data": path, "validation_problems": 1, "test_problems": 1}
    with pytest.raises(ValueError, match=r"1 of 4 rows are corrupt, more than max_corrupt = 0\.01 allows"):
        Game24(**options).problems("train")
    task = Game24(**options, max_corrupt=0.3)
    assert [len(task.problems(split)) for split in ("train", "validation", "test")] == [1, 1, 1]
    [told] = task.read.corrupt
    assert told.startswith(f"{path}:5: expected a puzzle of 4 numbers")


@pytest.mark.skipif(not PUBLIC_PUZZLES.is_file(), reason=f"needs the public data: {PUBLIC_PUZZLES}")
def test_the_splits_of_the_public_puzzles_are_a_seeded_shuffle_of_all_of_them():
    with PUBLIC_PUZZLES.open(newline="") as file:
        puzzles = sorted(tuple(sorted(map(int, row["Puzzles"].split()))) for row in csv.DictReader(file))
    random.Random(0).shuffle(puzzles)
    task = Game24(data=PUBLIC_PUZZLES)
    found = {split: [problem.facts["cards"] for problem in task.problems(split)] for split in ("train", "validation", "test")}
    assert found == {"test": puzzles[:300], "validation": puzzles[300:400], "train": puzzles[400:]}
    assert (task.read.total, task.read.corrupt, task.read.skipped) == (len(puzzles), [], {})


def test_what_the_file_holds_out_is_held_out_and_the_rest_is_cut(tmp_path):
    puzzles = [problem.facts["cards"] for problem in Game24().problems("train")][:40]
    path = tmp_path / "24.csv"
    path.write_text(
        "Rank,Puzzles\n" + "".join(f"{rank},{' '.join(map(str, cards))}\n" for rank, cards in enumerate(puzzles, 890))
    )
    task = Game24(data=path, validation_problems=5, test_problems=3)
    found = {split: [problem.facts["cards"] for problem in task.problems(split)] for split in ("train", "validation", "test")}
    assert found["test"] == puzzles[11:]  # ranks 901 to 929, whatever test_problems says
    assert {len(found[split]) for split in ("train", "validation")} == {6, 5}
    assert {*found["train"], *found["validation"]} == set(puzzles[:11])
    with pytest.raises(ValueError, match="11 solvable puzzles cannot give 11 validation problems"):
        Game24(data=path, validation_problems=11).problems("test")


def test_a_missing_csv_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv"):
        Game24(data=tmp_path / "nothing.csv").problems("train")


@pytest.mark.skipif(not PUBLIC_PUZZLES.is_file(), reason=f"needs the public data: {PUBLIC_PUZZLES}")
def test_the_public_puzzles_are_among_the_solvable_ones():
    puzzles = read_puzzles(PUBLIC_PUZZLES)
    ours = {problem.facts["cards"] for split in ("train", "validation", "test") for problem in TASK.problems(split)}
    assert len(puzzles) > 1_200
    assert set(puzzles) <= ours
    assert len(Game24(data=PUBLIC_PUZZLES).problems("train")) == len(puzzles) - 400


# --- arguments ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solution_share": 1.5}, "solution_share is a probability between 0 and 1, got 1.5"),
        ({"classic_share": -0.1}, "classic_share"),
        ({"cards": 7}, "cards lies between 2 and 6"),
        ({"generator_cards": ()}, "generator_cards lies between 2 and 6"),
        ({"generator_cards": (4, 1)}, "generator_cards lies between 2 and 6"),
        ({"max_card": 0}, "max_card is at least 1"),
        ({"max_value": 5}, "max_value"),
        ({"test_problems": -1}, "negative"),
        ({"max_corrupt": 1.0}, "max_corrupt is a share below 1, got 1.0"),
    ],
)
def test_an_argument_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Game24(**options)


def test_splits_larger_than_the_puzzles_are_named():
    with pytest.raises(ValueError, match="1362 solvable puzzles cannot give 1300 test and 100 validation problems"):
        Game24(test_problems=1300).problems("train")
