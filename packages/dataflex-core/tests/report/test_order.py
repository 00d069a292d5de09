"""The report shows the shape of an order, of a run that recorded one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from synthetic_runs import write_run

from dataflex.report import plots
from dataflex.report.order import MOST_LINES, of_order
from dataflex.report.page import write_report
from dataflex.report.read import read_run
from dataflex.report.run import RunData


@pytest.fixture
def run(tmp_path: Path) -> RunData:
    read = read_run(write_run(tmp_path / "order", boundaries=9), "order")
    shape = {"score_by_tenth": [*map(float, range(9)), None]}
    changed = [dataclasses.replace(each, metrics={**each.metrics, **shape}) for each in read.decisions]
    return dataclasses.replace(read, decisions=changed)


def test_some_boundaries_are_drawn_and_the_caption_says_how_many(run: RunData) -> None:
    (plot,) = of_order(run, "1")
    assert f"Of 9 boundaries, {MOST_LINES} are shown." in plot.caption
    axes = Figure().subplots()
    plot.draw(axes)
    assert len(axes.lines) == MOST_LINES
    assert axes.lines[0].get_xdata().tolist() == pytest.approx([0.05 + tenth / 10 for tenth in range(10)])
    assert plot in plots.of_run(run, 0) or "order-1-order" in [each.name for each in plots.of_run(run, 0)]


def test_beside_a_mixer_each_domain_has_a_line_of_the_last_boundary(run: RunData) -> None:
    lists = [[1.0, 2.0, None], [], [3.0, 2.0, 1.0]]
    changed = [dataclasses.replace(each, metrics={"score_by_tenth": lists}) for each in run.decisions]
    (plot,) = of_order(dataclasses.replace(run, decisions=changed), "1")
    assert f"by domain, as of step {run.decisions[-1].step}." in plot.caption
    axes = Figure().subplots()
    plot.draw(axes)
    assert [line.get_ydata().tolist()[:2] for line in axes.lines] == [[1.0, 2.0], [3.0, 2.0]]


def test_a_run_without_an_order_has_no_such_plot(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "select")
    assert of_order(read_run(folder, "select"), "1") == []
    write_report([folder], tmp_path / "report.html")
    assert "Scores along the order" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("odd", ["high", [], ["high", None], {"a": 1}, [[], "x", 3], [["a"], [None]]])
def test_a_record_of_something_else_does_no_harm(run: RunData, odd: object) -> None:
    changed = dataclasses.replace(run.decisions[0], metrics={"score_by_tenth": odd})
    for plot in of_order(dataclasses.replace(run, decisions=[changed]), "1"):
        plot.draw(Figure().subplots())
