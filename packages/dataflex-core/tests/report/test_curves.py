"""What a component reports as a list is drawn as curves over the steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from synthetic_runs import write_run

from dataflex.report import curves, plots
from dataflex.report.page import write_report
from dataflex.report.read import read_run
from dataflex.spec import Kind


def with_metrics(folder: Path, of: Callable[[int], dict[str, Any]]) -> Path:
    """Add metrics to every decision of a run, by its place."""
    path = folder / "decisions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for place, line in enumerate(lines):
        line["metrics"] |= of(place)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def selecting(tmp_path: Path) -> Path:
    return with_metrics(
        write_run(tmp_path / "select"),
        lambda place: {
            "subtask_maxima": [place, 2.0 * place, None][: 2 + place % 2],
            "separation": 0.9,
            "empty": [],
            "names": ["a", "b"],
        },
    )


def test_lists_of_numbers_are_found_and_nothing_else(selecting: Path) -> None:
    assert curves.listed(read_run(selecting, "select")) == ["subtask_maxima"]


def test_a_curve_holds_the_value_of_each_boundary(selecting: Path) -> None:
    run = read_run(selecting, "select")
    steps, values, longest = curves.curves(run, "subtask_maxima")
    assert steps.tolist() == [decision.step for decision in run.decisions]
    assert longest == 3
    np.testing.assert_array_equal(values[:, 0], np.arange(len(steps)))
    np.testing.assert_array_equal(values[:, 1], 2.0 * np.arange(len(steps)))
    assert np.isnan(values[:, 2]).all()


def test_the_page_draws_every_list(selecting: Path, tmp_path: Path) -> None:
    drawn = [plot for plot in plots.of_run(read_run(selecting, "select"), 0) if plot.name.startswith("list-")]
    assert [plot.title for plot in drawn] == ["subtask_maxima"]
    axes = Figure().subplots()
    drawn[0].draw(axes)
    first, second, _ = axes.get_lines()
    assert first.get_ydata().tolist() == list(range(len(first.get_ydata())))
    assert second.get_label() == "2"
    write_report([selecting], tmp_path / "report.html")
    assert "subtask_maxima" in (tmp_path / "report.html").read_text()


def test_of_a_long_list_the_first_places_are_drawn(tmp_path: Path) -> None:
    folder = with_metrics(write_run(tmp_path / "select"), lambda place: {"many": [float(place)] * 60})
    (plot,) = (each for each in plots.of_run(read_run(folder, "select"), 0) if each.name.startswith("list-"))
    assert plot.caption.endswith("the first 24 of 60.")


def test_a_mixers_number_for_each_domain_stays_with_the_domains(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "mix", Kind.MIXER), "mix")
    domains = len(run.domains)
    folder = with_metrics(
        write_run(tmp_path / "own", Kind.MIXER),
        lambda place: {"weights": [0.1] * domains, "levels_seen": [0.5] * (domains + 1)},
    )
    assert curves.listed(run) == []
    assert curves.listed(read_run(folder, "own")) == ["levels_seen"]
