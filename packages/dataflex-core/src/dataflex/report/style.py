"""How plots look: small enough for a phone, one SVG for light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dataflex.report.labels import short_labels
from dataflex.report.run import Series

Draw = Callable[[Axes], None]

COLOURS = ("#3f87c8", "#d97a2e", "#3f9f63", "#c9557a", "#8b73d3", "#a58d27", "#2f9f9f", "#8a8a8a")
"""Lines and areas: readable on white and on near-black."""

MOST_POINTS = 400
"""Points of a line; longer ones are averaged down."""

_INK, _GRID = "#010203", "#010204"
"""Stand for the page's colours in an SVG."""

_SIZE = (5.2, 3.0)  # inches: at 400 pixels a letter of 9 points is 9 pixels high

_LEGEND_ROW = 0.165  # inches
_LEGEND_LETTERS, _SWATCH_LETTERS = 78, 8  # what a row of a legend holds, and what a swatch takes of it

_SHADES = ((1.0, 0.0), (1.0, 0.45), (0.0, 0.4))  # towards white or black, and how far

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
    "savefig.transparent": False,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a domain's name may hold a dollar sign
}


@dataclass(frozen=True)
class Plot:
    """One figure of the report.

    Attributes:
        name: Its file name without the end; letters, digits and dashes.
        title: What it shows.
        caption: How to read it.
        draw: Draws it onto axes.
    """

    name: str
    title: str
    caption: str
    draw: Draw

    def svg(self) -> str:
        """As an SVG element whose colours follow the page."""
        buffer = io.StringIO()
        with _figure(self, _INK, _GRID, "none") as figure:
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
        text = text[text.index("<svg") :].replace(_INK, "var(--ink)").replace(_GRID, "var(--grid)")
        text = re.sub(r'\bid="', f'id="{self.name}-', text)
        text = re.sub(r"(url\(|href=\")#", rf"\g<1>#{self.name}-", text)
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        return text.replace("<svg", '<svg role="img"', 1)

    def png(self) -> bytes:
        """As a PNG on white."""
        buffer = io.BytesIO()
        with _figure(self, "#222222", "#dddddd", "white") as figure:
            figure.savefig(buffer, format="png", dpi=160)
        return buffer.getvalue()


def colour(index: int) -> str:
    """Colour of the n-th run or domain: past the eighth lighter ones, past the 16th darker ones."""
    red, green, blue = to_rgb(COLOURS[index % len(COLOURS)])
    towards, share = _SHADES[index // len(COLOURS) % len(_SHADES)]
    return to_hex((red + (towards - red) * share, green + (towards - green) * share, blue + (towards - blue) * share))


def thin(line: Series) -> Series:
    """A series of at most :data:`MOST_POINTS` points: means of neighbours, at the last step of each group."""
    if len(line.steps) <= MOST_POINTS:
        return line
    groups = np.array_split(np.arange(len(line.steps)), MOST_POINTS)
    return Series(
        np.array([line.steps[group[-1]] for group in groups]), np.array([line.values[group].mean() for group in groups])
    )


def steps_axis(axes: Axes) -> None:
    """Name the horizontal axis; half steps have no tick."""
    axes.set_xlabel("optimizer step")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def legend(axes: Axes) -> None:
    """A legend above the plot, if there is something to tell apart. The figure grows by its rows."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) < 2:
        return
    short = short_labels(labels)
    columns = max(1, min(3, int(_LEGEND_LETTERS / (max(map(len, short)) + _SWATCH_LETTERS))))
    rows = -(-len(short) // columns)
    axes.legend(handles, short, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)
    width, height = _SIZE
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.set_size_inches(width, height + max(rows - 2, 0) * _LEGEND_ROW)


@contextmanager
def _figure(plot: Plot, ink: str, grid: str, paper: str) -> Iterator[Figure]:
    colours: dict[Any, Any] = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "legend.labelcolor"), ink
    )
    papers: dict[Any, Any] = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), paper)
    with matplotlib.rc_context({**_STYLE, **colours, **papers, "grid.color": grid, "svg.hashsalt": plot.name}):
        figure = Figure(figsize=_SIZE)
        plot.draw(figure.add_subplot())
        yield figure
