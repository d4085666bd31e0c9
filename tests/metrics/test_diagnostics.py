import math
import random
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.metrics.diagnostics import approx_kl, clipfrac, entropy, explained_variance, ratio_max

number = st.floats(-3, 3, width=32)
tokens = st.lists(st.tuples(number, number, st.booleans()), min_size=4, max_size=24).map(lambda rows: rows[: len(rows) // 4 * 4])


def tensors(rows):
    a, b, mask = (torch.tensor(column).view(4, -1) for column in zip(*rows, strict=True))
    return a.float(), b.float(), mask.bool(), [(x, y) for x, y, counts in rows if counts]


@given(tokens)
def test_diagnostics_equal_plain_loops(rows):
    new, old, mask, counted = tensors(rows)
    n = max(1, len(counted))
    log_ratios = [x - y for x, y in counted]
    expected_kl = sum(math.exp(r) - 1 - r for r in log_ratios) / n
    assert approx_kl(new, old, mask).item() == pytest.approx(expected_kl, rel=1e-4, abs=1e-5)
    near_the_edge = any(abs(abs(math.exp(r) - 1) - 0.2) < 1e-5 for r in log_ratios)
    if not near_the_edge:
        assert clipfrac(new, old, mask, 0.2).item() == pytest.approx(sum(abs(math.exp(r) - 1) > 0.2 for r in log_ratios) / n)
    assert ratio_max(new, old, mask).item() == pytest.approx(max(map(math.exp, log_ratios), default=1.0), rel=1e-4)
    assert entropy(new, mask).item() == pytest.approx(sum(x for x, _ in counted) / n, abs=1e-5)


@given(tokens)
def test_explained_variance_equals_its_definition(rows):
    values, returns, mask, counted = tensors(rows)
    variance = statistics.pvariance([y for _, y in counted]) if counted else 0.0
    if variance < 1e-6:
        return
    left = statistics.pvariance([y - x for x, y in counted])
    assert explained_variance(values, returns, mask).item() == pytest.approx(1 - left / variance, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("counted", [0, 1, 4])
def test_returns_without_variance_leave_nothing_to_explain(counted):
    mask = torch.arange(4)[None] < counted
    assert explained_variance(torch.randn(1, 4), torch.full((1, 4), 0.3), mask).item() == 0.0


@given(tokens, st.integers(1, 5))
def test_padding_changes_no_diagnostic(rows, padding):
    new, old, mask, _ = tensors(rows)

    def padded(tensor, value):
        return torch.nn.functional.pad(tensor, (0, padding), value=value)

    wide = padded(new, math.inf), padded(old, -50.0), padded(mask, False)
    for function in (approx_kl, ratio_max, lambda a, b, m: clipfrac(a, b, m, 0.2), lambda a, b, m: entropy(a, m)):
        assert function(*wide).item() == pytest.approx(function(new, old, mask).item(), rel=1e-5, abs=1e-6)
    assert explained_variance(padded(new, 9.0), padded(old, 5.0), padded(mask, False)).item() == pytest.approx(
        explained_variance(new, old, mask).item(), rel=1e-5
    )


def test_approx_kl_estimates_the_kl_of_two_distributions():
    generator = torch.Generator().manual_seed(0)
    old, new = torch.log_softmax(torch.randn(2, 7, generator=generator) * 0.3, dim=1)
    drawn = torch.multinomial(old.exp(), 200_000, replacement=True, generator=generator)[None]
    exact = (old.exp() * (old - new)).sum().item()
    assert approx_kl(new[drawn], old[drawn], torch.ones_like(drawn, dtype=torch.bool)).item() == pytest.approx(exact, rel=0.02)


def test_approx_kl_is_exact_for_small_changes_and_never_negative():
    change = [random.Random(k).uniform(-1e-4, 1e-4) for k in range(64)]
    new = torch.tensor([change])
    value = approx_kl(new, torch.zeros_like(new), torch.ones_like(new, dtype=torch.bool)).item()
    assert value >= 0
    assert value == pytest.approx(sum(r * r / 2 for r in change) / 64, abs=1e-11)
