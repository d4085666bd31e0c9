"""Contestants that work only when they are told to, so that repetitions of several of them alternate.

A contestant is a process: it reads an order per line from its standard input, and gives a line of figures back for each. This
file needs the standard library only, since it also runs in a peer's virtual environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

BENCHMARKS = Path(__file__).resolve().parent.parent

Figures = dict[str, Any]
ANSWER = "answer "
"""Begins every line that is one: libraries print while they are imported."""


class Contestant:
    """The side that gives orders.

    Args:
        python: Interpreter of its environment.
        module: What it runs, below ``benchmarks``, for instance ``peers.trl_grpo``.
        log: File for what it writes to its standard output and error.

    Raises:
        RuntimeError: On the first order after the process has ended, with the end of its log.
    """

    def __init__(self, python: str, module: str, log: Path) -> None:
        self.module = module
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, [str(BENCHMARKS), str(BENCHMARKS.parent), os.environ.get("PYTHONPATH")]))
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [python, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )

    def begin(self, order: str, **arguments: Any) -> None:
        """Give an order, and do not wait: several contestants start at the same time."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"order": order, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self._fail()

    def answer(self) -> Figures:
        """Wait until the order is done."""
        assert self.process.stdout is not None
        while not (line := self.process.stdout.readline()).startswith(ANSWER):
            if not line:
                self._fail()
        figures: Figures = json.loads(line.removeprefix(ANSWER))
        return figures

    def ask(self, order: str, **arguments: Any) -> Figures:
        """Give an order and wait until it is done."""
        self.begin(order, **arguments)
        return self.answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        if self.process.poll() is None:
            self.process.stdin.close()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _fail(self) -> None:
        code = self.process.wait()
        raise RuntimeError(f"{self.module} ended with {code}:\n{self.log.read_text()[-3000:]}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


class Stopped(Exception):
    """Ends a training that was told to stop."""


class Orders:
    """The side that obeys: a training calls :meth:`next_iteration` at the start of each iteration.

    Standard output becomes standard error, so that nothing that a library prints stands in an answer.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._since: float | None = None

    def serve(self, train: Callable[[Figures], None]) -> None:
        """Run ``train(order)`` for each order ``train`` until the input ends; it calls :meth:`next_iteration`."""
        while (order := self._next()) is not None:
            if order["order"] != "train":
                raise ValueError(f"expected the order 'train', got {order['order']!r}")
            self._since = None
            try:
                train(order)
            except Stopped:
                self._give({})
            else:
                raise RuntimeError("the training ended by itself: give it more iterations")

    def next_iteration(
        self,
        figures: Callable[[], Figures],
        others: Mapping[str, Callable[[Figures], Figures]],
    ) -> None:
        """Tell how the iteration before went, and return when the next one is asked for.

        Args:
            figures: Called once for what to tell beside the wall time.
            others: What to do for other orders that may come between two iterations.

        Raises:
            Stopped: If no other iteration is wanted.
        """
        now = time.perf_counter()
        told = figures()
        self._give(told if self._since is None else {"seconds": now - self._since, **told})
        while True:
            order = self._next()
            if order is None or order["order"] == "stop":
                raise Stopped
            if order["order"] == "iteration":
                break
            self._give(others[order["order"]](order))
        self._since = time.perf_counter()

    def _next(self) -> Figures | None:
        line = sys.stdin.readline()
        order: Figures | None = json.loads(line) if line else None
        return order

    def _give(self, figures: Figures) -> None:
        self._answers.write(f"{ANSWER}{json.dumps(figures)}\n")
        self._answers.flush()
