"""The pool on Ray: a head without processors and two nodes with one each, all on this machine; a third is killed."""

import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lit_symbolic import verify
from lit_symbolic.certificate import Certificate, Problem, Status
from lit_symbolic.verifiers import ray_pool
from lit_symbolic.verifiers.pool import AnswerPool, VerifierPool
from lit_symbolic.verifiers.ray_pool import RayVerifierPool

sys.path.insert(0, str(Path(__file__).parent))
from faulty import GOOD, Counted, Echo, HarmsItsParent, Modules, Obedient, Unloadable
from processes import alive, eventually

PROBLEM = Problem("test", "0", "?")
OBEDIENT = Obedient()
OBJECT_STORE = 80 * 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="needs ray: pip install 'lit-symbolic[ray]'")
    folder = tempfile.mkdtemp(prefix="ray-")  # short: paths of sockets are limited to 107 bytes
    (Path(folder) / "ray").mkdir()  # Ray notes there which cluster was started last
    # A node that is killed leaves the folders of its workers: here, and not in the system's.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield from started(folder)


def started(folder: str) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder, "object_store_memory": OBJECT_STORE}
    cluster = Cluster()
    try:
        cluster.add_node(**head)
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def pool_on(cluster: Any, **options: Any) -> RayVerifierPool:
    settings: dict[str, Any] = {"workers": 2, "cache_megabytes": 0, "address": cluster.address, **options}
    return RayVerifierPool(**settings)


def test_certificates_come_in_the_order_of_the_answers_and_workers_end_with_the_pool(cluster: Any) -> None:
    import ray

    with pool_on(cluster) as pool:
        asked = [(Problem("test", str(i), "?"), f"answer {i} \ud800 é") for i in range(60)]
        assert [c.evidence for c in pool.verify(Echo(), asked)] == [f"{problem.id}:{text}" for problem, text in asked]
        heavy, threads, leader = pool.verify(Modules(), [(PROBLEM, "")])[0].evidence.rsplit(" ", 2)
        assert ("torch" in heavy, threads, leader) == (False, "1", "True")
        assert isinstance(pool, AnswerPool)
        assert pool.statistics.verified == 61
    assert not ray.is_initialized()  # what the pool connected, it disconnects


def test_a_fault_is_charged_to_its_answer_alone(cluster: Any) -> None:
    faults = {
        "hang": (Status.TIMEOUT, "stopped after 3 s"),
        "hang holding the lock": (Status.TIMEOUT, "stopped after 3 s"),
        "segfault": (Status.CRASHED, "SIGSEGV"),
        "raise": (Status.CRASHED, "no such key"),
        "memory": (Status.CRASHED, "out of memory"),
    }
    texts = [text for fault in faults for text in (fault, *(f"wrong {i}" for i in range(8)))]
    with pool_on(cluster, deadline_seconds=3.0) as pool:
        certificates = pool.verify(OBEDIENT, [(PROBLEM, text) for text in texts])
        statistics = pool.statistics
    for text, certificate in zip(texts, certificates, strict=True):
        if text in faults:
            status, evidence = faults[text]
            assert certificate.status is status
            assert evidence in certificate.evidence
        else:
            assert certificate.score == 1 / (int(text.split()[1]) + 2)
    assert (statistics.verified, statistics.timeouts, statistics.crashes, statistics.restarts) == (40, 2, 3, 4)


def test_a_verifier_that_cannot_be_loaded_gives_no_evidence(cluster: Any) -> None:
    with pool_on(cluster) as pool:
        bad = pool.verify(Unloadable("raise"), [(PROBLEM, "a")] * 3)
        assert pool.verify(OBEDIENT, [(PROBLEM, "good")]) == [GOOD]
    assert [certificate.status for certificate in bad] == [Status.CRASHED] * 3
    assert "no such key" in bad[0].evidence


def test_an_actor_that_does_not_reply_is_killed_and_replaced(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pool, "GRACE_SECONDS", 2.0)
    with pool_on(cluster, deadline_seconds=2.0) as pool:
        stopped, *good = pool.verify(HarmsItsParent(), [(PROBLEM, text) for text in ("SIGSTOP", "a", "b")])
        assert (stopped.status, good) == (Status.TIMEOUT, [GOOD] * 2)
        assert pool.statistics.restarts == 1


def test_an_answer_whose_actor_dies_each_time_is_given_up_after_a_bounded_number_of_tries(cluster: Any) -> None:
    with pool_on(cluster) as pool:
        dead, *good = pool.verify(HarmsItsParent(), [(PROBLEM, text) for text in ("SIGKILL", "a", "b")])
        assert (dead.status, good) == (Status.CRASHED, [GOOD] * 2)
        assert pool.statistics.restarts == 1 + pool.max_losses


