"""Parts of a batch side by side, each on a thread of its own.

Rows are independent, and torch's operations let go of Python's lock. On a small model that beats sharing each operation
among the threads, of which a decode step has a hundred, each with its own start and end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import TypeVar

import torch

from lit_symbolic.rollouts.sampler import Report

T = TypeVar("T")


class _Stopped(Exception):
    """Another part has failed."""


def side_by_side(jobs: Sequence[Callable[[Report], T]], reports: Sequence[Report]) -> list[T]:
    """Run the jobs at the same time, torch's threads shared among them.

    Args:
        jobs: Each is given a function to report with.
        reports: What a job's reports go to; always called in the caller's thread, one at a time.

    Returns:
        The results, in order.

    Raises:
        Exception: The first that a job or a report raised, after all jobs have ended.
    """
    if len(jobs) == 1:
        return [jobs[0](reports[0])]
    threads = torch.get_num_threads()
    stop = threading.Event()
    events: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    results: dict[int, T] = {}
    failures: list[BaseException] = []

    def work(index: int) -> None:
        def report(rows: Sequence[int], ids: list[list[int]]) -> None:
            if stop.is_set():
                raise _Stopped
            events.put(lambda: reports[index](rows, ids))

        try:
            torch.set_num_threads(max(1, threads // len(jobs)))
            with torch.no_grad():
                results[index] = jobs[index](report)
        except BaseException as error:
            failures.append(error)
            stop.set()
        finally:
            events.put(None)

    workers = [threading.Thread(target=work, args=(index,), name=f"sampling-{index}") for index in range(len(jobs))]
    for worker in workers:
        worker.start()
    running = len(jobs)
    while running:
        event = events.get()
        if event is None:
            running -= 1
        elif not stop.is_set():
            try:
                event()
            except BaseException as error:
                failures.append(error)
                stop.set()
    for worker in workers:
        worker.join()
    torch.set_num_threads(threads)  # a thread's setting is also the default of threads to come
    raised = [error for error in failures if not isinstance(error, _Stopped)]
    if raised:
        raise raised[0]
    return [results[index] for index in range(len(jobs))]
