"""The page of a study, from study.json and what its runs left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_study import metric, write_dynamic
from synthetic_studies import write_study

from dataflex.errors import ConfigError
from dataflex.study import tables
from dataflex.study.page import write_page
from dataflex.study.record import read_record


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study") / "docstrings")


@pytest.fixture(scope="module")
def text(studied):
    return write_page(studied)[0].read_text()


def test_the_page_and_its_figures_lie_in_the_studys_folder(studied, text):
    names = ["pareto", "equal-steps", "equal-cost", "curve-steps", "curve-cost", "time"]
    assert sorted(path.stem for path in (studied / "png").glob("*.png")) == sorted(names)
    assert [name for name in names if f'<figure id="{name}">' not in text] == []
    assert text.startswith("<!doctype html>") and "<title>DataFlex study: docstrings</title>" in text


def test_the_verdicts_of_the_record_stand_first(studied, text):
    verdicts = [arm["verdict"] for arm in read_record(studied).arms.values()]
    shown = re.findall(r"<li>(.*?)\.</li>", text)
    assert [verdict for verdict in verdicts if verdict] == shown and len(shown) == 2
    assert text.index("<li>") < text.index("<h2>")


def test_each_run_links_to_its_own_report(studied, text):
    links = re.findall(r'href="(runs/[^"]+)"', text)
    assert "runs/less/42/report.html" in links and "runs/random@2/43/report.html" in links
    assert [link for link in links if not (studied / link).is_file()] == []


def test_nothing_is_asked_of_the_network_and_nothing_of_a_file_is_markup(tmp_path):
    folder = write_study(tmp_path / "odd", error="<script>alert(1)</script> \u202eevil")
    text = write_page(folder)[0].read_text()
    assert "<script>alert" not in text and "&lt;script&gt;" in text and "\\u202eevil" in text
    assert not re.findall(r'(?:src|href)="https?:', text)


def test_a_study_of_which_no_run_has_ended_has_a_page(tmp_path):
    folder = write_study(tmp_path / "begun", done=False)
    text = write_page(folder)[0].read_text()
    assert "No run has ended yet" in text and "runs are not done" in text


def test_two_seeds_carry_no_verdict_and_the_page_says_why(tmp_path):
    text = write_page(write_study(tmp_path / "few", seeds=(42,)))[0].read_text()
    assert "No verdict: one or two seeds say nothing about the next one" in text


def test_seconds_of_runs_that_shared_cores_are_said_to_be_that(tmp_path):
    folder = write_study(tmp_path / "shared", cost="seconds", shared_cores=True)
    text = write_page(folder)[0].read_text()
    assert "Runs shared the cores of a machine" in text and "<th>cpu_seconds</th>" in text
    assert "shared the cores" not in write_page(write_study(tmp_path / "steps", shared_cores=True))[0].read_text()


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not the folder of a study"):
        write_page(tmp_path)


def test_the_page_may_lie_elsewhere_and_still_leads_to_the_runs(studied, tmp_path):
    page, *_ = write_page(studied, tmp_path / "there" / "page.html", tmp_path / "there" / "png")
    links = re.findall(r'href="(\.\.[^"]+)"', page.read_text())
    assert links and all((page.parent / link).resolve().is_file() for link in links)


def test_a_row_says_what_was_compared(studied):
    record = read_record(studied)
    rows = {row["arm"]: row for row in tables.arm_rows(record.runs, record.arms, baseline="random", unit="steps")}
    assert [*rows] == ["random@0.5", "random", "random@2", "loss", "less"]
    assert rows["loss"]["runs"] == "4 of 4" and rows["loss"]["gain at equal steps"].startswith("+0.2 (4 of 4 better: ")
    assert rows["less"]["pays"].startswith("4 of 4 (deciding 100, allowed 100)")
    assert rows["random"]["gain at equal steps"] == ""
    runs = {(row["run"], row["seed"]): row for row in tables.run_rows(record.runs, "steps")}
    assert runs["less", "42"]["steps"] == "100" and runs["less", "42"]["cost"] == "200"


def test_the_synthetic_runs_are_what_the_stand_in_leaves(tmp_path):
    write_dynamic(tmp_path, {"train_type": "x", "seed": 1}, 10, {"eval_a_loss": metric("loss", 1, 10)}, deciding=0.0)
    assert Path(tmp_path / "eval_results.json").is_file()
