"""The report as a file; tests/end_to_end/test_report_page.py opens it in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import SAMPLES, write_run

from dataflex.cli.app import main
from dataflex.report.page import write_report
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
    rows = [re.findall(r"<t[dh]>(.*?)</t[dh]>", row) for row in table.split("<tr>")[1:]]
    cells = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert [(row["run"], row["decisions"]) for row in cells] == [("select", "8"), ("mix", "6"), ("weight", "")]
    assert [row["checkpoints"] for row in cells] == ["2.7 s", "1.9 s", "2.7 s"]


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
    assert "step 0 of 45: still running" in (tmp_path / "report.html").read_text()


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
