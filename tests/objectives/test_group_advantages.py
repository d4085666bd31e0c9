"""Advantages without a critic against plain loops of the published formulas, in float64."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lit_symbolic.objectives.group_advantages import GroupEstimator, alone, group_advantages, reward_to_go
from lit_symbolic.objectives.ppo import gae

numbers = st.floats(-4, 4, width=32)
ESTIMATORS: list[GroupEstimator] = ["rloo", "grpo", "reinforce++"]


# ---------------------------------------------------------------- the published formulas, one number an answer


def published_rloo(returns: list[float]) -> list[float]:
    """arXiv 2402.14740: the return less the mean of the others'."""
    return [r - sum(returns[:i] + returns[i + 1 :]) / (len(returns) - 1) for i, r in enumerate(returns)]


def published_grpo(returns: list[float]) -> list[float]:
    """arXiv 2402.03300, outcome supervision: by the mean and the deviation of the group."""
    mean = sum(returns) / len(returns)
    std = math.sqrt(sum((r - mean) ** 2 for r in returns) / len(returns))
    return [(r - mean) / std if std > 1e-8 else 0.0 for r in returns]


def published_reinforce_plus_plus(
    returns: list[float], lengths: list[int], kls: list[list[float]], beta: float
) -> list[list[float]]:
    """arXiv 2501.03262: the return less the KL that is still to come, by mean and deviation over all tokens."""
    raw = [[r - beta * sum(kl[t:]) for t in range(n)] for r, n, kl in zip(returns, lengths, kls, strict=True)]
    every = [a for row in raw for a in row]
    mean = sum(every) / len(every)
    std = math.sqrt(sum((a - mean) ** 2 for a in every) / len(every))
    return [[(a - mean) / std if std > 1e-8 else a - mean for a in row] for row in raw]


@st.composite
def terminal(draw: st.DrawFn) -> tuple[list[list[float]], list[list[int]]]:
    """Returns and lengths of the answers to some prompts."""
    samples = draw(st.integers(2, 5))
    groups = draw(st.lists(st.lists(numbers, min_size=samples, max_size=samples), min_size=1, max_size=3))
    sizes = st.lists(st.integers(1, 6), min_size=samples, max_size=samples)
    return groups, [draw(sizes) for _ in groups]


def on_the_last_token(groups: list[list[float]], lengths: list[list[int]]) -> tuple[Tensor, Tensor]:
    rows = [(r, n) for rs, ns in zip(groups, lengths, strict=True) for r, n in zip(rs, ns, strict=True)]
    rewards = torch.zeros(len(rows), 6, dtype=torch.float64)
    for row, (r, n) in enumerate(rows):
        rewards[row, n - 1] = r
    return rewards, torch.arange(6) < torch.tensor([[n] for _, n in rows])


@given(terminal())
@settings(deadline=None, max_examples=60)
def test_with_the_reward_on_the_last_token_each_token_has_the_published_advantage_of_its_answer(
    drawn: tuple[list[list[float]], list[list[int]]],
) -> None:
    groups, lengths = drawn
    rewards, mask = on_the_last_token(groups, lengths)
    flat, sizes = [r for rs in groups for r in rs], [n for ns in lengths for n in ns]
    no_kl = [[0.0] * n for n in sizes]
    expected = {
        "rloo": [[a] * n for rs, ns in zip(groups, lengths, strict=True) for a, n in zip(published_rloo(rs), ns, strict=True)],
        "grpo": [[a] * n for rs, ns in zip(groups, lengths, strict=True) for a, n in zip(published_grpo(rs), ns, strict=True)],
        "reinforce++": published_reinforce_plus_plus(flat, sizes, no_kl, 0.0),
    }
    for estimator in ESTIMATORS:
        advantages = group_advantages(estimator, rewards, mask, samples=len(groups[0]))
        for row, wanted in enumerate(expected[estimator]):
            assert advantages[row, mask[row]].tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-9), estimator
        assert not advantages[~mask].any()


