"""Run files: what DataFlex and LlamaFactory read in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataflex.demo.runs import LONG, RUNS, Paths, command, write_study
from dataflex.demo.settings import Settings
from dataflex.schedule import resolve
from dataflex.study.arms import Base
from dataflex.study.file import read_study_file
from dataflex.study.plan import Plan

FULL = Settings.choose(42, quick=False)


def runs_of(settings, folder, *, cpu=True):
    """The run files of the demo's study, by the run."""
    study = read_study_file(write_study(RUNS, settings, Paths(folder), cpu=cpu))
    return {run.series: run.run for run in Plan(study, Base.read(study.base), study.lengths).runs()}


def schedule_of(run, settings):
    return resolve(run.steps(), epochs=1, pool_size=settings.pool, global_batch=settings.batch)


def test_the_arms_have_the_recipes_110_steps_and_the_long_run_four_times_as_many_in_stages_of_the_same_length(tmp_path):
    runs = runs_of(FULL, tmp_path)
    assert [*runs] == ["random", "loss", "lexical", "less", f"random@{LONG}"]
    for name, run in runs.items():
        schedule = schedule_of(run, FULL)
        total = 440 if "@" in name else 110
        assert (schedule.total, list(schedule.boundaries)) == (total, list(range(20, total, 30)))


@pytest.mark.parametrize("quick", [False, True])
def test_no_stage_draws_more_than_the_smallest_pool_the_demo_accepts(quick, tmp_path):
    settings = Settings.choose(42, quick=quick)
    for run in runs_of(settings, tmp_path).values():
        assert schedule_of(run, settings).longest_update * settings.batch <= settings.pool


def test_files_survive_yaml_and_a_blank_in_the_folder(tmp_path):
    folder = tmp_path / "with a blank"
    folder.mkdir()
    runs = runs_of(FULL, folder)
    loss, less = runs["loss"], runs["less"]
    assert (loss.llamafactory["save_strategy"], loss.llamafactory["learning_rate"]) == ("no", 0.003)
    assert loss.llamafactory["use_cpu"] is True and loss.llamafactory["eval_dataset"] == "docstrings,others"
    assert loss.llamafactory["output_dir"] == str(folder / "runs" / "loss" / "42")
    assert loss.ours["component_params"] == {"mode": "top"}
    assert runs["lexical"].ours["component_params"] == {"targets": ["validation"]}
    assert less.llamafactory["eval_dataset"] == "docstrings,others,validation"
    assert less.ours["component_params"]["targets"] == ["validation"]


def test_accelerators_are_used_where_there_are_any(tmp_path):
    assert "use_cpu" not in runs_of(FULL, tmp_path, cpu=False)["random"].llamafactory


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
