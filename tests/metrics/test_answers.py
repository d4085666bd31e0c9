import socket

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.metrics import AnswerMetrics, EndRate, ErrorTokenFraction, MeanLength, MeanMeasure, NoEvidenceCount, SuccessRate
from lit_symbolic.metrics.named import BLEU_COUNTS
from lit_symbolic.rollouts.batch import Rollouts

KINDS = {
    "solved": Certificate(True, 1.0, measures={"step_validity": 1.0}),
    "failed": Certificate(False, 0.5, (Finding(0, 2, "goal", ""),), measures={"step_validity": 0.5}),
    "silent": Certificate(False, 0.0, (Finding(0, 1, "syntax", ""),)),
    "timeout": Certificate.without_evidence(Status.TIMEOUT, ""),
}
OTHER = Certificate(False, 0.5, measures={"validity": 1.0, **dict.fromkeys(BLEU_COUNTS, 4.0), "levenshtein": 3.0})
NAMES = {"t": ["step_validity"], "u": ["step_validity", "validity", "bleu", "levenshtein", "comp_acc"]}
SAMPLES = 4
answer = st.tuples(st.sampled_from(sorted(KINDS)), st.integers(1, 6), st.booleans())
prompts = st.lists(st.lists(answer, min_size=SAMPLES, max_size=SAMPLES), min_size=1, max_size=6)


