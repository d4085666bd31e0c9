"""The README's own task does what the README says of it."""

import random
import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def parity() -> Any:
    code = re.search(r"```python\n(# lit_symbolic/tasks/parity\.py.*?)```", README.read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {"__name__": "parity"}
    exec(code.group(1), names)
    return names["Parity"]()


def test_its_demonstrations_are_certified_and_its_splits_are_apart(parity: Any) -> None:
    splits = [{problem.id for problem in parity.problems(split)} for split in ("train", "validation", "test")]
    assert all(splits)
    assert sum(map(len, splits)) == len(set.union(*splits))
    rng = random.Random(0)
    problem = parity.sample(rng)
    for _ in range(100):
        text = parity.demonstration(problem, rng)
        assert parity.verifier.verify(problem, text).correct == (int(text) % 2 == 0)


@pytest.mark.parametrize(("text", "start", "end"), [("12x", 2, 3), ("", 0, 0), ("123", 2, 3)])
def test_its_findings_point_at_the_fault(parity: Any, text: str, start: int, end: int) -> None:
    (finding,) = parity.verifier.verify(parity.problems("test")[0], text).findings
    assert (finding.start, finding.end) == (start, end)
