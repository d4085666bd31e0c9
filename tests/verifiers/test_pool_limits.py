"""A deadline for a whole batch, and a bound on the answers that are out at a time."""

import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from lit_symbolic.certificate import Certificate, Problem, Status
from lit_symbolic.verifiers.pool import Verification, VerifierPool

sys.path.insert(0, str(Path(__file__).parent))
from faulty import GOOD, Counted, Obedient
from processes import eventually, nothing_is_left  # noqa: F401 - a fixture of every test here

PROBLEM = Problem("test", "0", "?")
OBEDIENT = Obedient()


def statuses(certificates: list[Certificate]) -> list[str]:
    return [str(certificate.status) for certificate in certificates]


@pytest.mark.parametrize("fault", ["hang", "hang holding the lock"])
def test_what_is_not_verified_when_the_batchs_time_is_over_has_no_evidence(fault: str, tmp_path: Path) -> None:
    counted = Counted(str(tmp_path / "calls"))
    with VerifierPool(workers=1, deadline_seconds=1000, batch_deadline_seconds=0.5) as pool:
        batch = pool.batch()
        batch.add(0, OBEDIENT, PROBLEM, "good")
        batch.add(1, OBEDIENT, PROBLEM, fault)
        batch.add(2, counted, PROBLEM, "queued behind it")
        assert eventually(lambda: pool.statistics.verified == 1 and batch._pending[1].running(), seconds=60)
        began = time.monotonic()
        result = batch.wait()
        assert 0.4 < time.monotonic() - began < 60
        assert statuses(result.certificates) == ["ok", "timeout", "timeout"]
        assert "the batch's 0.5 s" in result.certificates[1].evidence
        # The worker that was busy with it was replaced, and others have all their time.
        assert pool.submit(OBEDIENT, PROBLEM, "wrong 3").result().score == 0.2
        statistics = pool.statistics
        assert (statistics.verified, statistics.timeouts, statistics.crashes, statistics.restarts) == (2, 2, 0, 1)
    assert counted.calls() == []


def test_a_batch_that_is_over_does_not_disturb_another() -> None:
    with VerifierPool(workers=1, deadline_seconds=1000, batch_deadline_seconds=0.6, cache_megabytes=0) as pool:
        late = pool.batch()
        late.add(0, OBEDIENT, PROBLEM, "hang")
        others = [pool.submit(OBEDIENT, PROBLEM, f"wrong {i}") for i in range(50)]  # of no batch, behind it
        assert statuses(late.wait().certificates) == ["timeout"]
        assert [other.result().score for other in others] == [1 / (i + 2) for i in range(50)]


def test_an_answer_for_which_another_batch_still_waits_goes_on(tmp_path: Path) -> None:
    counted = Counted(str(tmp_path / "calls"), seconds=1.5)
    with VerifierPool(workers=1, batch_deadline_seconds=0.5) as pool:
        patient = pool.submit(counted, PROBLEM, "a")
        batch = pool.batch()
        batch.add(0, counted, PROBLEM, "a")
        assert statuses(batch.wait().certificates) == ["timeout"]
        assert patient.result().evidence == PROBLEM.id
        assert pool.statistics.restarts == 0
    assert counted.calls() == ["a"]


def test_time_that_a_full_pool_makes_the_caller_stand_is_the_batchs(tmp_path: Path) -> None:
    counted = Counted(str(tmp_path / "calls"))
    with VerifierPool(workers=1, deadline_seconds=1000, batch_deadline_seconds=0.5, max_outstanding=1) as pool:
        batch = pool.batch()
        batch.add(0, OBEDIENT, PROBLEM, "hang")
        began = time.monotonic()
        for row in range(1, 20):
            batch.add(row, counted, PROBLEM, str(row))
        assert 0.4 < time.monotonic() - began < 60
        assert statuses(batch.wait().certificates) == ["timeout"] * 20
        assert pool.statistics.timeouts == 20
        assert pool.submit(OBEDIENT, PROBLEM, "good").result() == GOOD
    assert counted.calls() == []


def test_verify_keeps_the_batchs_deadline_and_gives_every_answer_a_certificate() -> None:
    with VerifierPool(workers=2, deadline_seconds=1000, batch_deadline_seconds=1.0) as pool:
        known = [pool.submit(OBEDIENT, PROBLEM, f"wrong {i}") for i in range(30)]
        assert [verification.result().correct for verification in known] == [False] * 30
        began = time.monotonic()
        certificates = pool.verify(OBEDIENT, ((PROBLEM, text) for text in ["hang", *(f"wrong {i}" for i in range(30))] * 2))
        assert 0.9 < time.monotonic() - began < 60
        assert statuses(certificates) == ["timeout", *["ok"] * 30] * 2
        assert pool.statistics.timeouts == 2


def test_a_worker_is_never_blamed_for_being_stopped_with_a_batch() -> None:
    rng = random.Random(1)
    with VerifierPool(workers=2, cache_megabytes=0) as pool:
        innocent: list[Verification] = []
        while pool.statistics.restarts < 15:
            doomed = pool.batch(deadline_seconds=0.01)
            for row in range(6):
                doomed.add(row, OBEDIENT, PROBLEM, f"{rng.choice([0.001, 0.01, 0.04, 0.05]):g}")
            innocent += [pool.submit(OBEDIENT, PROBLEM, "0.001") for _ in range(6)]
            time.sleep(rng.random() * 0.1)
            assert {"ok", "timeout"} >= set(statuses(doomed.wait().certificates))
        assert [verification.result(timeout=60) for verification in innocent] == [GOOD] * len(innocent)
        statistics = pool.statistics
        assert (statistics.crashes, statistics.verified + statistics.timeouts) == (0, 2 * len(innocent))


