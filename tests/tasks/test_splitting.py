"""Splits by hash: each problem has one, for ever, and the shares are kept."""

import random
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.tasks.splitting import HELD_OUT_SHARES, ProblemGenerator, split_of


def number(rng):
    return rng.randrange(100_000)


@given(st.text(), st.integers(0, 5))
def test_a_problem_has_one_split(key, seed):
    assert split_of(key, seed) == split_of(key, seed)
    assert split_of(key, seed) in ("train", "validation", "test")


def test_the_split_is_the_same_in_another_process():
    keys = [f"{k} + é" for k in range(50)]
    code = f"from lit_symbolic.tasks.splitting import split_of; print([split_of(key, 3) for key in {keys!a}])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == str([split_of(key, 3) for key in keys])


def test_shares_are_kept_and_seeds_cut_differently():
    counts = Counter(split_of(str(k)) for k in range(20_000))
    for split, share in HELD_OUT_SHARES.items():
        assert counts[split] / 20_000 == pytest.approx(share, abs=0.01)
    assert sum(split_of(str(k)) == "test" == split_of(str(k), 1) for k in range(20_000)) < 400


def test_drawn_problems_are_of_their_split_and_differ():
    found = {split: list(islice(ProblemGenerator(number, str, 1).split(split), 300)) for split in ("train", "validation", "test")}
    for split, numbers in found.items():
        assert {split_of(str(each), 1) for each in numbers} == {split}
        assert len(set(numbers)) == 300
    assert found["test"][:100] == list(islice(ProblemGenerator(number, str, 1).split("test"), 100))
    assert found["test"] != list(islice(ProblemGenerator(number, str, 2).split("test"), 300))


def test_two_problems_of_one_normal_form_are_one():
    found = list(islice(ProblemGenerator(number, lambda each: str(each // 10)).split("test"), 200))
    assert len({each // 10 for each in found}) == 200


def test_training_draws_are_never_held_out():
    rng = random.Random(0)
    assert {split_of(str(ProblemGenerator(number, str, 4).one(rng)), 4) for _ in range(500)} == {"train"}


def test_a_generator_that_repeats_itself_says_so():
    with pytest.raises(ValueError, match=r"no test problem beside \d+; widen"):
        list(ProblemGenerator(lambda rng: rng.randrange(40), str).split("test"))
    held_out = next(str(k) for k in range(100) if split_of(str(k)) == "test")
    with pytest.raises(ValueError, match="no training problem in"):
        ProblemGenerator(lambda rng: held_out, str).one(random.Random(0))
