"""The report as a file; tests/end_to_end/test_report_page.py opens it in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from synthetic_runs import SAMPLES, write_run

from dataflex.cli.app import main
from dataflex.report import plots, tables
from dataflex.report.heat import score_heat
from dataflex.report.page import write_report
from dataflex.report.read import read_run
from dataflex.report.run import Series
from dataflex.report.style import colour, legend
from dataflex.spec import Kind


@pytest.fixture
def runs(tmp_path):
    return [
        write_run(tmp_path / "select"),
        write_run(tmp_path / "mix", Kind.MIXER, done=31),
        write_run(tmp_path / "weight", Kind.WEIGHTER),
    ]


def test_it_refers_to_nothing_outside_itself(runs, tmp_path):
    write_report(runs, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    assert "<script" not in page and "default-src 'none'" in page and re.search(r"@import|url\((?!#)", page) is None


def test_what_comes_from_a_run_is_escaped(runs, tmp_path):
    write_report(runs[:1], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;" in page and SAMPLES[0] not in page and "<b>web</b>" not in page


HOSTILE = """--></svg>"'>&lt;<script>a()</script><img src=x onerror=a()>{{7*7}}$"""
"""Put behind everything that is text in a run's files."""


class Page(HTMLParser):
    """The elements of a page, with their attributes' names, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[tuple[str, ...]] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add((tag, *(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def rewrite(folder: Path, change: Callable[[str], str]) -> None:
    """Change every text in what a run wrote, names of numbers and parameters included."""

    def changed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            free = key in ("values", "params", "arguments", "versions")
            return {change(name) if free else name: changed(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [changed(each, key) for each in value]
        return change(value) if isinstance(value, str) and key not in ("kind", "result_ref", "plan_ref") else value

    for path in [folder / "decisions.jsonl", *folder.glob("dataflex/*.json*")]:
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        path.write_text("".join(json.dumps(changed(json.loads(line))) + "\n" for line in lines))


@pytest.mark.filterwarnings("ignore:constrained_layout not applied")  # the names are too long for any layout
def test_no_text_of_a_run_becomes_markup(runs, tmp_path):
    for run in runs:
        rewrite(run, lambda given: given + HOSTILE)
    named = [run.rename(tmp_path / f"{run.name}{HOSTILE.replace('/', '')}") for run in runs]
    (path,) = write_report(named, tmp_path / "report.html")
    page = Page(path.read_text())
    names = {name for element in page.elements for name in element}
    assert names & {"script", "img", "onerror"} == set() and {"svg", "table", "pre"} <= names
    for text in (f"loss{HOSTILE}", f"high{HOSTILE}", f"2.14{HOSTILE}", f"{SAMPLES[1]}{HOSTILE}", named[0].name):
        assert text in page.text


def test_the_comparison_has_a_row_for_each_run(runs, tmp_path):
    write_report(runs, tmp_path / "report.html")
    table = (tmp_path / "report.html").read_text().partition('id="comparison"')[2].partition("</table>")[0]
    rows = [re.findall(r"<t[dh]>(?:<div>)?(.*?)(?:</div>)?</t[dh]>", row) for row in table.split("<tr>")[1:]]
    cells = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert [(row["run"], row["boundaries"]) for row in cells] == [("select", "8"), ("mix", "6"), ("weight", "")]
    assert [row["checkpoints"] for row in cells] == ["2.7 s", "1.9 s", "2.7 s"]


def test_a_record_that_a_mixer_leaves_at_the_end_is_no_boundary(tmp_path):
    run = read_run(write_run(tmp_path / "mix", Kind.MIXER), "mix")
    assert [len(run.decisions), len(run.boundaries)] == [9, 8] and run.decisions[-1].step == 45
    heads, (row,) = tables.comparison([run])
    assert dict(zip(heads, row, strict=True))["boundaries"] == "8"


def test_the_training_loss_of_a_weight_run_can_be_compared(tmp_path):
    run = read_run(write_run(tmp_path / "weight", Kind.WEIGHTER), "weight")
    late = run.series["unweighted_loss"]
    late = Series(late.steps[10:], late.values[10:] + 1)  # the warm-up's steps have no weights
    run = replace(run, series={**run.series, "unweighted_loss": late})
    assert run.training_loss.values[:10].tolist() == run.series["loss"].values[:10].tolist()
    assert run.training_loss.values[10:].tolist() == late.values.tolist()
    (plot,) = [plot for plot in plots.overlays([run]) if plot.name == "loss"]
    assert plot.caption == "As the Trainer logged it; of weighted steps, the unweighted loss."


def test_a_legend_of_many_domains_takes_nothing_from_the_plot():
    labels = [f"domain number {number} of a long list" for number in range(24)]
    figure = Figure(figsize=(5.2, 3), layout="constrained")
    axes = figure.add_subplot()
    for label in labels:
        axes.plot([0, 1], [0, 1], label=label)
    legend(axes)
    figure.draw_without_rendering()
    box, page = axes.get_window_extent(), figure.bbox
    assert box.width > 0.8 * page.width and box.height / figure.dpi > 1.8
    assert axes.get_legend().get_window_extent().x1 <= page.x1
    assert len({colour(number) for number in range(24)}) == 24


def test_small_shares_have_an_axis_of_their_own(tmp_path):
    steps = np.array([1.0, 2.0])
    for most, top in ((0.01, 0.0125), (0.9, 1.0)):
        axes = Figure().add_subplot()
        plots._shares("coverage", "", "", [("run", Series(steps, np.array([0, most])))]).draw(axes)
        assert axes.get_ylim()[1] == pytest.approx(1.02 * top)


def test_the_last_column_of_scores_ends_where_the_run_is():
    axes = Figure().add_subplot()
    score_heat(axes, np.array([5.0]), np.ones((1, 30)), np.array([[0.0, 1.0]]), end=12.0)
    assert axes.get_xlim() == (5, 12)
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_every_plot_is_also_a_png(runs, tmp_path):
    html, *pngs = write_report(runs[:1], tmp_path / "report.html", tmp_path / "png")
    figures = re.findall(r'<figure id="([^"]+)"', html.read_text())
    assert [path.stem for path in pngs] == figures and "loss" in figures
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pngs)


def test_many_boundaries_do_not_make_a_large_file(tmp_path):
    folder = write_run(tmp_path / "run", Kind.MIXER, boundaries=1000, update=3, pool=1_000_000)
    (html,) = write_report([folder], tmp_path / "report.html")
    assert html.stat().st_size < 1_000_000


def test_a_run_that_has_just_begun_has_a_report(tmp_path):
    write_report([write_run(tmp_path / "run", done=0)], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "step 0 of 45: still running" in page and "Nothing has been logged yet." in page


def test_the_command_writes_it_and_says_where(runs, tmp_path, capsys):
    out = tmp_path / "here" / "report.html"
    with pytest.raises(SystemExit) as ended:
        main(["report", *map(str, runs), "--out", str(out), "--png", str(tmp_path / "png")])
    assert ended.value.code == 0 and out.is_file()
    assert f"Report: {out}" in capsys.readouterr().out


def test_the_command_names_a_folder_that_is_no_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", str(tmp_path)])
    assert ended.value.code == 2 and "is not the output directory of a run" in capsys.readouterr().err
