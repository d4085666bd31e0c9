"""The pool against tools that hang, die, raise, leak and talk; nothing it started may outlive it."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.certificate import MAX_EVIDENCE_CHARACTERS, Certificate, Problem, Status
from lit_symbolic.verifiers.pool import PoolStatistics, VerifierPool
from lit_symbolic.verifiers.pooling import dispatcher
from lit_symbolic.verifiers.pooling.batches import _union_seconds

# The workers get the path too, and must find the verifiers of the tests by the same name.
sys.path.insert(0, str(Path(__file__).parent))
from faulty import GOOD, Echo, Heavy, HoldsTheFirst, Leaky, Obedient, Parent, Pid, Returns, Talkative, Unloadable, Unpicklable
from processes import alive, children, eventually, nothing_is_left, workers  # noqa: F401 - a fixture of every test here

PROBLEM = Problem("test", "0", "?")
OBEDIENT = Obedient()
ROOT = Path(__file__).parents[2]


uncached = partial(VerifierPool, cache_megabytes=0)
"""Most tests count what workers do, also for equal answers."""


def items(*texts: str) -> list[tuple[Problem, str]]:
    return [(PROBLEM, text) for text in texts]


def script(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """A trainer of its own: a script whose __main__ imports torch, as train.py does."""
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    head = "import sys, os, time\nfrom lit_symbolic.verifiers.pool import VerifierPool\nfrom faulty import *\n"
    file = Path(arguments[0]) / "script.py"  # type: ignore[arg-type]
    file.write_text(head + textwrap.dedent(code))
    command = [sys.executable, str(file), *(str(argument) for argument in arguments)]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_certificates_come_in_the_order_of_the_answers() -> None:
    with uncached(workers=3) as pool:
        asked = [(Problem("test", str(i), "?"), f"answer {i} \ud800 é") for i in range(60)]
        certificates = pool.verify(Echo(), asked)
    assert [certificate.evidence for certificate in certificates] == [f"{problem.id}:{text}" for problem, text in asked]


@pytest.mark.parametrize(
    ("fault", "status", "evidence", "restarts"),
    [
        ("hang", Status.TIMEOUT, "stopped after 0.4 s", 1),
        ("hang holding the lock", Status.TIMEOUT, "stopped after 0.4 s", 1),
        ("segfault", Status.CRASHED, "SIGSEGV", 1),
        ("kill", Status.CRASHED, "SIGKILL", 1),
        ("_exit", Status.CRASHED, "exited with code 3", 1),
        ("sys.exit", Status.CRASHED, "SystemExit: 3", 0),
        ("raise", Status.CRASHED, "KeyError: 'no such key'", 0),
        ("raise long", Status.CRASHED, "the end", 0),
        ("overflow", Status.CRASHED, "RecursionError", 0),
        ("memory", Status.CRASHED, "out of memory", 1),
    ],
)
def test_a_fault_is_charged_to_its_answer_alone(fault: str, status: Status, evidence: str, restarts: int) -> None:
    texts = [f"wrong {i}" for i in range(12)]
    with uncached(workers=1, deadline_seconds=0.4 if status is Status.TIMEOUT else 20.0) as pool:
        # Cheap answers first, so that the guilty one is sent together with innocent ones.
        certificates = pool.verify(OBEDIENT, items(*texts, fault, *texts))
        statistics = pool.statistics
    guilty = certificates.pop(12)
    assert [certificate.score for certificate in certificates] == [1 / (i + 2) for i in range(12)] * 2
    assert guilty.status is status
    assert evidence in guilty.evidence
    assert len(guilty.evidence) <= MAX_EVIDENCE_CHARACTERS
    assert not guilty.is_evidence
    assert (statistics.verified, statistics.timeouts, statistics.crashes, statistics.restarts) == (
        24,
        int(status is Status.TIMEOUT),
        int(status is Status.CRASHED),
        restarts,
    )


def test_the_deadline_counts_from_when_a_worker_begins() -> None:
    with uncached(workers=1, deadline_seconds=1.0) as pool:
        certificates = pool.verify(OBEDIENT, items("0.6", "0.6", "hang", "0.6"))
    assert [certificate.status for certificate in certificates] == [Status.OK, Status.OK, Status.TIMEOUT, Status.OK]


def test_a_hang_is_stopped_soon_after_its_deadline() -> None:
    with uncached(workers=1, deadline_seconds=0.3) as pool:
        pool.verify(OBEDIENT, items("good"))
        began = time.monotonic()
        pool.verify(OBEDIENT, items("hang"))
        assert 0.3 <= time.monotonic() - began < 3


def test_time_to_load_a_verifier_is_not_part_of_the_deadline() -> None:
    with uncached(workers=1, deadline_seconds=0.4) as pool:
        assert pool.verify(Heavy(b"x"), items("a"))[0].status is Status.OK


def test_a_verifier_is_sent_to_a_worker_once() -> None:
    with uncached(workers=1) as pool:
        for verifier in (Heavy(bytes(3_000_000)), Heavy(bytes(3_000_000))):  # an equal one is known too
            assert [c.evidence for c in pool.verify(verifier, items(*"a" * 100))] == ["1 3000000"] * 100


def test_more_verifiers_than_a_worker_keeps_are_served() -> None:
    with uncached(workers=1) as pool:
        futures = [
            pool.submit(Returns(Certificate(False, 0.0, evidence=str(i))), PROBLEM, "") for _ in range(2) for i in range(50)
        ]
        assert [future.result().evidence for future in futures] == [str(i) for _ in range(2) for i in range(50)]


def test_answers_larger_than_the_pipe_are_served() -> None:
    texts = [str(i) * size for i in range(5) for size in (1, 3_000_000)]
    with uncached(workers=1) as pool:
        certificates = pool.verify(Echo(), items(*texts))
    assert [certificate.evidence[2] for certificate in certificates] == [text[0] for text in texts]


@pytest.mark.parametrize(("value", "name"), [(None, "NoneType"), (True, "bool"), ({"correct": True}, "dict")])
def test_what_is_no_certificate_is_a_crash(value: object, name: str) -> None:
    with uncached(workers=1) as pool:
        certificate = pool.verify(Returns(value), items("a"))[0]
    assert certificate.status is Status.CRASHED
    assert f"Returns gave {name}" in certificate.evidence


def test_a_certificate_that_cannot_be_pickled_is_a_crash() -> None:
    with uncached(workers=1) as pool:
        crashed, good = pool.submit(Unpicklable(), PROBLEM, ""), pool.submit(OBEDIENT, PROBLEM, "good")
        assert crashed.result().status is Status.CRASHED
        assert "pickle" in crashed.result().evidence
        assert good.result() == GOOD


def test_what_a_verifier_prints_does_not_reach_the_trainers_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with uncached(workers=1) as pool:
        certificates = pool.verify(Talkative(), items("a", "b"))
    assert [len(certificate.evidence) for certificate in certificates] == [MAX_EVIDENCE_CHARACTERS] * 2
    assert "TALK" not in "".join(capfd.readouterr())


def test_a_leak_costs_the_worker_and_not_the_trainer() -> None:
    with uncached(workers=1, memory_megabytes=600) as pool:
        statuses = [certificate.status for certificate in pool.verify(Leaky(), items(*"a" * 12))]
        assert statuses.count(Status.CRASHED) == pool.statistics.restarts > 0
    assert statuses.count(Status.OK) >= 8


@pytest.mark.parametrize(
    ("fault", "status", "evidence"),
    [("raise", Status.CRASHED, "no such key"), ("_exit", Status.CRASHED, "code 3"), ("hang", Status.TIMEOUT, "not loaded")],
)
def test_a_verifier_that_cannot_be_loaded_gives_no_evidence_and_is_tried_no_more(
    fault: str, status: Status, evidence: str
) -> None:
    with uncached(workers=1, start_seconds=4.0) as pool:
        bad = [pool.submit(Unloadable(fault), PROBLEM, "") for _ in range(20)]
        good = pool.submit(OBEDIENT, PROBLEM, "good")
        assert {future.result().status for future in bad} == {status}
        assert evidence in bad[0].result().evidence
        assert good.result() == GOOD
        assert pool.statistics.restarts <= 5


def test_workers_that_do_not_start_are_an_error_and_not_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    with uncached(workers=1) as pool:
        pool.verify(OBEDIENT, items("good"))  # what multiprocessing starts for itself is up
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with uncached(workers=1) as pool, pytest.raises(RuntimeError, match="no verifier worker could be started"):
        pool.verify(OBEDIENT, items("good"))


@pytest.mark.parametrize("fault", ["hang", "segfault"])
@pytest.mark.parametrize("process_group", [None, 0])
def test_children_of_a_verifier_die_with_its_worker(fault: str, process_group: int | None, tmp_path: Path) -> None:
    problem = Problem("test", "0", "?", {"fault": fault, "process_group": process_group})
    with uncached(workers=1, deadline_seconds=3.0) as pool:
        assert not pool.submit(Parent(), problem, str(tmp_path / "pid")).result().is_evidence
        assert eventually(lambda: not alive(int((tmp_path / "pid").read_text())))


def test_close_kills_children_and_cancels_what_is_not_verified(tmp_path: Path) -> None:
    pool = uncached(workers=1, deadline_seconds=100)
    problem = Problem("test", "0", "?", {"fault": "hang"})
    futures = [pool.submit(Parent(), problem, str(tmp_path / "pid")) for _ in range(3)]
    assert eventually((tmp_path / "pid").exists)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 2
    assert eventually(lambda: not alive(int((tmp_path / "pid").read_text())))
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(timeout=1)


def test_a_worker_killed_while_it_starts_or_idles_costs_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tmp_path / "first"
    # Otherwise it could be up, and have given the answer, before the test finds it: that would be one that idles.
    monkeypatch.setattr(dispatcher, "PING", pickle.dumps(HoldsTheFirst(str(first))))
    with uncached(workers=1) as pool:
        future = pool.submit(OBEDIENT, PROBLEM, "good")
        assert eventually(first.exists, seconds=60)
        (starting,) = workers()
        os.kill(starting, signal.SIGKILL)
        assert future.result() == GOOD
        (idle,) = workers()
        os.kill(idle, signal.SIGKILL)
        assert eventually(lambda: idle not in workers())
        assert pool.verify(OBEDIENT, items("good", "good")) == [GOOD] * 2
        assert pool.statistics.restarts == 2, (starting, idle)


def test_a_pool_starts_lazily_closes_twice_and_starts_again() -> None:
    pool = uncached(workers=2)
    pool.close()
    assert not children()
    assert pool.verify(OBEDIENT, items("good")) == [GOOD]
    assert len(children()) == 2
    pool.close()
    pool.close()
    assert not children()
    assert pool.verify(OBEDIENT, items("good")) == [GOOD]
    pool.close()
    assert pool.statistics.verified == 2


def test_an_exception_in_a_with_block_leaves_no_worker() -> None:
    with suppress(ZeroDivisionError), VerifierPool(workers=1) as pool:
        pool.submit(OBEDIENT, PROBLEM, "hang")
        raise ZeroDivisionError
    assert not children()


def test_a_pool_that_is_forgotten_leaves_no_worker() -> None:
    pool = uncached(workers=1)
    pool.verify(OBEDIENT, items("good"))
    del pool
    assert eventually(lambda: not children())
    assert eventually(
        lambda: threading.active_count() == 1 or "verifier-dispatcher" not in {t.name for t in threading.enumerate()}
    )


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda pool: pickle.loads(pickle.dumps(pool))])
def test_a_copy_has_the_settings_and_none_of_the_workers(duplicate: Callable[[VerifierPool], VerifierPool]) -> None:
    with uncached(workers=1, deadline_seconds=3.0, start_seconds=50.0, memory_megabytes=2000) as pool:
        pool.verify(OBEDIENT, items("good"))
        other = duplicate(pool)
        assert (other.workers, other.deadline_seconds, other.start_seconds, other.memory_megabytes) == (1, 3.0, 50.0, 2000)
        assert other.statistics == PoolStatistics()
        other.close()
        assert pool.verify(OBEDIENT, items("good")) == [GOOD]


def test_a_cancelled_answer_is_not_verified() -> None:
    with uncached(workers=1) as pool:
        first, second, third = (pool.submit(OBEDIENT, PROBLEM, text) for text in ("0.5", "hang", "good"))
        assert second.cancel()
        assert (first.result(), third.result()) == (GOOD, GOOD)


def test_submitting_returns_at_once_and_may_be_done_by_many_threads() -> None:
    with uncached(workers=2) as pool:
        began = time.monotonic()
        future = pool.submit(OBEDIENT, PROBLEM, "0.5")
        assert time.monotonic() - began < 0.4
        results: dict[int, list[Certificate]] = {}

        def submit_some(i: int) -> None:
            results[i] = pool.verify(OBEDIENT, items(*[f"wrong {i}"] * 30))

        threads = [threading.Thread(target=submit_some, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all([c.score for c in results[i]] == [1 / (i + 2)] * 30 for i in range(6))
        assert future.result() == GOOD


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"workers": 0}, "workers"),
        ({"workers": 1.5}, "workers"),
        ({"deadline_seconds": 0}, "deadline_seconds"),
        ({"deadline_seconds": float("nan")}, "deadline_seconds"),
        ({"deadline_seconds": float("inf")}, "deadline_seconds"),
        ({"start_seconds": -1}, "start_seconds"),
        ({"memory_megabytes": 0}, "memory_megabytes"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        VerifierPool(**arguments)  # type: ignore[arg-type]


def test_what_cannot_be_sent_to_a_worker_is_refused_at_once() -> None:
    with uncached(workers=1) as pool:
        with pytest.raises(TypeError, match="Returns cannot be sent"):
            pool.submit(Returns(threading.Lock()), PROBLEM, "")
        with pytest.raises(TypeError, match="problem '7'"):
            pool.submit(OBEDIENT, Problem("test", "7", "?", {"lock": threading.Lock()}), "")


def test_hidden_and_waited_seconds_are_those_of_known_sleeps() -> None:
    with uncached(workers=2) as pool:
        pool.verify(OBEDIENT, items("0.05", "0.05"))  # both workers are up
        batch = pool.batch()
        batch.add(5, OBEDIENT, PROBLEM, "0.2")  # two at a time: hidden 0.2 s, busy 0.4 s
        batch.add(3, OBEDIENT, PROBLEM, "0.2")
        time.sleep(0.5)
        batch.add(1, OBEDIENT, PROBLEM, "0.6")  # hidden 0.3 s, waited 0.3 s
        batch.add(4, OBEDIENT, PROBLEM, "wrong 0")
        time.sleep(0.3)
        result = batch.wait()
    assert [certificate.correct for certificate in result.certificates] == [True, True, False, True]
    assert result.seconds_hidden == pytest.approx(0.5, abs=0.15)
    assert result.seconds_waited == pytest.approx(0.3, abs=0.15)
    assert result.seconds_busy == pytest.approx(1.0, abs=0.15)


def test_a_batch_without_answers_is_empty_and_an_index_is_used_once() -> None:
    with uncached() as pool:
        batch = pool.batch()
        assert batch.wait().certificates == []
        batch.add(0, OBEDIENT, PROBLEM, "good")
        with pytest.raises(ValueError, match="row 0"):
            batch.add(0, OBEDIENT, PROBLEM, "good")
        assert len(batch) == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))))
def test_the_union_of_intervals_is_that_of_their_unit_cells(intervals: list[tuple[int, int]]) -> None:
    cells = {cell for began, ended in intervals for cell in range(began, ended)}
    assert _union_seconds(iter(intervals)) == len(cells)


def test_no_torch_in_a_worker_of_a_trainer_that_imports_it(tmp_path: Path) -> None:
    code = """
    import torch
    from lit_symbolic.certificate import Certificate, Problem

    class Here:  # a verifier that a user wrote into the script itself
        def verify(self, problem, text):
            return Modules().verify(problem, text)

    pool = VerifierPool(workers=1, cache_megabytes=0)   # neither closed nor in a with-block: interpreter exit closes it
    for verifier in (Modules(), Here()):
        print(pool.verify(verifier, [(Problem("t", "0", "?"), "")])[0].evidence)
    pool.submit(Obedient(), Problem("t", "0", "?"), "hang")
    """
    trainer = script(code, tmp_path)
    out, err = trainer.communicate(timeout=60)
    assert (out.splitlines(), trainer.returncode) == (["[] 1 True"] * 2, 0), err


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_trainer_however_it_ends(end: signal.Signals, tmp_path: Path) -> None:
    code = """
    import signal
    from lit_symbolic.certificate import Problem
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what it puts in the background without it
    with VerifierPool(workers=2, deadline_seconds=1000, cache_megabytes=0) as pool:
        pool.verify(Obedient(), [(Problem("t", "0", "?"), "0.1")] * 2)
        futures = [pool.submit(Obedient(), Problem("t", "0", "?"), "hang holding the lock") for _ in range(5)]
        print("up", flush=True)
        futures[0].result()
    """
    trainer = script(code, tmp_path)
    assert trainer.stdout is not None
    assert trainer.stdout.readline() == "up\n"
    time.sleep(0.2)
    of_trainer = children(trainer.pid)
    assert len(of_trainer) == 2
    trainer.send_signal(end)
    _, err = trainer.communicate(timeout=20)  # ends only when nobody holds its pipes any more
    assert trainer.returncode == -end, err
    assert eventually(lambda: not any(alive(pid) for pid in of_trainer), seconds=2)


def test_the_interrupt_of_a_terminal_does_not_reach_the_workers() -> None:
    with uncached(workers=1) as pool:
        pid = int(pool.verify(Pid(), items(""))[0].evidence)
        assert os.getpgid(pid) == pid != os.getpgid(0)
        os.kill(pid, signal.SIGINT)
        assert pool.verify(Pid(), items(""))[0].evidence == str(pid)
        assert pool.statistics.restarts == 0
