"""Histograms over a run, a column each: the stronger the colour, the more there is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba

from dataflex.report.run import Floats, Histograms
from dataflex.report.style import COLOURS, steps_axis

MOST_COLUMNS = 120
"""Columns of a plot: of more boundaries, every n-th is shown; of more log entries, neighbours are added up."""

_BINS = 40
_INK = LinearSegmentedColormap.from_list("ink", [to_rgba(COLOURS[0], 0), to_rgba(COLOURS[0], 1)])
"""From nothing to full: what lies behind shows through, be it light or dark."""


def every(boundaries: int) -> int:
    """Of so many boundaries, every how manieth is shown."""
    return -(-boundaries // MOST_COLUMNS) or 1


def score_heat(axes: Axes, steps: Floats, counts: Floats, ranges: Floats, end: float) -> None:
    """Draw histograms of different ranges, brought onto one grid by their cumulative counts.

    Args:
        axes: Where.
        steps: Of the boundaries; shape ``[n]``.
        counts: Shape ``[n, bins]``.
        ranges: Lowest and highest score of each; shape ``[n, 2]``.
        end: Steps done: the last column ends there.
    """
    width = steps[-1] - steps[-2] if len(steps) > 1 else 1.0
    until = end if end > steps[-1] else steps[-1] + width
    shown = slice(None, None, every(len(steps)))
    steps, counts, ranges = steps[shown], counts[shown], ranges[shown]
    low, high = ranges[:, 0].min(), ranges[:, 1].max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    grid = np.linspace(low, high, _BINS + 1)
    image = np.empty((_BINS, len(steps)))
    for column, (count, (first, last)) in enumerate(zip(counts, ranges, strict=True)):
        margin = 0.5 if first == last else 0.0  # as numpy does for equal values
        edges = np.linspace(first - margin, last + margin, len(count) + 1)
        below = np.interp(grid, edges, np.append(0.0, np.cumsum(count)))
        image[:, column] = np.diff(below) / max(count.sum(), 1)
    _draw(axes, np.append(steps, until), grid, image)
    axes.set_ylabel("score")


def weight_heat(axes: Axes, weights: Histograms) -> None:
    """Draw one column between two log entries, those of a long run added up; the bins are of equal width in log2."""
    groups = np.array_split(np.arange(len(weights.steps)), min(len(weights.steps), MOST_COLUMNS))
    counts = np.array([weights.counts[group].sum(axis=0) for group in groups])
    used = np.flatnonzero(counts.sum(axis=0))
    low, high = int(used[0]), int(used[-1]) + 1
    ends = np.array([weights.steps[group[-1]] for group in groups])
    begin = max(weights.steps[0] - (weights.steps[1] - weights.steps[0] if len(weights.steps) > 1 else 1), 0)
    shares = counts[:, low:high] / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    _draw(axes, np.append(begin, ends), weights.edges[low : high + 1], shares.T)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("weight")


def _draw(axes: Axes, columns: Floats, rows: Floats, shares: npt.NDArray[np.floating]) -> None:
    """Square roots, so that a few rows are seen beside many."""
    axes.pcolormesh(columns, rows, np.sqrt(shares), cmap=_INK, vmin=0, rasterized=True)
    axes.grid(visible=False)
    steps_axis(axes)