def test_answers_are_drawn_from_a_generator_only_as_there_is_room() -> None:
    ahead = []
    with VerifierPool(workers=2, max_outstanding=16) as pool:

        def answers() -> Iterator[tuple[Problem, str]]:
            for i in range(3000):
                ahead.append(i - pool.statistics.verified)
                yield PROBLEM, f"wrong {i}"

        certificates = pool.verify(OBEDIENT, answers())
    assert [certificate.score for certificate in certificates] == [1 / (i + 2) for i in range(3000)]
    assert max(ahead) == 16


def test_a_slow_first_answer_does_not_pile_up_those_behind_it() -> None:
    with VerifierPool(workers=2, max_outstanding=8) as pool:
        drawn = 0

        def answers() -> Iterator[tuple[Problem, str]]:
            nonlocal drawn
            yield PROBLEM, "4"
            for i in range(2000):
                drawn += 1
                yield PROBLEM, f"wrong {i}"

        thread = threading.Thread(target=lambda: pool.verify(OBEDIENT, answers()))
        thread.start()
        assert eventually(lambda: drawn >= 16, seconds=60)
        time.sleep(0.2)
        assert drawn == 16
        thread.join()
    assert drawn == 2000


def test_a_full_pool_makes_the_one_thread_that_samples_and_waits_stand_and_no_more() -> None:
    with VerifierPool(workers=2, max_outstanding=3) as pool:
        for _ in range(3):
            batch = pool.batch()
            for row in range(50):
                batch.add(row, OBEDIENT, PROBLEM, f"wrong {row}")
            assert [c.score for c in batch.wait().certificates] == [1 / (row + 2) for row in range(50)]


def test_a_callback_may_submit_to_a_full_pool() -> None:
    more: list[Verification] = []
    with VerifierPool(workers=1, max_outstanding=1, cache_megabytes=0) as pool:
        for _ in range(5):
            first = pool.submit(OBEDIENT, PROBLEM, "0.01")
            first.add_done_callback(lambda _: more.append(pool.submit(OBEDIENT, PROBLEM, "good")))
        assert eventually(lambda: len(more) == 5, seconds=60)
        assert [verification.result(timeout=60) for verification in more] == [GOOD] * 5


def test_closing_a_full_pool_wakes_those_who_wait_for_room() -> None:
    pool = VerifierPool(workers=1, max_outstanding=1, deadline_seconds=1000)
    pool.submit(OBEDIENT, PROBLEM, "hang")
    ended: list[BaseException] = []

    def bring_another() -> None:
        try:
            pool.submit(OBEDIENT, PROBLEM, "good")
        except CancelledError as error:
            ended.append(error)

    thread = threading.Thread(target=bring_another)
    thread.start()
    time.sleep(0.3)
    assert not ended
    pool.close()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert len(ended) == 1
    assert pool.verify(OBEDIENT, [(PROBLEM, "good")]) == [GOOD]
    pool.close()


def test_cancelled_answers_make_room() -> None:
    with VerifierPool(workers=1, max_outstanding=4) as pool:
        busy = pool.submit(OBEDIENT, PROBLEM, "0.5")
        assert eventually(busy.running, seconds=60)
        queued = [pool.submit(OBEDIENT, PROBLEM, f"{100 + i}") for i in range(3)]
        assert all(verification.cancel() for verification in queued)
        assert pool.verify(OBEDIENT, [(PROBLEM, f"wrong {i}") for i in range(10)])[9].score == 1 / 11
        assert pool._ledger.outstanding == 0


@pytest.mark.parametrize(
    "arguments",
    [{"batch_deadline_seconds": 0.0}, {"max_outstanding": 0}, {"cache_megabytes": -1}, {"cache_disk_megabytes": 0}],
)
def test_a_limit_out_of_its_range_is_named(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        VerifierPool(**arguments)  # type: ignore[arg-type]


def test_the_deadline_of_an_answer_holds_within_that_of_its_batch() -> None:
    with VerifierPool(workers=1, deadline_seconds=0.3, batch_deadline_seconds=30) as pool:
        certificates = pool.verify(OBEDIENT, [(PROBLEM, "hang"), (PROBLEM, "good")])
    assert [c.status for c in certificates] == [Status.TIMEOUT, Status.OK]
    assert "stopped after 0.3 s" in certificates[0].evidence


def test_answers_sent_ahead_to_a_worker_that_hangs_are_verified_by_another() -> None:
    with VerifierPool(workers=2, deadline_seconds=1000, cache_megabytes=0) as pool:
        pool.verify(OBEDIENT, [(PROBLEM, f"wrong {i}") for i in range(200)])  # cheap ones: more are sent ahead
        batch = pool.batch(deadline_seconds=0.5)
        for row in range(41):
            batch.add(row, OBEDIENT, PROBLEM, f"wrong {row}" if row else "hang")
        hang, *behind = batch._pending.values()
        assert [verification.result(timeout=60).score for verification in behind] == [1 / (i + 2) for i in range(1, 41)]
        assert not hang.done()
        assert statuses(batch.wait().certificates) == ["timeout", *["ok"] * 40]
        assert eventually(lambda: pool.statistics.restarts == 1, seconds=60)
        statistics = pool.statistics
        assert (statistics.verified, statistics.timeouts, statistics.crashes) == (240, 1, 0)
