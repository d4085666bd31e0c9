import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_symbolic.tasks.splitting import split_of


def test_a_short_count_of_the_generators_runs(
    run_script: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import generators

    monkeypatch.setattr(generators, "QUICK", 40)
    run_script("generators", "--quick", str(tmp_path), "--side-by-side", "1")
    for name in generators.TASKS:
        cell = json.loads((tmp_path / "results" / "generators" / f"{name}.json").read_text())
        assert cell["different"] == sum(cell["splits"].values()) == 40 <= cell["draws"]
        assert cell["in_two_splits"] == 0
        assert f"| {name} | " in (tmp_path / "results" / "generators.md").read_text()


def test_different_problems_are_counted_by_their_normal_form(monkeypatch: pytest.MonkeyPatch) -> None:
    import generators
    from lit_symbolic.tasks.splitting import ProblemGenerator

    drawn: list[int] = []

    class Numbers:
        generator = ProblemGenerator(lambda rng: drawn.append(rng.randrange(50_000)) or drawn[-1], lambda n: str(n // 10))

    monkeypatch.setitem(generators.TASKS, "numbers", ("tens", Numbers))
    found = generators.count("numbers", 3_000)
    keys = [str(n // 10) for n in drawn[: found["draws"]]]
    assert len(set(keys)) == found["different"] == 3_000
    assert len(set(keys[:-1])) == 2_999
    assert found["splits"] == {
        split: sum(split_of(key) == split for key in set(keys)) for split in ("train", "validation", "test")
    }


def test_the_population_is_that_which_gives_so_many_repetitions() -> None:
    import generators

    rng = random.Random(0)
    draws = [rng.randrange(5_000) for _ in range(4_000)]
    assert generators._population(len(set(draws)), len(draws)) == pytest.approx(5_000, rel=0.1)
