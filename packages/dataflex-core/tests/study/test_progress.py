"""What a study shows while it runs, and how long it says the rest will take."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
import yaml
from rich.console import Console

from dataflex.study import progress as module
from dataflex.study.arms import Base
from dataflex.study.file import read_study_file
from dataflex.study.plan import Plan
from dataflex.study.progress import Progress, step_of
from dataflex.study.study_run import Status, StudyRun

BASE = {
    "train_type": "dynamic_select",
    "component_name": "random",
    "warmup_step": 2,
    "update_step": 4,
    "update_times": 2,
}


@pytest.fixture
def runs(tmp_path):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(BASE))
    keys = {
        "base": "run.yaml",
        "arms": {"random": {}, "loss": {"component_name": "loss"}},
        "metric": "x",
        "seeds": [1, 2],
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**keys, "out": str(tmp_path / "out")}, sort_keys=False))
    study = read_study_file(tmp_path / "study.yaml")
    return Plan(study, Base.read(study.base), [1, 2]).runs()


@pytest.fixture
def said(monkeypatch):
    """What was printed; to a file unless a test says it is a terminal."""
    text = io.StringIO()
    monkeypatch.setattr(module, "stderr", Console(file=text, width=100))
    return text


def entry(run, seconds):
    return StudyRun(
        arm=run.arm.name, seed=run.seed, length=run.length, steps=run.steps, status=Status.DONE, metric=4.5,
        metrics={"x": 4.5}, seconds={"starting": 10.0, "training": seconds - 10.0, "deciding": None},
    )  # fmt: skip


def missing(run):
    return StudyRun(arm=run.arm.name, seed=run.seed, length=run.length)


def test_without_a_terminal_each_run_that_ends_has_a_line(runs, said):
    watcher = Progress("docs", 1)
    with watcher:
        watcher.begins(runs, 6, {run.name: missing(run) for run in runs})
        watcher.started(runs[0], evaluates=False)
        watcher.tick()
        watcher.ended(runs[0], entry(runs[0], 30.0))
        watcher.ended(runs[1], replace(missing(runs[1]), status=Status.FAILED, error="it broke"))
    assert said.getvalue().splitlines() == [
        "docs: 6 runs",
        "[1/6] random-1: done, 10 steps, metric 4.5, 30.0 s",
        "[2/6] loss-1: failed: it broke",
        "about 2.7 min left",  # 50 s for each longer baseline, and 30 s for each of the others
    ]


def test_the_rest_is_estimated_once_every_arm_has_ended_once(runs, said):
    watcher = Progress("docs", 2)
    watcher.begins(runs, 6, {run.name: missing(run) for run in runs})
    watcher.ended(runs[0], entry(runs[0], 30.0))
    assert "left" not in said.getvalue()
    watcher.ended(runs[1], entry(runs[1], 50.0))
    # left: random@2-1 and -2 (10 s to start, 40 s of training each), random-2, loss-2; two at a time
    assert said.getvalue().splitlines()[-1] == "about 90.0 s left"
    watcher.ended(runs[2], entry(runs[2], 70.0))
    assert said.getvalue().count("left") == 1


def test_runs_that_were_done_before_count_as_known(runs, said):
    watcher = Progress("docs", 1)
    entries = {run.name: missing(run) for run in runs} | {run.name: entry(run, 20.0) for run in runs[:3]}
    watcher.begins(runs, 6, entries)
    watcher.ended(runs[3], entry(runs[3], 20.0))
    assert said.getvalue().splitlines()[0] == "docs: 6 runs, 3 of them done"
    assert said.getvalue().splitlines()[-1] == "about 40.0 s left"


def test_nothing_is_estimated_while_not_all_runs_are_known(runs, said):
    watcher = Progress("docs", 1)
    watcher.begins(runs[:1], 6, {runs[0].name: missing(runs[0])})
    watcher.ended(runs[0], entry(runs[0], 30.0))
    assert "left" not in said.getvalue()


def test_a_terminal_has_a_table_of_what_runs(runs, monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(module, "stderr", Console(file=text, width=100, force_terminal=True))
    watcher = Progress("docs", 1)
    with watcher:
        watcher.begins(runs, 6, {run.name: missing(run) for run in runs})
        watcher.ended(runs[0], entry(runs[0], 30.0))
        watcher.started(runs[1], evaluates=False)
        watcher.tick()
        (runs[1].output_dir).mkdir(parents=True)
        log = {"current_steps": 4, "total_steps": 10, "loss": 2.5}
        (runs[1].output_dir / "trainer_log.jsonl").write_text(json.dumps(log) + "\n")
        monkeypatch.setattr(watcher, "_looked", 0.0)
        watcher.tick()
    shown = text.getvalue()
    assert "docs: 1 of 6 done, 1 running" in shown and "starting" in shown and "step 4 of 10, loss 2.500" in shown


def test_a_log_that_is_not_there_or_half_written_tells_no_step(tmp_path):
    assert step_of(tmp_path) == ""
    (tmp_path / "trainer_log.jsonl").write_text('{"current_st')
    assert step_of(tmp_path) == ""


def test_an_evaluation_is_shown_as_one(runs, said):
    watcher = Progress("docs", 1)
    watcher.begins(runs, 6, {})
    watcher.started(runs[0], evaluates=True)
    assert watcher._running[runs[0].name][1] == "evaluating"
    watcher.ended(runs[0], replace(entry(runs[0], 30.0), metric=None))
    assert "no metric" in said.getvalue()
