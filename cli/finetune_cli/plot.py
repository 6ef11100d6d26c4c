"""A curve in the terminal: braille dots, two across and four down in every character."""

from __future__ import annotations

import itertools
import math

_BASE = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
Points = list[tuple[int, float]]


def curve(points: Points, *, width: int = 64, height: int = 8, title: str = "loss") -> str:
    """`points` are (step, value), ascending. Empty with fewer than two."""
    points = [(step, value) for step, value in points if math.isfinite(value)]
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return ""
    values = _columns(points, 2 * width)
    known = [value for value in values if value is not None]
    low, high = min(known), max(known)
    room = (high - low) or 1.0
    rows = [0 if v is None else round((high - v) / room * (4 * height - 1)) for v in values]
    grid = [[0] * width for _ in range(height)]
    before: int | None = None
    for column, row in enumerate(rows):
        if values[column] is None:
            continue
        top, bottom = sorted((row, row if before is None else before))
        for dot in range(top, bottom + 1):
            grid[dot // 4][column // 2] |= _DOTS[column % 2][dot % 4]
        before = row
    labels = {0: f"{high:.3g}", height // 2: f"{(high + low) / 2:.3g}", height - 1: f"{low:.3g}"}
    margin = max(len(label) for label in labels.values())
    lines = [f"{'':>{margin}} {title}"]
    for index, cells in enumerate(grid):
        lines.append(f"{labels.get(index, ''):>{margin}} ┤" + "".join(chr(_BASE + cell) for cell in cells))
    first, last = f"{points[0][0]:,}", f"{points[-1][0]:,}"
    lines.append(f"{'':>{margin}} └" + "─" * width)
    lines.append(f"{'':>{margin}}  {first}{'step':^{max(4, width - len(first) - len(last))}}{last}")
    return "\n".join(line.rstrip() for line in lines)


def _columns(points: Points, count: int) -> list[float | None]:
    """The mean of the values that fall into each column; a column between two of them lies on their line."""
    first, span = points[0][0], points[-1][0] - points[0][0]
    sums, sizes = [0.0] * count, [0] * count
    for step, value in points:
        column = (step - first) * (count - 1) // span
        sums[column] += value
        sizes[column] += 1
    known = [column for column in range(count) if sizes[column]]
    values: list[float | None] = [sums[c] / sizes[c] if sizes[c] else None for c in range(count)]
    for left, right in itertools.pairwise(known):
        a, b = sums[left] / sizes[left], sums[right] / sizes[right]
        for column in range(left + 1, right):
            values[column] = a + (b - a) * (column - left) / (right - left)
    return values
