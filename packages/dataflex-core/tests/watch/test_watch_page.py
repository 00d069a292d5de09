"""The page of a run that is watched: what it says, and that nothing of a run is taken for HTML."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_runs import SAMPLES, write_run
from synthetic_studies import write_study

from dataflex.decisions import DecisionLog
from dataflex.errors import ConfigError
from dataflex.record.run import RunRecord
from dataflex.spec import Kind
from dataflex.watch.page import head, page, viewer_of, write_once
from dataflex.watch.text import shown, watch_in


def as_text(folder: Path) -> str:
    console = Console(width=160, force_terminal=False)
    with console.capture() as captured:
        watch_in(console, folder, once=True)
    return captured.get()


@pytest.mark.parametrize(
    ("kind", "titles"),
    [
        (Kind.SELECTOR, ["Training loss", "Scores of the pool over time", "Where the time went", "How often rows"]),
        (Kind.MIXER, ["Proportions asked for", "Loss of each domain"]),
        (Kind.WEIGHTER, ["Effective sample size", "Weights over time"]),
    ],
)
def test_a_run_that_goes_on_is_one_file_with_the_reports_plots(tmp_path: Path, kind: Kind, titles: list[str]) -> None:
    write_once(write_run(tmp_path / "run", kind, done=12), tmp_path / "watch.html")
    text = (tmp_path / "watch.html").read_text()
    assert [title for title in titles if f"<h3>{title}" not in text] == []
    assert "step" in text and "12 of 45" in text
    assert "<script" not in text and "script-src" not in text


def test_texts_of_a_run_are_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "<b>run", done=12)
    text = page(viewer_of(folder).look(), nonce="n")
    assert text.count("<script") == 1 and "&lt;script&gt;document.title" in text
    assert "<b>" not in text and SAMPLES[0] not in text
    said = as_text(folder)
    assert SAMPLES[0] in said and "<b>run" in said


def test_letters_that_would_turn_a_terminal_round_are_written_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", done=12)
    record = RunRecord(folder)
    lines = [json.loads(line) for line in record.samples_path.read_text().splitlines()]
    lines[0]["text"] = "\x1b[31m[red]\u202e"
    record.samples_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = as_text(folder)
    assert "\\u001b[31m[red]\\u202e" in said and "\x1b" not in said


def test_the_next_boundary_is_named_while_the_run_may_go_on(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", done=12)
    (folder / "dataflex" / "alive").touch()
    said = head(viewer_of(folder).look())
    assert "not known yet (no sign of life yet; known within 60 s)" in said
    assert re.search(r"next boundary</dt><dd>step 15, in about [\d.]+ s", said)
    assert "next boundary" in as_text(folder)


def test_a_run_that_has_ended_is_shown_without_a_next_boundary_and_the_terminal_is_left(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    view = viewer_of(folder).look()
    assert view.state == "ended after 45 steps" and view.share == 1.0
    assert not {"next boundary", "end", "its last line"} & set(dict(view.facts))
    write_once(folder, tmp_path / "watch.html")
    text = (tmp_path / "watch.html").read_text()
    assert "ended after 45 steps" in text and "<h3>Training loss" in text
    said = io.StringIO()
    watch_in(Console(width=160, force_terminal=True, file=said), folder, once=False)  # comes back by itself
    assert "ended after 45 steps" in said.getvalue()


def test_a_dead_run_says_its_last_words(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", done=12)
    (folder / "dataflex" / "error.log").write_text("Traceback\n\nOSError: <no> room\n")
    view = viewer_of(folder).look()
    facts = dict(view.facts)
    assert view.state.startswith("dead (") and "next boundary" not in facts
    assert facts["its error"] == "OSError: <no> room" and facts["its last line"].startswith("step 12: loss ")
    assert "OSError: &lt;no&gt; room" in head(view)


def test_a_run_that_has_just_begun_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "run" / "dataflex").mkdir(parents=True)
    (tmp_path / "run" / "dataflex" / "alive").touch()
    viewer = viewer_of(tmp_path / "run")
    assert ("so far", "nothing has been written yet") in viewer.look().facts
    assert "nothing has been written yet" in page(viewer.look())


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not the output directory of a run: it holds neither .*Name the output"):
        viewer_of(tmp_path)
    with pytest.raises(ConfigError, match="it is no folder"):
        viewer_of(tmp_path / "nowhere")


def test_a_damaged_file_is_told_and_what_was_read_before_stands(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", done=12)
    viewer = viewer_of(folder)
    viewer.look()
    with DecisionLog(folder).path.open("a") as file:
        file.write("<b>damaged</b>\n")
    view = viewer.look()
    assert "line 3 is not a decision record" in view.trouble and ("step", "12 of 45") in view.facts
    assert "Cannot be read now" in head(view) and "cannot be read now" in as_text(folder)
    with pytest.raises(ConfigError, match="line 3 is not a decision record"):
        write_once(folder, tmp_path / "watch.html")


def test_a_static_run_is_watched_by_its_log(tmp_path: Path) -> None:
    log = tmp_path / "trainer_log.jsonl"
    log.write_text('{"current_steps": 3, "total_steps": 9, "loss": 2.5, "remaining_time": "0:01:05"}\n{"curr')
    view = viewer_of(tmp_path).look()
    assert ("step", "3 of 9") in view.facts and ("end", "in about 65.0 s") in view.facts
    assert "a run without DataFlex's record gives no sign of life" in view.state


def test_a_study_is_one_line_a_run(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "docstrings", seeds=(1, 2), error="it <b>failed</b>")
    view = viewer_of(folder).look()
    assert view.state == "9 of 10 runs done, 1 failed"
    assert [row[:3] for row in view.rows][-1] == ["less", "2", "failed"]
    text = page(view)
    assert text.count("<tr>") == 11 and "it &lt;b&gt;failed" in text
    assert "9 of 10 runs done" in as_text(folder)
    waiting = write_study(tmp_path / "later", seeds=(1,), done=False)
    assert {row[2] for row in viewer_of(waiting).look().rows} == {"waiting"}
    write_run(waiting / "runs" / "loss" / "1", done=12)
    (waiting / "runs" / "loss" / "1" / "dataflex" / "alive").touch()
    rows = {row[0]: row for row in viewer_of(waiting).look().rows}
    assert rows["loss"][3:5] == ["12 of 45", f"{_last_loss(waiting / 'runs' / 'loss' / '1'):.4g} at step 12"]
    assert rows["loss"][6].startswith("step 15") and rows["less"][2] == "waiting"


def _last_loss(folder: Path) -> float:
    return [entry.values["loss"] for entry in RunRecord(folder).log() if "loss" in entry.values][-1]


def test_thousands_of_decisions_make_a_page_of_ordinary_size(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", Kind.MIXER, boundaries=2000, update=1, done=1990)
    write_once(folder, tmp_path / "watch.html")
    assert (tmp_path / "watch.html").stat().st_size < 1_500_000


def test_watching_leaves_every_file_as_it_is(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", done=12)
    (folder / "dataflex" / "lock").write_text("{}")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    viewer = viewer_of(folder)
    for _ in range(3):
        shown(viewer.look())
        page(viewer.look())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
