import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lit_symbolic.objectives.ppo import (
    adapted_coefficient,
    gae,
    importance_weights,
    kl_k1,
    kl_k2,
    policy_loss,
    value_loss,
    whiten,
)

numbers = st.floats(-4, 4, width=32)


@st.composite
def answers(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values and a mask with holes anywhere, float64."""
    rows, length = draw(st.integers(1, 3)), draw(st.integers(1, 7))

    def matrix(element: st.SearchStrategy[float] | st.SearchStrategy[bool]) -> list[list[float]]:
        return draw(st.lists(st.lists(element, min_size=length, max_size=length), min_size=rows, max_size=rows))

    rewards, values = (torch.tensor(matrix(numbers), dtype=torch.float64) for _ in range(2))
    return rewards, values, torch.tensor(matrix(st.booleans()))


def looped_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """Equation 11 and 16 as sums, over an answer in which everything counts."""
    n = len(rewards)
    deltas = [rewards[t] + (gamma * values[t + 1] if t + 1 < n else 0.0) - values[t] for t in range(n)]
    return [sum((gamma * lam) ** (u - t) * deltas[u] for u in range(t, n)) for t in range(n)]


@given(answers(), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_gae_is_the_sum_over_the_positions_that_count(batch: tuple[Tensor, Tensor, Tensor], gamma: float, lam: float) -> None:
    rewards, values, mask = batch
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    for row in range(len(mask)):
        counts = mask[row]
        expected = looped_gae(rewards[row, counts].tolist(), values[row, counts].tolist(), gamma, lam)
        torch.testing.assert_close(advantages[row, counts].double(), torch.tensor(expected).double(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(returns[row, counts], advantages[row, counts] + values[row, counts])
    assert not advantages[~mask].any()
    assert not returns[~mask].any()


def test_gae_bootstraps_nothing_after_the_last_position_that_counts() -> None:
    values = torch.tensor([[1.0, 2.0, 50.0]])
    mask = torch.tensor([[True, True, False]])
    advantages, _ = gae(torch.zeros(1, 3), values, mask, gamma=1.0, lam=0.0)
    assert advantages.tolist() == [[1.0, -2.0, 0.0]]


def test_gae_ignores_what_stands_at_masked_positions_even_if_it_is_not_a_number() -> None:
    rewards, values = torch.tensor([[1.0, math.nan, 2.0]]), torch.tensor([[0.5, math.nan, 0.25]])
    advantages, returns = gae(rewards, values, torch.tensor([[True, False, True]]))
    assert advantages.tolist() == [[2.5, 0.0, 1.75]]
    assert returns.tolist() == [[3.0, 0.0, 2.0]]


def test_gae_with_lambda_one_gives_the_reward_to_go_as_return_whatever_the_values() -> None:
    rewards, values = torch.randn(2, 5), torch.randn(2, 5)
    _, returns = gae(rewards, values, torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(returns, rewards.flip(1).cumsum(1).flip(1))


@given(st.lists(st.tuples(st.integers(-32, 32), st.booleans()), min_size=1, max_size=20), st.floats(0, 2))
@settings(deadline=None, max_examples=60)
def test_whitening_is_that_of_a_plain_loop_over_what_counts(drawn: list[tuple[int, bool]], floor: float) -> None:
    counted = [v / 8 for v, counts in drawn if counts]
    mean = sum(counted) / max(1, len(counted))
    deviation = math.sqrt(sum((v - mean) ** 2 for v in counted) / max(1, len(counted)))
    divisor = max(deviation, floor) if len(set(counted)) > 1 else 1.0
    expected = torch.tensor([(v / 8 - mean) / divisor if counts else 0.0 for v, counts in drawn])
    whitened = whiten(torch.tensor([v / 8 for v, _ in drawn]), torch.tensor([counts for _, counts in drawn]), floor)
    torch.testing.assert_close(whitened, expected, rtol=1e-4, atol=1e-4)


def test_whitened_values_have_mean_zero_and_deviation_one() -> None:
    values, mask = 5 + 3 * torch.randn(40, 7), torch.rand(40, 7) < 0.5
    counted = whiten(values, mask)[mask]
    torch.testing.assert_close(counted.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(counted.std(correction=0), torch.tensor(1.0))


@given(st.floats(-1e4, 1e4, width=32), st.integers(1, 5000), st.sampled_from([0.0, 1e-6, 0.1]))
@settings(deadline=None, max_examples=60)
def test_whitening_equal_values_gives_zero_and_not_rounding_noise(value: float, count: int, floor: float) -> None:
    whitened = whiten(torch.full((count,), value), torch.ones(count, dtype=torch.bool), floor)
    assert whitened.abs().max() < 1e-2


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_whitening_without_shift_leaves_values_without_variance_as_they_are(floor: float) -> None:
    assert whiten(torch.tensor([3.0]), torch.tensor([True]), floor, shift=False).tolist() == [3.0]
    assert whiten(torch.tensor([3.0, 3.0]), torch.tensor([True, True]), floor, shift=False).tolist() == [3.0, 3.0]


def test_whitening_one_value_gives_zero_and_whitening_none_gives_zeros() -> None:
    assert whiten(torch.tensor([3.0, 9.0]), torch.tensor([True, False]), 0.1).tolist() == [0.0, 0.0]
    assert whiten(torch.tensor([3.0, 9.0]), torch.tensor([False, False])).tolist() == [0.0, 0.0]


def test_the_floor_keeps_small_noise_small() -> None:
    noise = torch.tensor([1e-3, -1e-3])
    assert whiten(noise, torch.tensor([True, True]), floor=0.1).abs().max() <= 0.0101
    assert whiten(noise, torch.tensor([True, True])).abs().min() > 0.99


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=8), st.floats(0.05, 0.5))
@settings(deadline=None)
def test_the_policy_loss_is_the_clipped_surrogate_of_a_plain_loop(rows: list[tuple[float, float, float]], clip: float) -> None:
    new, old, advantages = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    expected = []
    for a, b, advantage in rows:
        ratio = math.exp(a - b)
        expected.append(-min(ratio * advantage, min(max(ratio, 1 - clip), 1 + clip) * advantage))
    torch.testing.assert_close(policy_loss(new, old, advantages, clip), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "advantage", "moves"),
    [(0.5, 1.0, False), (0.5, -1.0, True), (-0.5, 1.0, True), (-0.5, -1.0, False), (0.0, 1.0, True)],
)
def test_only_a_ratio_that_went_too_far_the_profitable_way_loses_its_gradient(
    change: float, advantage: float, moves: bool
) -> None:
    logprob = torch.tensor([change], requires_grad=True)
    policy_loss(logprob, torch.zeros(1), torch.tensor([advantage]), clip=0.2).sum().backward()
    assert logprob.grad is not None
    assert bool(logprob.grad.abs() > 0) is moves


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=8), st.none() | st.floats(0.05, 1))
@settings(deadline=None)
def test_the_value_loss_is_the_clipped_square_of_a_plain_loop(rows: list[tuple[float, float, float]], clip: float | None) -> None:
    new, old, returns = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    expected = []
    for value, before, target in rows:
        near = value if clip is None else before + min(max(value - before, -clip), clip)
        expected.append(0.5 * max((value - target) ** 2, (near - target) ** 2))
    torch.testing.assert_close(value_loss(new, old, returns, clip), torch.tensor(expected, dtype=torch.float64))


def test_in_expectation_the_gradient_of_k2_is_the_gradient_of_the_kl_and_that_of_k1_would_be_zero() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(7, dtype=torch.float64).log_softmax(0)
    policy = logits.log_softmax(0)
    kl = torch.nn.functional.kl_div(reference, policy, reduction="sum", log_target=True)
    (wanted,) = torch.autograd.grad(kl, logits, retain_graph=True)
    # Sampling does not see the gradient, so the expectation weights every word by a constant.
    weights = policy.exp().detach()
    (got,) = torch.autograd.grad((weights * kl_k2(policy, reference)).sum(), logits, retain_graph=True)
    torch.testing.assert_close(got, wanted)
    (pathwise_k1,) = torch.autograd.grad((weights * (policy - reference)).sum(), logits)
    torch.testing.assert_close(pathwise_k1, torch.zeros_like(wanted))


def test_k1_is_unbiased_and_a_number_without_gradient() -> None:
    torch.manual_seed(1)
    policy = torch.randn(7, dtype=torch.float64, requires_grad=True).log_softmax(0)
    reference = torch.randn(7, dtype=torch.float64).log_softmax(0)
    estimate = kl_k1(policy, reference)
    assert not estimate.requires_grad
    kl = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=policy), torch.distributions.Categorical(logits=reference)
    )
    torch.testing.assert_close((policy.exp() * estimate).sum(), kl)


@given(st.floats(1e-4, 1), st.floats(-5, 50), st.floats(0.1, 10), st.integers(1, 512), st.integers(1, 100_000))
def test_the_coefficient_moves_towards_the_target_and_never_by_more_than_a_fifth(
    coefficient: float, kl: float, target: float, answers: int, horizon: int
) -> None:
    adapted = adapted_coefficient(coefficient, kl, target, answers, horizon)
    assert adapted > 0
    assert abs(adapted / coefficient - 1) <= 0.2 * min(answers / horizon, 1) + 1e-12
    if abs(kl / target - 1) > 1e-6:
        assert (adapted > coefficient) is (kl > target) or adapted == pytest.approx(coefficient, rel=1e-9)
    assert adapted_coefficient(coefficient, target, target, answers, horizon) == coefficient


def test_weighted_by_importance_another_distributions_answers_give_the_policys_gradient_in_expectation() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, dtype=torch.float64, requires_grad=True)
    advantages = torch.randn(7, dtype=torch.float64)
    policy = logits.log_softmax(0)
    sampler = (logits.detach() / 1.7).log_softmax(0)  # hotter than it should be
    old = policy.detach()
    losses = policy_loss(policy, old, advantages, clip=0.2)

    def expected(words: Tensor, each: Tensor) -> Tensor:
        """Gradient in expectation over words that are drawn from ``words``: every word counts by its probability."""
        return torch.autograd.grad((words.exp() * each).sum(), logits, retain_graph=True)[0]

    wanted = expected(old, losses)
    torch.testing.assert_close(expected(sampler, losses * importance_weights(old, sampler, cap=None)), wanted)
    assert (expected(sampler, losses) - wanted).abs().max() > 0.02, "uncorrected it is another gradient"
    truncated = importance_weights(old, sampler, cap=1.1)
    assert truncated.max() == 1.1
    closer = expected(sampler, losses * truncated)
    assert (closer - wanted).norm() < (expected(sampler, losses) - wanted).norm()


def test_importance_weights_carry_no_gradient_and_are_one_where_nothing_differs() -> None:
    logprobs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    weights = importance_weights(logprobs, logprobs.detach(), cap=2.0)
    assert weights.tolist() == [[1.0, 1.0]]
    assert not weights.requires_grad