def test_a_batchs_deadline_and_the_cache_are_as_on_one_machine(cluster: Any, tmp_path: Path) -> None:
    counted = Counted(str(tmp_path / "calls"))
    with pool_on(cluster, deadline_seconds=1000.0, cache_megabytes=1) as pool:
        first = pool.verify(counted, [(PROBLEM, "a")])
        assert pool.verify(counted, [(PROBLEM, "a")] * 3) == first * 3
        assert (counted.calls(), pool.statistics.hits) == (["a"], 3)
        batch = pool.batch(deadline_seconds=1.0)
        batch.add(1, OBEDIENT, PROBLEM, "hang")
        batch.add(0, counted, PROBLEM, "a")
        began = time.monotonic()
        assert [c.status for c in batch.wait().certificates] == [Status.OK, Status.TIMEOUT]
        assert time.monotonic() - began < 60
        assert pool.submit(OBEDIENT, PROBLEM, "good").result() == GOOD


def test_answers_of_a_node_that_is_killed_are_verified_on_another(cluster: Any) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
    with pool_on(cluster, workers=3, deadline_seconds=60.0) as pool:
        # Each worker has a node of its own; wait until all are up.
        assert eventually(lambda: _all_up(pool), seconds=120)
        texts = [f"wrong {i}" for i in range(60)]
        answers = [pool.submit(OBEDIENT, PROBLEM, "0.4") for _ in range(12)]
        answers += [pool.submit(OBEDIENT, PROBLEM, text) for text in texts]
        assert eventually(lambda: answers[1].done(), seconds=60)
        cluster.remove_node(node, allow_graceful=False)
        certificates: list[Certificate] = [answer.result(timeout=120) for answer in answers]
        assert certificates[:12] == [GOOD] * 12
        assert [certificate.score for certificate in certificates[12:]] == [1 / (i + 2) for i in range(60)]
        assert eventually(lambda: pool.statistics.restarts >= 1, seconds=60)
        # There is no room for a third worker any more; the other two go on.
        assert pool.verify(OBEDIENT, [(PROBLEM, f"wrong {i}") for i in range(50)])[49].score == 1 / 51


def _all_up(pool: RayVerifierPool) -> bool:
    pool.verify(OBEDIENT, [(PROBLEM, "0.2")] * 3)
    live = pool._live
    assert live is not None
    return all(dispatcher in dispatcher._shared.up for dispatcher in live._dispatchers)


def test_a_copy_has_the_settings_and_nothing_is_started_before_the_first_answer() -> None:
    pool = RayVerifierPool(workers=7, deadline_seconds=3.0, address="192.0.2.1:1", cpus_per_worker=0.5, max_losses=4)
    other = pickle.loads(pickle.dumps(pool))
    assert (other.workers, other.deadline_seconds, other.address, other.cpus_per_worker, other.max_losses) == (
        *(7, 3.0, "192.0.2.1:1", 0.5, 4),
    )
    pool.close()


def test_both_pools_take_the_same_settings_with_the_same_meaning() -> None:
    import inspect

    local = inspect.signature(VerifierPool.__init__).parameters
    remote = inspect.signature(RayVerifierPool.__init__).parameters
    assert list(remote)[: len(local)] == list(local)
    different = {name for name in local if name != "self" and local[name].default != remote[name].default}
    assert different == {"start_seconds"}
    with pytest.raises(ValueError, match="workers"):
        RayVerifierPool(workers=0)
    with pytest.raises(ValueError, match="cpus_per_worker"):
        RayVerifierPool(cpus_per_worker=0)


def test_without_ray_the_first_answer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'lit-symbolic\[ray\]'"):
        RayVerifierPool().submit(OBEDIENT, PROBLEM, "good")


def test_the_command_line_verifies_through_ray(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("(4 + 8) * (6 - 4)", True), ("4 + 8 = 11", False)]
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps({"id": "24:4-4-6-8", "answer": answer}) + "\n" for answer, _ in rows))
    command = ["--task", "Game24", "--json", str(file), "--pool", "ray", "--pool.workers", "1"]
    assert verify.main([*command, "--pool.address", cluster.address]) == 1
    output = capsys.readouterr().out.splitlines()  # Ray may have words of its own about the node that was killed
    certificates = [json.loads(line) for line in output if line.startswith("{")]
    assert [(certificate["status"], certificate["correct"]) for certificate in certificates] == [("ok", good) for _, good in rows]
    monkeypatch.setitem(sys.modules, "ray", None)
    assert verify.main(command) == 2
    assert "error: RayVerifierPool needs ray: pip install 'lit-symbolic[ray]'\n" in capsys.readouterr().err


def test_workers_die_with_a_trainer_that_is_killed(cluster: Any, tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; from faulty import *; from lit_symbolic.certificate import Problem;"
        "from lit_symbolic.verifiers.ray_pool import RayVerifierPool;"
        "pool = RayVerifierPool(workers=1, address=sys.argv[1], cache_megabytes=0);"
        "p = Problem('t', '0', '?');"
        "print(pool.verify(Pid(), [(p, '')])[0].evidence, flush=True);"
        "pool.verify(Obedient(), [(p, 'hang')])"
    )
    path = os.pathsep.join([str(Path(ray_pool.__file__).parents[2]), str(Path(__file__).parent)])
    command = [sys.executable, "-c", code, cluster.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}) as trainer:
        assert trainer.stdout is not None
        worker = int(trainer.stdout.readline())
        assert alive(worker)
        trainer.send_signal(signal.SIGKILL)
    assert eventually(lambda: not alive(worker), seconds=60)