def rollouts_of(groups):
    rows = [row for group in groups for row in group]
    lengths = torch.tensor([length for _, length, _ in rows])
    positions = torch.arange(8)
    mask = positions < lengths[:, None]
    faults = torch.tensor([max((f.end for f in KINDS[kind].findings), default=0) for kind, _, _ in rows])
    return Rollouts(
        problems=[Problem("t", str(k // SAMPLES), "") for k in range(len(rows))],
        samples=SAMPLES,
        prompt_ids=torch.zeros(len(rows), 1, dtype=torch.long),
        prompt_mask=torch.ones(len(rows), 1, dtype=torch.bool),
        ids=torch.zeros_like(mask, dtype=torch.long),
        mask=mask,
        logprobs=torch.zeros(mask.shape),
        ended=torch.tensor([ended for _, _, ended in rows]),
        texts=[""] * len(rows),
        spans=[((0, 0),) * length for _, length, _ in rows],
        certificates=[KINDS[kind] for kind, _, _ in rows],
        in_finding=(positions < faults[:, None]) & mask,
    )


def computed(metrics):
    return {name: value.item() for name, value in metrics.compute().items()}


@settings(deadline=None)  # a machine may be busy
@given(prompts)
def test_the_figures_equal_plain_sums(groups):
    metrics = AnswerMetrics((1, 2, 99), SAMPLES, {"t": ["step_validity"]}, resamples=0)
    metrics.update(rollouts_of(groups))
    found = computed(metrics)
    rows = [row for group in groups for row in group]
    known = [row for row in rows if row[0] != "timeout"]
    assert found["no_evidence_count"] == len(rows) - len(known)
    assert found["mean_length"] == pytest.approx(sum(length for _, length, _ in rows) / len(rows))
    assert found["end_rate"] == pytest.approx(sum(ended for _, _, ended in rows) / len(rows))
    assert "pass@99" not in found
    if known:
        solved = sum(kind == "solved" and ended for kind, _, ended in known)
        assert found["success_rate"] == pytest.approx(solved / len(known))
        errors = sum(min({"failed": 2, "silent": 1}.get(kind, 0), length) for kind, length, _ in known)
        assert found["error_token_fraction"] == pytest.approx(errors / sum(length for _, length, _ in known))
    measured = [KINDS[kind].measures["step_validity"] for kind, _, _ in rows if kind in ("solved", "failed")]
    assert ("step_validity" in found) == bool(measured)
    if measured:
        assert found["step_validity"] == pytest.approx(sum(measured) / len(measured))


@settings(deadline=None)  # a machine may be busy
@given(prompts, prompts)
def test_batches_give_what_all_at_once_gives(first, second):
    together, apart = (AnswerMetrics((1, 2), SAMPLES, {"t": ["step_validity"]}, resamples=20) for _ in range(2))
    together.update(rollouts_of(first + second))
    apart.update(rollouts_of(first))
    apart.update(rollouts_of(second))
    assert computed(apart) == pytest.approx(computed(together), nan_ok=True)
    apart.reset()
    apart.update(rollouts_of(second))
    together.reset()
    together.update(rollouts_of(second))
    assert computed(apart) == pytest.approx(computed(together), nan_ok=True)


def mixed_rollouts_of(groups):
    """Those of every second problem belong to the task u."""
    rollouts = rollouts_of(groups)
    for row in range(len(rollouts)):
        if row // SAMPLES % 2:
            rollouts.problems[row] = Problem("u", str(row), "")
            rollouts.certificates[row] = KINDS["timeout"] if rollouts.certificates[row] is KINDS["timeout"] else OTHER
    return rollouts


@settings(deadline=None)  # a machine may be busy
@given(prompts)
def test_of_several_tasks_each_has_its_success_and_its_own_metrics(groups):
    metrics = AnswerMetrics((1,), SAMPLES, NAMES, resamples=0)
    metrics.update(mixed_rollouts_of(groups))
    found = computed(metrics)
    first = [row for group in groups[::2] for row in group if row[0] != "timeout"]
    second = [row for group in groups[1::2] for row in group if row[0] != "timeout"]
    assert ("success_rate/t" in found, "success_rate/u" in found) == (bool(first), bool(second))
    if first:
        solved = sum(kind == "solved" and ended for kind, _, ended in first)
        assert found["success_rate/t"] == pytest.approx(solved / len(first))
    measured = [KINDS[kind].measures["step_validity"] for kind, _, _ in first if kind in ("solved", "failed")]
    if measured:
        assert found["step_validity/t"] == pytest.approx(sum(measured) / len(measured))
    if second:
        assert (found["validity"], found["levenshtein"], found["bleu"], found["success_rate/u"]) == (1.0, 3.0, 1.0, 0.0)
    assert not {"step_validity", "step_validity/u", "comp_acc"} & found.keys(), "two tasks name it; no answer has it"


def test_one_task_has_no_figures_by_task():
    metrics = AnswerMetrics((1,), SAMPLES, {"t": ["step_validity"]}, resamples=0)
    metrics.update(rollouts_of([[("solved", 2, True)] * SAMPLES]))
    assert not [name for name in computed(metrics) if "/" in name]


def test_unscored_rollouts_are_refused():
    rollouts = rollouts_of([[("solved", 2, True)] * SAMPLES])
    rollouts.certificates = []
    with pytest.raises(RuntimeError, match="not been scored"):
        AnswerMetrics((1,), SAMPLES).update(rollouts)


def test_means_of_nothing_are_nan_and_counts_are_zero():
    for metric in (SuccessRate(), MeanLength(), EndRate(), ErrorTokenFraction(), MeanMeasure("step_validity")):
        metric._update_count = 1
        assert metric.compute().isnan()
    assert NoEvidenceCount().count == 0


def test_a_long_sum_of_tokens_stays_exact():
    metric = ErrorTokenFraction()
    metric.total += 2.0**24
    metric.count += 2.0**24
    for _ in range(8):
        metric.update(torch.tensor([[True]]), torch.tensor([[True]]))
    assert metric.total.item() == 2**24 + 8


def groups_of_rank(rank):
    kinds = sorted(KINDS)
    return [
        [(kinds[(rank + p * s) % 4], 1 + (p + s + rank) % 6, (p + s) % 3 > 0) for s in range(SAMPLES)] for p in range(5 + rank)
    ]


def run_rank(rank, port, queue):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    metrics = AnswerMetrics((1, 2), SAMPLES, NAMES, resamples=50)
    groups = groups_of_rank(rank)
    for first in range(0, len(groups), 2):
        metrics.update(mixed_rollouts_of(groups[first : first + 2]))
    everything = computed(metrics)
    metrics.reset()
    if rank == 0:
        metrics.update(mixed_rollouts_of(groups_of_rank(0)))
    queue.put((rank, everything, computed(metrics)))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_processes_give_what_one_gives_also_if_one_of_them_has_nothing():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    queue = torch.multiprocessing.get_context("spawn").SimpleQueue()
    torch.multiprocessing.spawn(run_rank, (port, queue), nprocs=2)
    found = [(everything, half) for _, everything, half in sorted((queue.get() for _ in range(2)), key=lambda put: put[0])]
    one = AnswerMetrics((1, 2), SAMPLES, NAMES, resamples=50)
    one.update(mixed_rollouts_of(groups_of_rank(0)))
    one.update(mixed_rollouts_of(groups_of_rank(1)))
    assert {"success_rate/t", "success_rate/u", "step_validity/t", "validity", "bleu", "levenshtein"} <= computed(one).keys()
    assert found[0][0] == pytest.approx(computed(one))
    one.reset()
    one.update(mixed_rollouts_of(groups_of_rank(0)))
    assert found[0][1] == pytest.approx(computed(one))
    assert found[1] == found[0]
