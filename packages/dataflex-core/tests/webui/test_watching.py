"""The tab that shows the run that was started last."""

from __future__ import annotations

import html

import pytest
from synthetic_runs import SAMPLES, write_run

from dataflex.errors import ConfigError
from dataflex.webui.watching import Watching, framed, report_of


def test_a_run_is_seen_once_it_has_written_and_drawn_again_only_for_something_new(tmp_path):
    watching, folder = Watching(), tmp_path / "run"
    assert watching.look(folder) == ("", None)
    write_run(folder, done=12)
    seen, shown = watching.look(folder)
    assert shown is not None and "<svg" in shown.whole and "run:" in seen
    assert watching.look(folder)[0] == seen
    other = write_run(tmp_path / "other", done=9)
    assert watching.look(other)[0] != seen


def test_no_text_of_a_run_leaves_its_frame_and_nothing_runs_in_it(tmp_path):
    folder = write_run(tmp_path / "run", done=12)
    _, shown = Watching().look(folder)
    assert shown is not None
    element = framed(shown.whole, shown.title)
    assert element.startswith("<iframe sandbox ") and element.count("<") == 2 and element.count('"') == 6
    inner = html.unescape(element.partition("srcdoc=")[2])
    assert "<script" not in inner and any(html.escape(text, quote=False)[:20] in inner for text in SAMPLES)
    assert framed("<p>", '"><script>').count("<") == 2


def test_the_report_is_that_of_the_command(tmp_path):
    report = report_of(write_run(tmp_path / "run", done=12))
    assert report.startswith("<!doctype html>") and "<svg" in report
    with pytest.raises(ConfigError):
        report_of(tmp_path)
