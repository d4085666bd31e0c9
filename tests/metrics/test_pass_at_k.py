from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.metrics import PassAtK, bootstrap_interval, pass_at_k


def by_enumeration(outcomes, k):
    draws = list(combinations(outcomes, k))
    return sum(any(draw) for draw in draws) / len(draws)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(1, 9))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(outcomes, k):
    n, c = torch.tensor([len(outcomes)]), torch.tensor([sum(outcomes)])
    if k > len(outcomes):
        with pytest.raises(ValueError, match="at least"):
            pass_at_k(n, c, k)
    else:
        assert pass_at_k(n, c, k).item() == pytest.approx(by_enumeration(outcomes, k), abs=1e-12)


def test_pass_at_k_is_unbiased():
    generator = torch.Generator().manual_seed(0)
    chance, n, k = 0.15, 10, 4
    correct = (torch.rand(200_000, n, generator=generator) < chance).sum(dim=1)
    estimate = pass_at_k(torch.full_like(correct, n), correct, k).mean().item()
    assert estimate == pytest.approx(1 - (1 - chance) ** k, abs=2e-3)


def test_pass_at_k_is_stable_for_many_samples():
    value = pass_at_k(torch.tensor([5_000]), torch.tensor([1]), 2_500).item()
    assert value == pytest.approx(0.5, abs=1e-12)


def test_prompts_may_have_different_numbers_of_samples():
    values = pass_at_k(torch.tensor([2, 5, 3]), torch.tensor([1, 2, 0]), 2).tolist()
    expected = [by_enumeration([1, 0], 2), by_enumeration([1, 1, 0, 0, 0], 2), by_enumeration([0, 0, 0], 2)]
    assert values == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 3),
)
def test_the_metric_groups_samples_by_prompt_and_leaves_out_those_without_evidence(rows, k):
    metric = PassAtK(k, resamples=0)
    prompts, correct, evidence = (torch.tensor(column) for column in zip(*rows, strict=True))
    metric.update(correct.bool(), prompts, evidence.bool())
    groups = [[c for p, c, e in rows if p == prompt and e] for prompt in {p for p, _, _ in rows}]
    values = [by_enumeration(group, k) for group in groups if len(group) >= k]
    assert metric.prompts_left_out == len(groups) - len(values)
    computed = metric.compute()
    assert int(computed.get(f"pass@{k}_prompts_left_out", 0)) == metric.prompts_left_out
    result = computed[f"pass@{k}"].item()
    if values:
        assert result == pytest.approx(sum(values) / len(values), abs=1e-6)
    else:
        assert result != result


def test_the_same_prompt_number_in_two_updates_means_two_prompts():
    metric = PassAtK(2, resamples=0)
    metric.update(torch.tensor([True, True]), torch.tensor([0, 0]))
    metric.update(torch.tensor([False, False]), torch.tensor([0, 0]))
    assert metric.compute()["pass@2"].item() == 0.5


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(1)
    covered = 0
    for trial in range(150):
        values = (torch.rand(120, generator=generator) < 0.3).float()
        low, high = bootstrap_interval(values, confidence=0.9, resamples=300, seed=trial)
        covered += low <= 0.3 <= high
    assert 0.82 <= covered / 150 <= 0.97


def test_the_interval_depends_on_its_seed_only():
    values = torch.rand(50, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    first = bootstrap_interval(values, seed=3)
    state = torch.random.get_rng_state()
    assert bootstrap_interval(values.flip(0), seed=3) == first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert bootstrap_interval(values, seed=4) != first


def test_all_alike_gives_an_interval_of_no_width_and_nothing_gives_nan():
    assert bootstrap_interval(torch.ones(7)) == (1.0, 1.0)
    low, high = bootstrap_interval(torch.zeros(0))
    assert low != low
    assert high != high


def test_the_metric_gives_the_estimate_within_its_interval():
    metric = PassAtK(1)
    metric.update(torch.tensor([True, False, True, False] * 20), torch.arange(80) // 2)
    found = metric.compute()
    assert list(found) == ["pass@1", "pass@1_low", "pass@1_high"]
    metric.reset()
    metric.update(torch.tensor([True] * 20 + [False] * 60), torch.arange(80) // 2)
    found = metric.compute()
    assert found["pass@1_low"] < found["pass@1"] < found["pass@1_high"]


@pytest.mark.parametrize("options", [{"k": 0}, {"k": 1, "confidence": 1.0}, {"k": 1, "resamples": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="got"):
        PassAtK(**options)