def test_reinforce_plus_plus_with_the_kl_in_the_reward_is_the_papers() -> None:
    rng = random.Random(0)
    lengths, returns = [3, 6, 1, 4], [1.0, 0.0, 0.0, 1.0]
    kls = [[rng.gauss(0, 1) for _ in range(n)] for n in lengths]
    rewards, mask = on_the_last_token([returns], [lengths])
    for row, kl in enumerate(kls):
        rewards[row, : len(kl)] -= 0.3 * torch.tensor(kl, dtype=torch.float64)
    advantages = group_advantages("reinforce++", rewards, mask, samples=4)
    for row, wanted in enumerate(published_reinforce_plus_plus(returns, lengths, kls, 0.3)):
        assert advantages[row, mask[row]].tolist() == pytest.approx(wanted)


# ---------------------------------------------------------------- per token


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, int]:
    """Rewards and a mask with holes anywhere, and rows of which nothing counts, float64."""
    samples, prompts, length = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
    rows = samples * prompts

    def matrix(element: st.SearchStrategy[float] | st.SearchStrategy[bool]) -> list[list[float]]:
        return draw(st.lists(st.lists(element, min_size=length, max_size=length), min_size=rows, max_size=rows))

    return torch.tensor(matrix(numbers), dtype=torch.float64), torch.tensor(matrix(st.booleans())), samples


def looped(rewards: list[list[float]], mask: list[list[bool]], samples: int, gamma: float) -> dict[str, list[list[float]]]:
    """Position by position, answer by answer: what stands where an answer counts nothing is never read."""

    def to_go(row: int, t: int) -> float:
        counted = [s for s in range(len(mask[row])) if mask[row][s]]
        ahead = [s for s in counted if s >= t] or counted[-1:]
        return sum(gamma**steps * rewards[row][s] for steps, s in enumerate(ahead))

    out = {name: [[0.0] * len(row) for row in rewards] for name in ("rloo", "grpo")}
    for i, counts in enumerate(mask):
        first = i - i % samples
        group = [j for j in range(first, first + samples) if any(mask[j])]
        place = group.index(i) if i in group else -1
        for t in (t for t, c in enumerate(counts) if c):
            returns = [to_go(j, t) for j in group]
            out["rloo"][i][t] = published_rloo(returns)[place] if len(group) > 1 else 0.0
            out["grpo"][i][t] = published_grpo(returns)[place]
    return out


@given(batches(), st.floats(0, 1))
@settings(deadline=None, max_examples=80)
def test_every_position_compares_all_answers_of_the_prompt(batch: tuple[Tensor, Tensor, int], gamma: float) -> None:
    rewards, mask, samples = batch
    expected = looped(rewards.tolist(), mask.tolist(), samples, gamma)
    poisoned = torch.where(mask, rewards, math.nan)
    for estimator in ("rloo", "grpo"):
        advantages = group_advantages(estimator, poisoned, mask, samples, gamma)  # type: ignore[arg-type]
        torch.testing.assert_close(advantages, torch.tensor(expected[estimator], dtype=torch.float64), rtol=1e-6, atol=1e-6)


