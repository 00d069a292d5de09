"""The figures of a study."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dataflex.report.labels import short_labels
from dataflex.report.style import Plot, colour, legend, steps_axis
from dataflex.study.reading import Point
from dataflex.study.study_run import StudyRun

UNITS = {"steps": "cost in optimizer steps", "seconds": "cost in seconds", "cpu_seconds": "cost in CPU seconds"}
PARTS = ("starting", "training", "deciding", "evaluating", "saving")
_TICKS = 20  # of a logarithmic axis


def figures(
    runs: Sequence[StudyRun],
    arms: Mapping[str, Mapping[str, Any]],
    curves: Mapping[str, Sequence[tuple[str, Sequence[Point]]]],
    *,
    baseline: str,
    metric: str,
    unit: str,
) -> list[Plot]:
    """All figures that the runs so far allow.

    Args:
        runs: The runs.
        arms: What is said of each arm, as study.json has it.
        curves: By arm, the metric on the way of each of its runs, with the run's name.
        baseline: Name of the baseline.
        metric: The metric.
        unit: The unit of cost.
    """
    done = [run for run in runs if run.value is not None]
    order = list(dict.fromkeys([baseline, *(run.arm for run in runs)]))
    plots = []
    if any(run.cost.get(unit) for run in done):
        caption = f"A point a run; the line joins the means of the lengths of {baseline}. Left and good is better."
        plots.append(
            Plot("pareto", f"{metric} against cost", caption, lambda axes: _pareto(axes, done, order, metric, unit))
        )
    for key, title in (("equal_steps", "Gain at equal steps"), ("equal_cost", "Gain at equal cost")):
        shown = {arm: found[key] for arm, found in arms.items() if found[key]["gains"]}
        if shown:
            caption = "A point a seed, above 0 the arm is better" + (
                "; the bar is the mean with its 95% interval." if _has_interval(shown) else "."
            )
            plots.append(Plot(key.replace("_", "-"), title, caption, _gains(shown, order)))
    drawn = {arm: lines for arm, lines in curves.items() if any(points for _, points in lines)}
    if drawn:
        caption = "Where evaluations while training measured it; a line a run."
        plots.append(Plot("curve-steps", f"{metric} while training", caption, _curves(drawn, order, metric, "")))
        if any(unit in point.cost for lines in drawn.values() for _, points in lines for point in points):
            plots.append(
                Plot("curve-cost", f"{metric} against what it cost", caption, _curves(drawn, order, metric, unit))
            )
    if any(any(run.seconds.values()) for run in done):
        caption = "Means over the seeds. Starting, evaluating and saving are not counted as cost."
        plots.append(Plot("time", "Where the time went", caption, lambda axes: _times(axes, done)))
    return plots


def _has_interval(shown: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(found["interval"] for found in shown.values())


def _pareto(axes: Axes, runs: Sequence[StudyRun], order: Sequence[str], metric: str, unit: str) -> None:
    for index, arm in enumerate(order):
        own = [(run.cost[unit], run.value) for run in runs if run.arm == arm and run.cost.get(unit)]
        if not own:
            continue
        places, values = zip(*own, strict=True)
        axes.plot(places, values, "o", markersize=4, color=colour(index), label=arm, alpha=0.8)
    lengths = dict.fromkeys(run.length for run in runs if run.arm == order[0])
    means = []
    for length in lengths:
        own = [(run.cost[unit], run.value) for run in runs if run.arm == order[0] and run.length == length]
        known = [(cost, value) for cost, value in own if cost is not None and value is not None]
        if known:
            means.append(tuple(statistics.fmean(column) for column in zip(*known, strict=True)))
    if len(means) > 1:
        axes.plot(*zip(*sorted(means), strict=True), color=colour(0))
    axes.set_xlabel(UNITS[unit])
    axes.set_ylabel(metric)
    costs = [cost for run in runs if (cost := run.cost.get(unit))]
    _logarithmic(axes, min(costs) * 0.9, max(costs) * 1.1)
    legend(axes)


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis with ticks at round numbers, however short it is."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    steps = [step * 10.0**power for power in range(-2, 10) for step in (1, 1.5, 2, 3, 5, 7)]
    ticks = [tick for tick in steps if low <= tick <= high]
    axes.set_xticks(ticks if len(ticks) <= _TICKS else ticks[:: len(ticks) // _TICKS + 1])
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")


def _gains(shown: Mapping[str, Mapping[str, Any]], order: Sequence[str]) -> Any:
    def draw(axes: Axes) -> None:
        axes.axvline(0, color="#8a8a8a", linewidth=0.8)
        places = np.arange(len(shown))[::-1]
        for place, (arm, found) in zip(places, shown.items(), strict=True):
            ink = colour(order.index(arm) if arm in order else 0)
            spread = np.linspace(-0.15, 0.15, len(found["gains"])) if len(found["gains"]) > 1 else [0.0]
            axes.plot(found["gains"], place + np.array(spread), "o", markersize=4, color=ink, alpha=0.8)
            if found["interval"]:
                low, high = found["interval"]
                axes.plot([low, high], [place, place], color=ink, linewidth=2)
                axes.plot([found["mean"]], [place], "|", color=ink, markersize=12, markeredgewidth=2)
        axes.set_yticks(places, short_labels(list(shown)))
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("gain over the baseline")

    return draw


def _curves(
    drawn: Mapping[str, Sequence[tuple[str, Sequence[Point]]]], order: Sequence[str], metric: str, unit: str
) -> Any:
    def draw(axes: Axes) -> None:
        for arm, lines in drawn.items():
            ink, label = colour(order.index(arm) if arm in order else 0), arm
            for _, points in lines:
                pairs = [(point.cost.get(unit) if unit else point.step, point.value) for point in points]
                known = [(place, value) for place, value in pairs if place is not None]
                if known:
                    axes.plot(*zip(*known, strict=True), marker="o", markersize=2, color=ink, alpha=0.7, label=label)
                    label = "_"  # one entry of the legend for all runs of an arm
        axes.set_ylabel(metric)
        if unit:
            axes.set_xlabel(UNITS[unit])
        else:
            steps_axis(axes)
        legend(axes)

    return draw


def _times(axes: Axes, runs: Sequence[StudyRun]) -> None:
    series = list(dict.fromkeys(run.name for run in runs))
    means = {
        part: np.array([_mean([run.seconds.get(part) for run in runs if run.name == name]) for name in series])
        for part in PARTS
    }
    total = float(np.max(np.sum([*means.values()], axis=0)))
    unit, name = (3600.0, "hours") if total > 7200 else (60.0, "minutes") if total > 300 else (1.0, "seconds")
    left, places = np.zeros(len(series)), np.arange(len(series))[::-1]
    for index, part in enumerate(PARTS):
        if means[part].any():
            axes.barh(places, means[part] / unit, 0.6, left=left / unit, color=colour(index), label=part)
        left = left + means[part]
    axes.set_yticks(places, short_labels(series))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(name)
    legend(axes)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else 0.0
