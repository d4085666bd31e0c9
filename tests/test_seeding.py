# ruff: noqa: NPY002 - the legacy generator of NumPy is one of those that are seeded
import os
import random
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from lightning import seed_everything

from lit_symbolic.seeding import generator_for, run_seed, seed_for, seed_globals


@pytest.fixture(autouse=True)
def restored_generators() -> Iterator[None]:
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])


def drawn() -> tuple[float, float, float]:
    return torch.rand(()).item(), float(np.random.rand()), random.random()


def test_seeds_differ_for_every_purpose_iteration_and_rank() -> None:
    purposes = ("sampling", "problems", "minibatches")
    parts = [(seed, purpose, i, rank) for seed in range(3) for purpose in purposes for i in range(50) for rank in range(3)]
    seeds = {seed_for(*part) for part in parts}
    assert len(seeds) == len(parts)
    # torch's generator on the CPU takes in the lower half only.
    assert len({seed % 2**32 for seed in seeds}) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_for(1, 23) != seed_for(12, 3)
    assert seed_for("a", "b") != seed_for("b", "a")


def test_a_seed_is_the_same_in_every_process_and_for_ever() -> None:
    code = "from lit_symbolic.seeding import seed_for; print(seed_for(0, 'sampling', 1, 0))"
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(other.stdout) == seed_for(0, "sampling", 1, 0) == 1427456250209080177


def test_the_global_generators_start_anew_whatever_was_drawn_before() -> None:
    seed_globals(0, 5, 0)
    first = drawn()
    drawn()
    seed_globals(0, 5, 0)
    assert drawn() == first
    seed_globals(0, 6, 0)
    assert all(one != other for one, other in zip(drawn(), first, strict=True))


def test_a_generator_of_its_own_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    first, again = (torch.rand(4, generator=generator_for(0, "sampling", 1)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.rand(4, generator=generator_for(0, "sampling", 2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_runs_seed_is_what_lightning_was_given_and_zero_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert run_seed() == 0
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    seed_everything(37, verbose=False)
    assert run_seed() == 37
