"""Mean labels of a run's steps in its report."""

from __future__ import annotations

from pathlib import Path

from synthetic_runs import write_run

from dataflex.record.run import Logged, RunRecord
from dataflex.report import plots, tables
from dataflex.report.page import write_report
from dataflex.report.read import read_run


def test_mean_labels_are_a_column_and_a_curve_of_the_runs_that_recorded_them(tmp_path: Path) -> None:
    labelled, other = write_run(tmp_path / "labelled"), write_run(tmp_path / "other", seed=1)
    for step, value in ((41, 0.1), (42, 0.4)):
        entry = {"loss": 2.0, "dataflex/influence": value}
        RunRecord(labelled).append(Logged(step=step, values=entry, seconds={}, histogram={}))
    runs = [read_run(labelled, "labelled"), read_run(other, "other")]
    heads, rows = tables.comparison(runs)
    assert [row[heads.index("influence")] for row in rows] == ["0.25", ""]
    (plot,) = [each for each in plots.overlays(runs) if each.name == "influence"]
    assert "Mean label" in plot.caption
    write_report([labelled, other], tmp_path / "report.html")
    assert "Influence of what was trained on" in (tmp_path / "report.html").read_text()


def test_a_run_without_labels_has_neither(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"), "run")
    assert "influence" not in tables.comparison([run])[0]
    assert not [each for each in plots.overlays([run]) if each.name == "influence"]
