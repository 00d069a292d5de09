"""The plots of a report: those that overlay all runs, and those of one run."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from dataflex.report import curves
from dataflex.report.heat import every, score_heat, weight_heat
from dataflex.report.labels import short_labels, short_number
from dataflex.report.order import of_order
from dataflex.report.run import Floats, RunData, Series, Whole
from dataflex.report.style import Draw, Plot, colour, legend, steps_axis, thin

_MOST_LINES = 60
_FEW_POINTS = 20
_SMALL_SHARE = 0.3  # below it, an axis up to 100% would show a flat line
_MOST_OWN = 6
_PARTS = ("training", "scoring", "planning", "checkpoints", "evaluation")


def overlays(runs: Sequence[RunData]) -> list[Plot]:
    """Plots that show all runs in one."""
    losses = [(run, line) for run in runs if (line := run.training_loss) is not None]
    evals = [(run, name) for run in runs for name in sorted(run.series) if _is_eval_loss(name)]
    plots = []
    if losses:
        marks = _marks(runs[0]) if len(runs) == 1 else []
        caption = _about_losses(runs, marks)
        plots.append(Plot("loss", "Training loss", caption, lambda axes: _losses(axes, losses, marks)))
    if evals:
        plots.append(Plot("eval-loss", "Eval loss", "Of each eval set.", lambda axes: _eval_losses(axes, evals, runs)))
    timed = [run for run in runs if any(run.seconds.values())]
    if timed:
        caption = "Scoring is the time inside the component, training what no other part accounts for."
        plots.append(Plot("time", "Where the time went", caption, lambda axes: _times(axes, timed)))
    overlap = [(run.name, line) for run in runs if (line := run.over_decisions("overlap")) is not None]
    if overlap:
        caption = "Share of a stage's distinct rows that the stage before held too."
        plots.append(_shares("overlap", "Overlap with the selection before", caption, overlap))
    influence = [(run.name, run.series["influence"]) for run in runs if "influence" in run.series]
    if influence:
        caption = "Mean label of the rows of a step: how far their gradients point where the eval set's do."
        draw = _named([name for name, _ in influence], [line for _, line in influence])
        plots.append(Plot("influence", "Influence of what was trained on", caption, draw))
    covered = [(run.name, run.usage.coverage) for run in runs if run.usage is not None]
    if covered:
        caption = "Share of the pool's rows that were trained on at least once."
        plots.append(_shares("coverage", "Coverage of the pool", caption, covered))
    return plots


def of_run(run: RunData, index: int) -> list[Plot]:
    """Plots of one run.

    Args:
        run: The run.
        index: Its place, which makes names of plots unique.
    """
    slug = f"{index + 1}-{_slug(run.name)}"
    plots = [*_of_domains(run, slug), *of_order(run, slug), *_of_scores(run, slug), *_of_lists(run, slug)]
    plots += _of_weights(run, slug)
    if run.usage is not None:
        counts = run.usage.rows_by_times
        caption = "Rows of the pool by how often they were trained on, the warm-up included."
        plots.append(Plot(f"usage-{slug}", "How often rows were used", caption, lambda axes: _usage(axes, counts)))
    return plots


def _slug(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-").lower()


def _is_eval_loss(name: str) -> bool:
    return name.startswith("eval_") and name.endswith("loss")


def _of_domains(run: RunData, slug: str) -> list[Plot]:
    plots = []
    for metric, title, caption in (
        ("proportions", "Proportions asked for", "What the mixer set at each boundary, in force until the next."),
        ("realised_samples", "Samples realised", "Share of each domain among the samples of each stage."),
    ):
        found = run.over_domains(metric)
        if found is not None:
            draw = _stacked(run.domains, *found, float(run.step))
            plots.append(Plot(f"{metric.replace('_', '-')}-{slug}", title, caption, draw))
    losses = run.over_domains("domain_losses")
    if losses is not None:
        caption = "Mean training loss per token since the boundary before."
        plots.append(Plot(f"domain-losses-{slug}", "Loss of each domain", caption, _lines(run.domains, *losses)))
    for name in _own_metrics(run):
        draw = _named(run.domains, [run.series[f"{name}/{domain}"] for domain in run.domains])
        plots.append(Plot(f"own-{_slug(name)}-{slug}", f"{name} of each domain", "As the mixer reports it.", draw))
    return plots


def _own_metrics(run: RunData) -> list[str]:
    """What the mixer itself logs for each domain."""
    recorded = {name for decision in run.decisions for name in decision.metrics} & curves.OF_PLANS
    recorded |= set(curves.listed(run))
    first = f"/{run.domains[0]}" if run.domains else "/"
    found = [name.removesuffix(first) for name in run.series if name.endswith(first)]
    whole = [name for name in found if all(f"{name}/{domain}" in run.series for domain in run.domains)]
    return sorted(set(whole) - recorded)[:_MOST_OWN]


def _of_scores(run: RunData, slug: str) -> list[Plot]:
    scored = [each for each in run.decisions if each.scores.get("histogram_counts")]
    if not scored:
        return []
    steps = np.array([each.step for each in scored], np.float64)
    counts = np.array([each.scores["histogram_counts"] for each in scored], np.float64)
    ranges = np.array([each.scores["histogram_range"] for each in scored], np.float64)
    quantiles = np.array([each.scores["quantiles"] for each in scored], np.float64)
    chosen = [(each.step, each.scores["chosen_quantiles"]) for each in scored if "chosen_quantiles" in each.scores]
    end = float(run.step)
    return [
        Plot(
            f"scores-{slug}",
            "Scores of the pool over time",
            "Stronger colour: more rows. Each column is a boundary"
            + (f"; one in {every(len(steps))} is shown." if every(len(steps)) > 1 else "."),
            lambda axes: score_heat(axes, steps, counts, ranges, end),
        ),
        Plot(
            f"chosen-{slug}",
            "Scores of the pool and of the chosen rows",
            "Median, and the band from the 25th to the 75th percentile.",
            lambda axes: _bands(axes, steps, quantiles, chosen),
        ),
    ]


def _of_lists(run: RunData, slug: str) -> list[Plot]:
    plots = []
    for name in curves.listed(run):
        steps, values, longest = curves.curves(run, name)
        shown = values.shape[1]
        caption = "As the component reports it at each boundary, a curve for each place in the list"
        caption += f"; the first {shown} of {longest}." if shown < longest else "."
        labels = [str(place) for place in range(1, shown + 1)]
        plots.append(Plot(f"list-{_slug(name)}-{slug}", name, caption, _lines(labels, steps, values)))
    return plots


def _of_weights(run: RunData, slug: str) -> list[Plot]:
    plots = []
    if "weight_ess" in run.series:
        caption = "Effective share of a step's samples: 100% if all weigh the same."
        line = run.series["weight_ess"]
        plots.append(_shares(f"ess-{slug}", "Effective sample size", caption, [(run.name, line)]))
    if {"weight_min", "weight_mean", "weight_max"} <= run.series.keys():
        caption = "Mean weight, and the band from the lowest to the highest, since the log entry before."
        plots.append(Plot(f"weights-{slug}", "Weights of samples", caption, lambda axes: _weights(axes, run)))
    if run.weights is not None:
        weights = run.weights
        caption = (
            "Stronger colour: more samples. Each column is what was trained on between two log entries; 1: the "
            "sample counts as in a run without weights."
        )
        plots.append(
            Plot(f"weight-histogram-{slug}", "Weights over time", caption, lambda axes: weight_heat(axes, weights))
        )
    if {"weighted_loss", "unweighted_loss"} <= run.series.keys():
        pair = [run.series["unweighted_loss"], run.series["weighted_loss"]]
        caption = "Per target token; both of the same samples."
        draw = _named(["unweighted", "weighted"], pair)
        plots.append(Plot(f"weighted-loss-{slug}", "Weighted and unweighted loss", caption, draw))
    return plots


def _marks(run: RunData) -> list[int]:
    """Steps of its boundaries; of many, every n-th."""
    steps = [each.step for each in run.boundaries]
    return steps[:: -(-len(steps) // _MOST_LINES) or 1]


def _about_losses(runs: Sequence[RunData], marks: Sequence[int]) -> str:
    caption = "As the Trainer logged it"
    if any("unweighted_loss" in run.series for run in runs):
        caption += "; of weighted steps, the unweighted loss"
    if not marks:
        return f"{caption}."
    whole = len(marks) == len(runs[0].boundaries)
    return f"{caption}. Vertical lines: {'' if whole else 'some of the '}boundaries."


def _losses(axes: Axes, losses: Sequence[tuple[RunData, Series]], marks: Sequence[int]) -> None:
    for step in marks:
        axes.axvline(step, color="#8a8a8a", linewidth=0.6, alpha=0.6)
    _named([run.name for run, _ in losses], [line for _, line in losses])(axes)


def _eval_losses(axes: Axes, evals: Sequence[tuple[RunData, str]], runs: Sequence[RunData]) -> None:
    for index, (run, name) in enumerate(evals):
        short = name.removeprefix("eval_").removesuffix("loss").strip("_")
        label = " ".join(part for part in (run.name if len(runs) > 1 else "", short) if part) or "eval"
        _line(axes, run.series[name], index, label)
    _finish(axes)


def _shares(name: str, title: str, caption: str, lines: Sequence[tuple[str, Series]]) -> Plot:
    def draw(axes: Axes) -> None:
        most = max(line.values.max() for _, line in lines)
        top = 1.0 if not 0 < most < _SMALL_SHARE else most * 1.25
        axes.set_ylim(-0.02 * top, 1.02 * top)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value * 100:.3g}%")
        _named([label for label, _ in lines], [line for _, line in lines])(axes)

    return Plot(name, title, caption, draw)


def _named(labels: Sequence[str], lines: Sequence[Series]) -> Draw:
    def draw(axes: Axes) -> None:
        for index, (label, line) in enumerate(zip(labels, lines, strict=True)):
            _line(axes, line, index, label)
        _finish(axes)

    return draw


def _line(axes: Axes, line: Series, index: int, label: str) -> None:
    shown = thin(line)
    marker = "o" if len(shown.steps) < _FEW_POINTS else ""
    axes.plot(shown.steps, shown.values, marker=marker, markersize=3, color=colour(index), label=label)


def _lines(labels: Sequence[str], steps: Floats, values: Floats) -> Draw:
    return _named(labels, [Series(steps, column) for column in values.T])


def _stacked(labels: Sequence[str], steps: Floats, shares: Floats, end: float) -> Draw:
    def draw(axes: Axes) -> None:
        thinned = [thin(Series(steps, column)) for column in shares.T]
        at = np.append(thinned[0].steps, max(end, steps[-1]))  # the last ones hold to the end
        stack = np.array([np.append(line.values, line.values[-1]) for line in thinned])
        colours = [colour(index) for index in range(len(labels))]
        axes.stackplot(at, stack, labels=labels, colors=colours, step="post", linewidth=0)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _finish(axes)
        axes.set_xlim(at[0], at[-1])

    return draw


def _times(axes: Axes, runs: Sequence[RunData]) -> None:
    total = max(sum(run.seconds.values()) for run in runs)
    unit, name = (3600.0, "hours") if total > 7200 else (60.0, "minutes") if total > 300 else (1.0, "seconds")
    left = np.zeros(len(runs))
    places = np.arange(len(runs))[::-1]
    for index, part in enumerate(_PARTS):
        widths = np.array([run.seconds.get(part, 0.0) for run in runs]) / unit
        if widths.any():
            axes.barh(places, widths, 0.6, left=left, color=colour(index), label=part)
        left += widths
    axes.set_yticks(places, short_labels([run.name for run in runs]))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(name)
    legend(axes)


def _usage(axes: Axes, counts: Whole) -> None:
    labels = [*map(str, range(len(counts) - 1)), f"{len(counts) - 1}+"]
    bars = axes.bar(labels, counts, color=colour(0))
    axes.bar_label(bars, [short_number(count) if count else "" for count in counts], padding=1, fontsize=8)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("times")
    axes.set_ylabel("rows")


def _weights(axes: Axes, run: RunData) -> None:
    low, mean, high = (thin(run.series[f"weight_{name}"]) for name in ("min", "mean", "max"))
    axes.fill_between(mean.steps, low.values, high.values, color=colour(0), alpha=0.25, linewidth=0)
    axes.plot(mean.steps, mean.values, color=colour(0))
    _finish(axes)


def _bands(axes: Axes, steps: Floats, quantiles: Floats, chosen: Sequence[tuple[int, object]]) -> None:
    groups = [("pool", steps, quantiles)]
    if chosen:
        at, values = zip(*chosen, strict=True)
        groups.append(("chosen", np.array(at, np.float64), np.array(values, np.float64)))
    for index, (label, at_steps, values_at) in enumerate(groups):
        low, middle, high = (thin(Series(at_steps, values_at[:, column])) for column in (2, 3, 4))
        axes.fill_between(middle.steps, low.values, high.values, color=colour(index), alpha=0.25, linewidth=0)
        _line(axes, middle, index, label)
    axes.set_ylabel("score")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.set_xlim(left=min(axes.get_xlim()[0], 0))  # plots beside each other begin at the same step
    steps_axis(axes)
    legend(axes)
