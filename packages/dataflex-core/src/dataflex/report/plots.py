"""The plots of a report: those that overlay all runs, and those of one run."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from dataflex.report.run import Floats, Histograms, RunData, Series, Whole
from dataflex.report.style import Draw, Plot, colour, legend, thin

_MOST_MARKS = 120
_MOST_OWN = 6
_OF_PLANS = {
    *("proportions", "samples", "realised_samples", "realised_tokens", "realised_so_far", "epochs"),
    *("domain_losses", "domain_tokens"),
}
_PARTS = ("training", "scoring", "planning", "checkpoints", "evaluation")


def overlays(runs: Sequence[RunData]) -> list[Plot]:
    """Plots that show all runs in one."""
    losses = [run for run in runs if "loss" in run.series]
    evals = [(run, name) for run in runs for name in sorted(run.series) if _is_eval_loss(name)]
    plots = []
    if losses:
        caption = "As the Trainer logged it." + (" Vertical lines: boundaries." if len(runs) == 1 else "")
        plots.append(Plot("loss", "Training loss", caption, lambda axes: _losses(axes, losses)))
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
    plots = [*_of_domains(run, slug), *_of_scores(run, slug), *_of_weights(run, slug)]
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
    recorded = {name for decision in run.decisions for name in decision.metrics} & _OF_PLANS
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
            "Darker: more rows. Each column is one boundary.",
            lambda axes: _heat(axes, steps, counts, ranges, end),
        ),
        Plot(
            f"chosen-{slug}",
            "Scores of the pool and of the chosen rows",
            "Median, and the band from the 25th to the 75th percentile.",
            lambda axes: _bands(axes, steps, quantiles, chosen),
        ),
    ]


def _of_weights(run: RunData, slug: str) -> list[Plot]:
    plots = []
    if "weight_ess" in run.series:
        caption = "Effective share of a step's samples: 1 if all weigh the same."
        line = run.series["weight_ess"]
        plots.append(_shares(f"ess-{slug}", "Effective sample size", caption, [(run.name, line)]))
    if {"weight_min", "weight_mean", "weight_max"} <= run.series.keys():
        caption = "Mean weight, and the band from the lowest to the highest, since the log entry before."
        plots.append(Plot(f"weights-{slug}", "Weights of samples", caption, lambda axes: _weights(axes, run)))
    if run.weights is not None:
        weights = run.weights
        caption = (
            "Darker: more samples. Each column is what was trained on between two log entries; weight 1 is the mean."
        )
        plots.append(
            Plot(f"weight-histogram-{slug}", "Weights over time", caption, lambda axes: _weight_heat(axes, weights))
        )
    if {"weighted_loss", "unweighted_loss"} <= run.series.keys():
        pair = [run.series["unweighted_loss"], run.series["weighted_loss"]]
        caption = "Per target token; both of the same samples."
        draw = _named(["unweighted", "weighted"], pair)
        plots.append(Plot(f"weighted-loss-{slug}", "Weighted and unweighted loss", caption, draw))
    return plots


def _losses(axes: Axes, runs: Sequence[RunData]) -> None:
    if len(runs) == 1:
        steps = [each.step for each in runs[0].decisions]
        for step in steps[:: -(-len(steps) // _MOST_MARKS) or 1]:
            axes.axvline(step, color="#8a8a8a", linewidth=0.6, alpha=0.6)
    _named([run.name for run in runs], [run.series["loss"] for run in runs])(axes)


def _eval_losses(axes: Axes, evals: Sequence[tuple[RunData, str]], runs: Sequence[RunData]) -> None:
    for index, (run, name) in enumerate(evals):
        short = name.removeprefix("eval_").removesuffix("loss").strip("_")
        label = " ".join(part for part in (run.name if len(runs) > 1 else "", short) if part) or "eval"
        line = thin(run.series[name])
        axes.plot(line.steps, line.values, marker="o", markersize=3, color=colour(index), label=label)
    _finish(axes)


def _shares(name: str, title: str, caption: str, lines: Sequence[tuple[str, Series]]) -> Plot:
    def draw(axes: Axes) -> None:
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _named([label for label, _ in lines], [line for _, line in lines])(axes)

    return Plot(name, title, caption, draw)


def _named(labels: Sequence[str], lines: Sequence[Series]) -> Draw:
    def draw(axes: Axes) -> None:
        for index, (label, line) in enumerate(zip(labels, lines, strict=True)):
            shown = thin(line)
            marker = "o" if len(shown.steps) < 20 else ""
            axes.plot(shown.steps, shown.values, marker=marker, markersize=3, color=colour(index), label=label)
        _finish(axes)

    return draw


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
        axes.set_xlim(at[0], at[-1])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _finish(axes)

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
    axes.set_yticks(places, [run.name if len(run.name) < 20 else "…" + run.name[-18:] for run in runs])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(name)
    legend(axes)


def _usage(axes: Axes, counts: Whole) -> None:
    labels = [*map(str, range(len(counts) - 1)), f"{len(counts) - 1}+"]
    axes.bar(labels, counts, color=colour(0))
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("times")
    axes.set_ylabel("rows")


def _weights(axes: Axes, run: RunData) -> None:
    low, mean, high = (thin(run.series[f"weight_{name}"]) for name in ("min", "mean", "max"))
    axes.fill_between(mean.steps, low.values, high.values, color=colour(0), alpha=0.25, linewidth=0)
    axes.plot(mean.steps, mean.values, color=colour(0))
    _finish(axes)


def _heat(axes: Axes, steps: Floats, counts: Floats, ranges: Floats, end: float) -> None:
    """Histograms of different ranges, brought onto one grid by their cumulative counts."""
    every = -(-len(steps) // _MOST_MARKS)
    steps, counts, ranges = steps[::every], counts[::every], ranges[::every]
    low, high = ranges[:, 0].min(), ranges[:, 1].max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    grid = np.linspace(low, high, 41)
    image = np.empty((len(grid) - 1, len(steps)))
    for column, (count, (first, last)) in enumerate(zip(counts, ranges, strict=True)):
        margin = 0.5 if first == last else 0.0  # as numpy does for equal values
        edges = np.linspace(first - margin, last + margin, len(count) + 1)
        below = np.interp(grid, edges, np.append(0.0, np.cumsum(count)))
        image[:, column] = np.diff(below) / max(count.sum(), 1)
    width = steps[-1] - steps[-2] if len(steps) > 1 else 1.0
    columns = np.append(steps, max(steps[-1] + width, min(end, steps[-1] + width)))
    axes.pcolormesh(columns, grid, np.sqrt(image), cmap="Blues", rasterized=True)
    axes.grid(visible=False)
    axes.set_ylabel("score")
    _finish(axes)


def _weight_heat(axes: Axes, weights: Histograms) -> None:
    """One column between two log entries, those of a long run added up; the bins are of equal width in log2."""
    groups = np.array_split(np.arange(len(weights.steps)), min(len(weights.steps), _MOST_MARKS))
    counts = np.array([weights.counts[group].sum(axis=0) for group in groups])
    used = np.flatnonzero(counts.sum(axis=0))
    low, high = int(used[0]), int(used[-1]) + 1
    ends = np.array([weights.steps[group[-1]] for group in groups])
    begin = max(weights.steps[0] - (weights.steps[1] - weights.steps[0] if len(weights.steps) > 1 else 1), 0)
    shares = counts[:, low:high] / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    columns = np.append(begin, ends)
    axes.pcolormesh(columns, weights.edges[low : high + 1], np.sqrt(shares.T), cmap="Blues", rasterized=True)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(visible=False)
    axes.set_ylabel("weight")
    _finish(axes)


def _bands(axes: Axes, steps: Floats, quantiles: Floats, chosen: Sequence[tuple[int, object]]) -> None:
    groups = [("pool", steps, quantiles)]
    if chosen:
        at, values = zip(*chosen, strict=True)
        groups.append(("chosen", np.array(at, np.float64), np.array(values, np.float64)))
    for index, (label, at_steps, values_at) in enumerate(groups):
        low, middle, high = (thin(Series(at_steps, values_at[:, column])) for column in (2, 3, 4))
        axes.fill_between(middle.steps, low.values, high.values, color=colour(index), alpha=0.25, linewidth=0)
        marker = "o" if len(middle.steps) < 20 else ""
        axes.plot(middle.steps, middle.values, marker=marker, markersize=3, color=colour(index), label=label)
    axes.set_ylabel("score")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.set_xlabel("optimizer step")
    legend(axes)