@given(batches(), st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_the_reward_to_go_is_what_gae_gives_without_values_and_with_lambda_one(
    batch: tuple[Tensor, Tensor, int], gamma: float
) -> None:
    rewards, mask, _ = batch
    _, returns = gae(rewards, torch.zeros_like(rewards), mask, gamma)
    torch.testing.assert_close(torch.where(mask, reward_to_go(rewards, mask, gamma), 0.0).float(), returns.float())


def test_an_answer_that_has_ended_weighs_as_much_at_a_late_position_as_at_an_early_one() -> None:
    # One answer of four tokens wins, three fail at their first: the winner is compared with all three to its end.
    rewards, mask = on_the_last_token([[1.0, 0.0, 0.0, 0.0]], [[4, 1, 1, 1]])
    assert group_advantages("rloo", rewards, mask, 4)[0, :4].tolist() == [1.0] * 4
    assert group_advantages("grpo", rewards, mask, 4)[0, :4].tolist() == pytest.approx([math.sqrt(3)] * 4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equal_answers_have_no_advantage_whatever_rounding_does(estimator: GroupEstimator) -> None:
    rewards = torch.zeros(7, 3)
    rewards[:, -1] = 0.1
    assert not group_advantages(estimator, rewards, torch.ones(7, 3, dtype=torch.bool), samples=7).any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_answer_without_evidence_changes_nothing_for_the_others(estimator: GroupEstimator) -> None:
    rewards = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[[2, 5]] = False
    kept = [0, 1, 3, 4]
    advantages = group_advantages(estimator, rewards, mask, samples=3)
    torch.testing.assert_close(advantages[kept], group_advantages(estimator, rewards[kept], mask[kept], samples=2))
    assert not advantages[[2, 5]].any()


def test_an_answer_that_is_alone_has_no_advantage_and_is_counted() -> None:
    mask = torch.tensor([[True], [False], [True], [True], [False], [False]])
    for estimator in ("rloo", "grpo"):
        assert group_advantages(estimator, torch.ones(6, 1), mask, samples=2)[0].item() == 0.0  # type: ignore[arg-type]
    assert alone(mask, samples=2).item() == 1


def test_the_floor_keeps_small_differences_small() -> None:
    rewards, mask = torch.tensor([[0.001], [0.0]]), torch.ones(2, 1, dtype=torch.bool)
    for estimator in ("grpo", "reinforce++"):
        published, floored = (group_advantages(estimator, rewards, mask, 2, floor=floor)[0].item() for floor in (0.0, 0.1))  # type: ignore[arg-type]
        assert published == pytest.approx(1.0)
        assert floored == pytest.approx(0.005)


def test_an_unknown_estimator_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rloo, grpo, reinforce\+\+"):
        group_advantages("remax", torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), 1)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the bandit in which failing at once is possible


TRIES, CHANCE, SAMPLES = 10, 0.05, 8


def an_answer(rng: random.Random, gives_up: bool, failure: float) -> list[float]:
    """Rewards of an answer that fails at its first token, or is tried in earnest: fails at any of ten, or rarely wins."""
    if gives_up:
        return [failure]
    if rng.random() < CHANCE:
        return [0.0] * TRIES + [1.0]
    return [0.0] * rng.randrange(TRIES) + [failure]


@pytest.mark.parametrize(("failure", "gamma"), [(0.0, 1.0), (-1.0, 1.0), (-1.0, 0.7)])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_expected_step_does_not_lead_to_failing_at_once(estimator: GroupEstimator, failure: float, gamma: float) -> None:
    """The gradient of the one choice that matters, made at the first token, over many iterations of sampled groups."""
    rng, steps = random.Random(0), []
    for _ in range(60):
        gives_up = [rng.random() < 0.5 for _ in range(32 * SAMPLES)]
        answers = [an_answer(rng, choice, failure) for choice in gives_up]
        rewards = torch.tensor([answer + [0.0] * (TRIES + 1 - len(answer)) for answer in answers])
        mask = torch.arange(TRIES + 1) < torch.tensor([[len(answer)] for answer in answers])
        advantages = group_advantages(estimator, rewards, mask, SAMPLES, gamma, floor=0.1)
        slope = torch.tensor([0.5 if choice else -0.5 for choice in gives_up])  # of log p(choice) by the logit of giving up
        steps.append(float((slope * advantages[:, 0]).mean()))
    mean = sum(steps) / len(steps)
    error = math.sqrt(sum((step - mean) ** 2 for step in steps)) / len(steps)
    assert mean + 3 * error < 0
