"""The shape of an order: mean score of each tenth of a pass, a line for each of some boundaries, or for each domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from dataflex.report.run import RunData, is_number
from dataflex.report.style import Plot, colour, legend

MOST_LINES = 6
"""Boundaries of which a line is drawn: the first, the last, and some between."""

_METRIC = "score_by_tenth"


def of_order(run: RunData, slug: str) -> list[Plot]:
    """The plot of a run's orders; none if no order was recorded.

    Args:
        run: The run.
        slug: Ends the plot's name.
    """
    found = [(f"step {each.step}", values) for each in run.decisions if (values := _numbers(each.metrics.get(_METRIC)))]
    rest = "of what was left of a pass, in the order it was to be trained on"
    if not found:
        step, found = _of_domains(run)
        caption = f"Mean score of each tenth {rest}, by domain, as of step {step}."
    else:
        places = np.unique(np.linspace(0, len(found) - 1, MOST_LINES).round().astype(int))
        some = "" if len(places) == len(found) else f" Of {len(found)} boundaries, {len(places)} are shown."
        found = [found[place] for place in places]
        caption = f"Mean score of each tenth {rest}.{some}"
    if not found:
        return []
    return [Plot(f"order-{slug}", "Scores along the order", caption, lambda axes: _draw(axes, found))]


def _of_domains(run: RunData) -> tuple[int, list[tuple[str, list[float]]]]:
    """The last order beside a mixer, which has a list for each domain; none if there is none."""
    for each in reversed(run.decisions):
        lists = each.metrics.get(_METRIC)
        lines = [_numbers(values) for values in lists] if isinstance(lists, list) else []
        if any(lines):
            names = [*run.domains, *map(str, range(len(run.domains), len(lines)))]
            return each.step, [(name, values) for name, values in zip(names, lines, strict=False) if values]
    return 0, []


def _numbers(values: object) -> list[float]:
    """The means, NaN where nothing was scored; empty if they are none."""
    if not isinstance(values, list) or any(isinstance(value, list) for value in values):
        return []
    return [float(value) if is_number(value) else float("nan") for value in values]


def _draw(axes: Axes, lines: Sequence[tuple[str, Sequence[float]]]) -> None:
    for index, (label, means) in enumerate(lines):
        middles = (np.arange(len(means)) + 0.5) / len(means)
        axes.plot(middles, means, marker="o", markersize=3, color=colour(index), label=label)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("place in the rest of the pass")
    axes.set_ylabel("score")
    legend(axes)
