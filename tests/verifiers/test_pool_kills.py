"""Two hundred workers killed at random, tools that crash natively, and what remains of them: nothing."""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.pool import Verification, VerifierPool
from lit_symbolic.verifiers.pooling.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parent))
from faulty import GOOD, Littering, Obedient, Solver
from processes import children, eventually, nothing_is_left, workers  # noqa: F401 - a fixture of every test here

PROBLEM = Problem("test", "0", "?")
KILLS = 200


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for all temporary files of this process and of those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def shared_memory() -> set[str]:
    """What this process has there: the names that the standard library and loky give contain its id."""
    return {name for name in os.listdir("/dev/shm") if str(os.getpid()) in name}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def right(number: int) -> Certificate:
    text = str(number)
    return Certificate(False, 1 / (number + 2), (Finding(0, len(text), "goal", text),), {"number": float(number)})


def test_workers_killed_at_random_cost_their_answer_at_most_and_leave_nothing(temporary: Path) -> None:
    with VerifierPool(workers=1) as pool:
        pool.verify(Obedient(), [(PROBLEM, "good")])  # what multiprocessing starts for itself is up
    rng, before = random.Random(0), (shared_memory(), descriptors())
    answers: list[Verification] = []
    with VerifierPool(workers=2) as pool:
        for kill in range(KILLS):
            while len(answers) - pool.statistics.verified - pool.statistics.crashes < 20:
                answers.append(pool.submit(Littering(), PROBLEM, str(len(answers))))
            verified = pool.statistics.verified
            if kill % 2:  # every other time when workers are at work, or a slow machine would see them start only
                assert eventually(lambda verified=verified: pool.statistics.verified > verified, seconds=60)
            while not (running := workers()):
                time.sleep(0.01)
            os.kill(rng.choice(running), signal.SIGKILL)  # starting, loading, busy or idle
            time.sleep(rng.random() * 0.05)
        certificates = [answer.result(timeout=30) for answer in answers]
        statistics = pool.statistics
        crashed = [number for number, certificate in enumerate(certificates) if certificate.status is Status.CRASHED]
        assert all(certificates[n] == right(n) for n in range(len(answers)) if n not in crashed)
        assert all("SIGKILL" in certificates[number].evidence for number in crashed)
        assert (statistics.verified, statistics.crashes) == (len(answers) - len(crashed), len(crashed))
        assert 0 < len(crashed) <= KILLS
        assert len(answers) - len(crashed) > KILLS / 2
        assert KILLS / 2 < statistics.restarts <= KILLS
        # No crash was kept: asked again, they are verified.
        assert pool.verify(Littering(), [(PROBLEM, str(number)) for number in crashed]) == [right(n) for n in crashed]
        assert len(children()) <= 2  # no zombie
        assert len(list(temporary.iterdir())) == 1
        assert len(list(temporary.glob("*/worker-*"))) <= 2
    assert not children()
    assert not list(temporary.iterdir())
    assert eventually(lambda: (shared_memory(), descriptors()) == before), (shared_memory(), descriptors(), before)


def test_a_native_crash_ends_a_worker_and_not_the_trainer(temporary: Path) -> None:
    with VerifierPool(workers=1) as pool:
        crashed, good = pool.verify(Obedient(), [(PROBLEM, "segfault"), (PROBLEM, "good")])
    assert (crashed.status, good) == (Status.CRASHED, GOOD)
    assert "SIGSEGV" in crashed.evidence
    assert not list(temporary.iterdir())


def test_a_solver_that_overruns_its_own_limit_is_stopped_by_the_pools() -> None:
    pytest.importorskip("z3", reason="needs z3: pip install z3-solver")
    with VerifierPool(workers=1, deadline_seconds=2.0) as pool:
        began = time.monotonic()
        certificates = pool.verify(Solver(), [(PROBLEM, text) for text in ("49", "7" * 1_000_000, "50")])
        assert time.monotonic() - began < 20
    assert [c.status for c in certificates] == [Status.OK, Status.TIMEOUT, Status.OK]
    assert [c.correct for c in certificates] == [True, False, False]


def test_the_folder_of_a_trainer_that_was_killed_is_removed_by_the_next_pool(temporary: Path) -> None:
    in_use, orphan, young = Workspace(), temporary / "lit-symbolic-pool-orphan", temporary / "lit-symbolic-pool-young"
    for folder in (orphan, young):
        (folder / "worker-1").mkdir(parents=True)
    other = temporary / "of-another-program"
    other.mkdir()
    for folder in (in_use.path, orphan, other):
        os.utime(folder, (0, 0))
    with VerifierPool(workers=1) as pool:
        assert pool.verify(Obedient(), [(PROBLEM, "good")]) == [GOOD]
    assert set(temporary.iterdir()) == {in_use.path, young, other}
    in_use.close()
    assert set(temporary.iterdir()) == {young, other}
