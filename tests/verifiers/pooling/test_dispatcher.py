"""The dispatchers with workers that do in this process what the test tells them to."""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque

import pytest

from lit_symbolic.certificate import Certificate
from lit_symbolic.verifiers.pooling import dispatcher
from lit_symbolic.verifiers.pooling.dispatcher import PING_KEY, Dispatchers, Shared
from lit_symbolic.verifiers.pooling.jobs import Job, Ledger, Verification
from lit_symbolic.verifiers.pooling.worker import Outcome, WorkerDied, WorkerHandle

GOOD = Certificate(True, 1.0)
SECONDS = 30.0
"""Longer than anything here takes, and much less than the deadline of an answer."""


class Puppet(WorkerHandle):
    """Answers in no time, but not before it may start, and an answer ``wait`` or ``hang`` when, or if, that is released."""

    def __init__(self, may_start: threading.Event) -> None:
        super().__init__()
        self.released = {"": may_start, "wait": threading.Event(), "hang": threading.Event()}
        self.reached = {text: threading.Event() for text in self.released}
        self.verified: list[str] = []
        self.messages: deque[tuple[str, str]] = deque()
        self.killed = False

    def _post(self, message: bytes) -> None:
        key, _, _, text = pickle.loads(message)
        self.messages.append((key, text or ""))

    def _take(self, seconds: float) -> bytes:
        key, text = self.messages[0]
        if text in self.released and (text or key == PING_KEY):
            self.reached[text].set()
            if not self.released[text].wait(max(0.0, seconds)):
                raise TimeoutError
        if self.killed:
            raise WorkerDied("it was killed", killed=True)
        self.messages.popleft()
        self.verified += [text] * bool(text)
        now = time.monotonic()
        return pickle.dumps((Outcome.DONE, now, now, pickle.dumps(GOOD)))

    def kill(self) -> None:
        self.killed = True
        for released in self.released.values():
            released.set()

    def close(self) -> None:
        self.kill()


def test_answers_behind_a_hanging_one_go_to_a_worker_that_comes_up_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "LOOK_SECONDS", 0.02)
    at_once, later = threading.Event(), threading.Event()
    at_once.set()
    first, second = Puppet(at_once), Puppet(later)
    puppets = iter((first, second))
    ledger = Ledger(max_outstanding=100, cache=None)
    live = Dispatchers(2, Shared(1000.0, 0.0, 1000.0, lambda: next(puppets), 0, ledger), lambda: None)

    def submit(*texts: str) -> list[Verification]:
        jobs = [Job("verifier", b"", b"problem", text) for text in texts]
        return [ledger.admit(job, live.queue.put, lambda: False, None, bounded=False) for job in jobs]

    try:
        for answer in submit(*["cheap"] * 20):  # such are sent ahead, up to as many at a time
            assert answer.result(SECONDS) == GOOD
        (held,) = submit("wait")
        assert first.reached["wait"].wait(SECONDS)
        hanging, *behind = submit("hang", "a", "b", "c")
        first.released["wait"].set()
        assert held.result(SECONDS) == GOOD
        assert first.reached["hang"].wait(SECONDS)
        assert [text for _, text in first.messages] == ["hang", "a", "b", "c"]  # they are with the worker that hangs
        later.set()
        assert [answer.result(SECONDS) for answer in behind] == [GOOD] * 3
        assert second.verified == ["a", "b", "c"]
        assert not hanging.done()
        assert (ledger.statistics.verified, ledger.statistics.restarts) == (24, 0)
    finally:
        live.close()
    assert hanging.cancelled() or hanging.exception() is not None
