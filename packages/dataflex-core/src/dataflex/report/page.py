"""Puts plots and tables into one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from dataflex import __version__
from dataflex.record import files
from dataflex.report import plots, tables
from dataflex.report.labels import visible
from dataflex.report.read import read_runs
from dataflex.report.run import RunData
from dataflex.report.style import Plot


def write_report(folders: Sequence[Path], out: Path, png: Path | None = None) -> list[Path]:
    """Write the report of runs.

    Args:
        folders: Their output directories.
        out: The HTML file.
        png: Folder for each plot as a PNG file; none are written if not given.

    Returns:
        The files that were written, the HTML file first.

    Raises:
        ConfigError: if a folder is not a run's.
    """
    runs = read_runs(folders)
    shared = plots.overlays(runs)
    own = [plots.of_run(run, index) for index, run in enumerate(runs)]
    files.replace_text(out, render(runs, shared, own))
    written = [out]
    if png is not None:
        png.mkdir(parents=True, exist_ok=True)
        for plot in [*shared, *(plot for each in own for plot in each)]:
            path = png / f"{plot.name}.png"
            path.write_bytes(plot.png())
            written.append(path)
    return written


def render(runs: Sequence[RunData], shared: Sequence[Plot], own: Sequence[Sequence[Plot]]) -> str:
    """The page as text. All that comes from a run is escaped; the SVG elements are matplotlib's, which escapes too."""
    heads, rows = tables.comparison(runs)
    return (
        environment()
        .get_template("report.html")
        .render(
            version=__version__,
            heads=heads,
            rows=rows,
            shared=[figure(plot) for plot in shared],
            sections=[section(run, figures) for run, figures in zip(runs, own, strict=True)],
        )
    )


def environment(*rooms: str) -> Environment:
    """The templates of the report, and before them those of other rooms. All that they are given is escaped."""
    loader = ChoiceLoader([PackageLoader(room) for room in (*rooms, "dataflex.report")])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.filters["visible"] = visible
    return made


def section(run: RunData, figures: Sequence[Plot]) -> dict[str, Any]:
    """What the templates show of one run."""
    return {
        "name": run.name,
        "state": run.state,
        "figures": [figure(plot) for plot in figures],
        "most": [sample for sample in run.samples if sample.most],
        "least": [sample for sample in run.samples if not sample.most],
        "settings": tables.settings(run),
    }


def figure(plot: Plot) -> dict[str, str]:
    """What the templates show of a plot."""
    return {"title": plot.title, "caption": plot.caption, "svg": plot.svg(), "name": plot.name}
