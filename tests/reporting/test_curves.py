import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.reporting.curves import MAX_POINTS, SMOOTH_FROM, Curve, render_curve, thin, ticks, trailing_mean

finite = st.floats(-1e90, 1e90)


def polylines(page: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'points="([^"]*)"', page)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())] for points in found]


@given(finite, st.floats(1e-6, 1e6), st.integers(2, 8), st.booleans())
def test_ticks_cover_the_range_evenly_and_are_few(low: float, span: float, count: int, whole: bool) -> None:
    low = math.fmod(low, 1e6)
    high = low + span
    found = ticks(low, high, count, whole)
    slack = 1e-6 * max(abs(low), abs(high), 1e-6)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 2 * count + 2
    steps = [b - a for a, b in pairwise(found)]
    assert max(steps) - min(steps) <= 1e-6 * max(steps) + slack
    if whole:
        assert all(value == int(value) for value in found)


@given(st.lists(finite, min_size=1, max_size=200), st.integers(1, 30))
def test_the_trailing_mean_equals_a_plain_loop(values: list[float], window: int) -> None:
    smooth = trailing_mean(list(enumerate(values)), window)
    for i, (x, mean) in enumerate(smooth):
        part = values[max(0, i - window + 1) : i + 1]
        assert x == i
        assert mean == pytest.approx(sum(part) / len(part), rel=1e-6, abs=1e-9 * max(map(abs, part)))


@given(st.lists(finite, min_size=1, max_size=2_000))
def test_thinning_keeps_ends_and_extremes_and_the_order(values: list[float]) -> None:
    points = list(enumerate(values))
    kept = thin(points, limit=100)
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert {min(values), max(values)} <= {y for _, y in kept}
    assert [x for x, _ in kept] == sorted({x for x, _ in kept})
    assert len(kept) <= 102
    assert set(kept) <= set(points)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60))
def test_any_values_give_a_drawing_inside_its_frame(values: list[float]) -> None:
    page = render_curve(Curve("x", tuple(range(len(values))), tuple(values)))
    assert "nan" not in page
    for line in polylines(page):
        for x, y in line:
            assert -0.1 <= x <= 320.1
            assert -0.1 <= y <= 150.1


def test_higher_values_are_drawn_higher_and_later_ones_further_right() -> None:
    (line,) = polylines(render_curve(Curve("x", (0, 5, 10), (1.0, 3.0, 2.0))))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert x0 < x1 < x2
    assert y1 < y2 < y0
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)


def test_a_value_that_is_not_finite_is_left_out_and_a_curve_without_any_says_so() -> None:
    (line,) = polylines(render_curve(Curve("x", (0, 1, 2), (0.1, math.nan, 0.2))))
    assert len(line) == 2
    assert "no finite value" in render_curve(Curve("x", (0, 1), (math.nan, math.inf)))


def test_the_lowest_highest_and_last_value_are_written_out() -> None:
    page = render_curve(Curve("x", (1, 2, 3), (0.5, 0.875, 0.25)))
    assert "lowest 0.25 at iteration 3" in page
    assert "highest 0.875 at 2" in page
    assert re.search(r"<output[^>]*>0.25</output>", page)


def test_a_long_curve_is_smoothed_and_thinned() -> None:
    short, long = (Curve("x", tuple(range(n)), tuple(math.sin(i) for i in range(n))) for n in (SMOOTH_FROM - 1, 5_000))
    assert len(polylines(render_curve(short))) == 1
    raw, smooth = polylines(render_curve(long))
    assert len(raw) <= MAX_POINTS + 2
    assert len(smooth) <= MAX_POINTS + 2


def test_readings_for_the_pointer_survive_a_hostile_name() -> None:
    class Attributes(HTMLParser):
        found: str | None = None

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "svg":
                self.found = dict(attrs)["aria-label"]

    parser = Attributes()
    parser.feed(render_curve(Curve('"><script>', (0, 1), (0.1, 0.2))))
    assert parser.found == '"><script>: from 0.1 to 0.2'


def test_xs_and_ys_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one x for every y, got 1 and 2"):
        Curve("x", (0,), (0.1, 0.2))
