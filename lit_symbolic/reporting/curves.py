"""A learning curve as an inline SVG: axes, the course of the values, and the lowest, highest and last value in words."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lit_symbolic.reporting.escaping import escape

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 10, 22
MAX_POINTS = 400
SMOOTH_FROM = 24
"""A curve with at least this many points gets a trailing mean over a twelfth of them, drawn over the values."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """One measure over the iterations.

    Args:
        name: Its title, for a person.
        xs: Iterations finished when it was measured, ascending.
        ys: Its values; one that is not finite is left out of the drawing.
        description: What it means, in one sentence.
        key: The name under which the run logs it.

    Raises:
        ValueError: If there are not as many ``xs`` as ``ys``.

    Example:
        >>> Curve("success rate", (0, 1), (0.1, 0.2)).finite()
        [(0, 0.1), (1, 0.2)]
    """

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    description: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if len(self.xs) != len(self.ys):
            raise ValueError(f"curve {self.name!r} needs one x for every y, got {len(self.xs)} and {len(self.ys)}")

    def finite(self) -> list[Point]:
        """Its points with a value that is finite and can be drawn."""
        return [(x, y) for x, y in zip(self.xs, self.ys, strict=True) if abs(y) < 1e100]


def number(value: float) -> str:
    """A value in about three significant digits, with a real minus sign.

    Example:
        >>> [number(v) for v in (0, 0.03514, -1.0, 12.345, 25600, 3e-05)]
        ['0', '0.0351', '−1', '12.3', '25,600', '3e−05']
    """
    text = f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
    return text.replace("-", "−")


def ticks(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    """Round places on an axis that cover ``low`` to ``high``, about ``count`` of them.

    Args:
        low: Lower end.
        high: Upper end, above ``low``.
        count: How many are wanted.
        whole: Steps of whole numbers only.

    Example:
        >>> ticks(0.0, 0.21, 4), ticks(0, 120, 4, whole=True)
        ([0.0, 0.1, 0.2, 0.3], [0, 50, 100, 150])
    """
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999 and (not whole or m != 2.5)), 10 * power)
    if whole:
        step = max(1, round(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 2 - math.floor(math.log10(step))
    return [round(i * step, digits) for i in range(first, last + 1)]


def thin(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """At most about ``limit`` points with the same outline: of every stretch the lowest and the highest are kept.

    Example:
        >>> thin([(0, 0), (1, 5), (2, 1), (3, 2), (4, 0), (5, 9)], limit=4)
        [(0, 0), (1, 5), (4, 0), (5, 9)]
    """
    if len(points) <= limit:
        return list(points)
    size = math.ceil(2 * len(points) / limit)
    kept = {points[0], points[-1]}
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        kept |= {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
    return sorted(kept)


def trailing_mean(points: Sequence[Point], window: int) -> list[Point]:
    """At each point the mean of it and the ``window - 1`` before it (fewer at the start).

    Example:
        >>> trailing_mean([(0, 0.0), (1, 2.0), (2, 4.0)], window=2)
        [(0, 0.0), (1, 1.0), (2, 3.0)]
    """
    values = [y for _, y in points]
    return [(x, math.fsum(values[max(0, i - window) : i]) / min(window, i)) for i, (x, _) in enumerate(points, start=1)]


def render_curve(curve: Curve) -> str:
    """The curve as a ``<figure>`` with an inline SVG; a curve without a finite value says so."""
    points = curve.finite()
    head = f'<div class="chart-head"><h3 title="{escape(curve.key or curve.name)}">{escape(curve.name)}</h3>'
    description = f'<p class="note">{escape(curve.description)}</p>' if curve.description else ""
    if not points:
        return f'<figure class="chart">{head}</div>{description}<p class="note">no finite value was logged</p></figure>'
    lowest, highest, last = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1]), points[-1]
    head += f'<output class="readout" data-rest="{number(last[1])}">{number(last[1])}</output></div>'
    window = math.ceil(len(points) / 12) if len(points) >= SMOOTH_FROM else 0
    caption = f"lowest {number(lowest[1])} at iteration {number(lowest[0])}, highest {number(highest[1])} at {number(highest[0])}"
    if window:
        caption += f"; bold: mean of the last {window}"
    return f'<figure class="chart">{head}{description}{_svg(curve, points, window)}<figcaption>{caption}</figcaption></figure>'


def _svg(curve: Curve, points: list[Point], window: int) -> str:
    x_low, x_high = points[0][0], max(points[-1][0], points[0][0] + 1)
    y_ticks = _y_ticks(points)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def at(point: Point) -> Point:
        x = LEFT + (point[0] - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        y = TOP + (y_high - point[1]) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return round(x, 1), round(y, 1)

    parts = []
    for value in y_ticks:
        y = at((x_low, value))[1]
        parts.append(f'<line class="{"axis" if value == 0 else "grid"}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 3}" text-anchor="end">{number(value)}</text>')
    for value in ticks(x_low, x_high, 5, whole=True):
        if x_low <= value <= x_high:
            x = at((value, y_low))[0]
            parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 3}"/>')
            parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{number(value)}</text>')
    shown = thin(points)
    smooth = thin(trailing_mean(points, window)) if window else []
    for css, line in (("line faint" if window else "line", shown), ("line", smooth)):
        if len(line) > 1:
            parts.append(f'<polyline class="{css}" points="{" ".join(f"{x},{y}" for x, y in map(at, line))}"/>')
    for css, point in (("low", min(points, key=lambda p: p[1])), ("high", max(points, key=lambda p: p[1])), ("last", points[-1])):
        x, y = at(point)
        parts.append(f'<circle class="{css}" cx="{x}" cy="{y}" r="{3 if css == "last" else 2.5}"/>')
    parts.append(f'<line class="cross" x1="0" x2="0" y1="{TOP}" y2="{HEIGHT - BOTTOM}" visibility="hidden"/>')
    readings = json.dumps([[at(p)[0], f"{number(p[1])} at {number(p[0])}"] for p in shown], ensure_ascii=False)
    label = f"{curve.name}: from {number(points[0][1])} to {number(points[-1][1])}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" data-readings="{escape(readings)}">'
        f"{''.join(parts)}</svg>"
    )


def _y_ticks(points: list[Point]) -> list[float]:
    low, high = min(y for _, y in points), max(y for _, y in points)
    if 0 <= low < 0.6 * high:  # zero is in sight: a curve of rates that does not start there looks steeper than it is
        low = 0.0
    size = max(abs(low), abs(high))
    if high - low <= max(1e-9 * size, 1e-100):
        margin = 0.5 * size if size > 1e-99 else 0.5
        low, high = low - margin, high + margin
    return ticks(low, high, 4)
