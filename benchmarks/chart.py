"""Several curves in one picture: an SVG file that a Markdown page can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lit_symbolic.reporting.curves import Point, number, ticks
from lit_symbolic.reporting.escaping import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9", "#999999")
"""Told apart by colour-blind people too (Okabe and Ito)."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 50, 220, 34, 42


def chart(title: str, across: str, curves: Mapping[str, Sequence[Point]]) -> str:
    """An SVG of all curves from zero up, with a legend in the order of where they end.

    Args:
        title: What the curves show.
        across: What stands on the horizontal axis, of whole numbers.
        curves: Points of each curve by name, from left to right; one without points is left out.

    Example:
        >>> picture = chart("success", "iteration", {"a": [(1, 0.1), (2, 0.2)], "b": []})
        >>> picture.count("<polyline"), "0.2" in picture
        (1, True)
    """
    drawn = {name: points for name, points in curves.items() if points}
    places = [point for points in drawn.values() for point in points] or [(0.0, 0.0)]
    x_low, x_high = min(x for x, _ in places), max(max(x for x, _ in places), min(x for x, _ in places) + 1)
    y_ticks = ticks(0.0, max(y for _, y in places) or 1.0, 5)

    def at(point: Point) -> Point:
        x = LEFT + (point[0] - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        return round(x, 1), round(HEIGHT - BOTTOM - point[1] / y_ticks[-1] * (HEIGHT - TOP - BOTTOM), 1)

    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    parts.append(f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>')
    for value in y_ticks:
        y = at((x_low, value))[1]
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}" stroke="{"#888888" if value == 0 else "#dddddd"}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{number(value)}</text>')
    parts += [
        f'<text x="{at((value, 0.0))[0]}" y="{bottom + 16}" text-anchor="middle">{number(value)}</text>'
        for value in ticks(x_low, x_high, 7, whole=True)
        if x_low <= value <= x_high
    ]
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>')
    colours = dict(zip(curves, COLOURS * (1 + len(curves) // len(COLOURS)), strict=False))
    for place, (name, points) in enumerate(sorted(drawn.items(), key=lambda item: -item[1][-1][1])):
        line = " ".join(f"{x},{y}" for x, y in map(at, points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        y = TOP + 10 + 20 * place
        parts.append(f'<line x1="{right + 14}" x2="{right + 34}" y1="{y}" y2="{y}" stroke="{colours[name]}" stroke-width="3"/>')
        parts.append(f'<text x="{right + 40}" y="{y + 4}">{escape(name)}: {number(points[-1][1])}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'font-family="sans-serif" font-size="12" fill="#222222">\n' + "\n".join(parts) + "\n</svg>\n"
    )
