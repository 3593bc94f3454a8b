"""A curve on a logarithmic axis, drawn with Braille characters: 2 x 4 dots in each."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH = 64
"""Characters."""
ROWS_PER_DECADE = 2
MARGIN = 0.1
"""So far, in decades, may the highest points stick out without a decade of their own."""
BLANK = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of each dot, by row and column of the character."""


def log_plot(points: Sequence[tuple[float, float]], x_label: str, y_label: str) -> str:
    """Lines of text that show the points with a positive y."""
    dots = [(x, math.log10(y)) for x, y in points if y > 0]
    left, right = min(x for x, _ in dots), max(x for x, _ in dots)
    bottom, top = math.floor(min(y for _, y in dots)), math.ceil(max(y for _, y in dots) - MARGIN)
    height = (top - bottom) * ROWS_PER_DECADE
    cells = [[BLANK] * WIDTH for _ in range(height)]
    for x, y in dots:
        column = round((x - left) / (right - left) * (2 * WIDTH - 1))
        row = round((top - min(y, top)) / (top - bottom) * (4 * height - 1))
        cells[row // 4][column // 2] |= DOTS[row % 4][column % 2]
    lines = [f"      {y_label}"]
    for index, line in enumerate(cells):
        decade, between = divmod(index, ROWS_PER_DECADE)
        label = "" if between else f"1e{top - decade}"
        lines.append(f"{label:>5} {'│' if between else '┤'}{''.join(map(chr, line))}")
    lines.append(" " * 6 + "└" + "─" * WIDTH)
    lines.append(f"       {left:<8.3f}{x_label:^{WIDTH - 16}}{right:>8.3f}")
    return "\n".join(lines) + "\n"
