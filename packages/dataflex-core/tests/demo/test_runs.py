"""Run files: what DataFlex and LlamaFactory read in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataflex.config.run import read_run_file
from dataflex.demo.runs import BASELINE, RUNS, Paths, command, write_run_file
from dataflex.demo.settings import Settings
from dataflex.schedule import resolve

FULL = Settings.choose(42, quick=False)


def schedule_of(run, settings, folder):
    read = read_run_file(write_run_file(run, settings, Paths(folder), cpu=True))
    return resolve(read.steps(), epochs=1, pool_size=settings.pool, global_batch=settings.batch)


@pytest.mark.parametrize("run", [run for run in RUNS if run.times_steps == 1], ids=lambda run: run.name)
def test_runs_of_ordinary_length_have_the_recipes_110_steps(run, tmp_path):
    schedule = schedule_of(run, FULL, tmp_path)
    assert (list(schedule.boundaries), schedule.total) == ([20, 50, 80], 110)


def test_the_long_run_has_four_times_the_steps_in_stages_of_the_same_length(tmp_path):
    (long,) = (run for run in RUNS if run.name == "random_long")
    schedule = schedule_of(long, FULL, tmp_path)
    assert schedule.total == 440
    assert list(schedule.boundaries) == list(range(20, 440, 30))


@pytest.mark.parametrize("quick", [False, True])
def test_no_stage_draws_more_than_the_smallest_pool_the_demo_accepts(quick, tmp_path):
    settings = Settings.choose(42, quick=quick)
    for run in RUNS:
        schedule = schedule_of(run, settings, tmp_path)
        assert schedule.longest_update * settings.batch <= settings.pool


def test_a_run_file_survives_yaml(tmp_path):
    folder = tmp_path / "with a blank"
    folder.mkdir()
    loss = next(run for run in RUNS if run.component == "loss")
    read = read_run_file(write_run_file(loss, FULL, Paths(folder), cpu=True))
    assert read.llamafactory["save_strategy"] == "no"
    assert read.llamafactory["learning_rate"] == 0.003
    assert read.llamafactory["use_cpu"] is True
    assert read.llamafactory["output_dir"] == str(folder / "runs" / "loss")
    assert read.ours["component_params"] == {"mode": "top"}


def test_accelerators_are_used_where_there_are_any(tmp_path):
    read = read_run_file(write_run_file(BASELINE, FULL, Paths(tmp_path), cpu=False))
    assert "use_cpu" not in read.llamafactory


def test_the_printed_command_is_short_where_the_environment_is_on_the_path(tmp_path, monkeypatch):
    program = tmp_path / "dataflex-cli"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert command(Path("/a b/random.yaml")) == "dataflex-cli train '/a b/random.yaml'"


def test_the_printed_command_works_in_an_environment_that_is_not_activated(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.executable", "/env/bin/python")
    assert command(Path("/out/random.yaml")) == "/env/bin/python -m dataflex train /out/random.yaml"
