"""``dataflex study``: its options, its exit codes, and where it runs. What a study does is tested in tests/study."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_studies import write_study
from typer.testing import CliRunner

from dataflex.cli import study as module
from dataflex.cli.app import app
from dataflex.cli.study import StudyOptions, finish, list_runs
from dataflex.errors import ConfigError
from dataflex.phases.where import where
from dataflex.study.record import read_record


@pytest.fixture
def asked(monkeypatch):
    """Call the command; gives its exit code. What it would have done is in ``asked.calls``."""
    calls = []

    def run_study(file, overrides, plugin_values, options):
        calls.append((file, overrides, plugin_values, options))
        return 1 if "fail=1" in overrides else 0

    monkeypatch.setattr(module, "run_study", run_study)
    monkeypatch.setattr(module, "list_runs", lambda folder: calls.append(("list", folder)))

    def asked(*words):
        return CliRunner().invoke(app, ["study", *words]).exit_code

    asked.calls = calls
    return asked


def test_every_option_reaches_the_study(asked):
    words = ["s.yaml", "seeds=[1]", "--jobs", "3", "--gpus-per-run", "2", "--on", "ray", "--retry-failed", "--dry-run"]
    words += ["--restart", "a", "--restart", "b", "--extend-baseline", "-p", "mine.py"]
    assert asked(*words) == 0
    options = StudyOptions(
        jobs=3, gpus_per_run=2, on="ray", retry_failed=True, restart=["a", "b"], extend_baseline=True, dry_run=True
    )
    assert asked.calls == [(Path("s.yaml"), ["seeds=[1]"], ["mine.py"], options)]


def test_runs_that_failed_are_exit_code_1(asked):
    assert asked("s.yaml", "fail=1") == 1 and asked("s.yaml") == 0


def test_a_folder_is_listed_without_a_study_file_and_nothing_named_is_refused(asked):
    assert asked("--list", "out") == 0 and asked.calls == [("list", Path("out"))]
    assert asked() != 0


def test_the_tables_and_verdicts_of_a_folder_are_printed(tmp_path, capsys):
    folder = write_study(tmp_path / "docs")
    list_runs(folder)
    said = capsys.readouterr().out
    assert "random@0.5" in said and "4 of 4" in said
    assert "• loss is better than random at equal cost by 0.15 (4 of 4 seeds); eval_b_loss loses 0.02." in said
    with pytest.raises(ConfigError, match=r"--list .* is not the folder of a study"):
        list_runs(tmp_path)


def test_the_end_says_what_is_left_and_writes_the_page(tmp_path):
    folder = write_study(tmp_path / "docs", seeds=(42,))
    record = read_record(folder)
    assert finish(record, folder, signalled=False) == 0 and (folder / "report.html").is_file()
    begun = read_record(write_study(tmp_path / "begun", seeds=(42,), done=False))
    assert finish(begun, tmp_path / "begun", signalled=True) == 0  # SIGTERM is no failure
    assert finish(begun, tmp_path / "begun", signalled=False) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"jobs": 0}, "--jobs 0 must be at least 1"),
        ({"gpus_per_run": -1}, "--gpus-per-run -1 must be at least 0"),
        ({"on": "slurm"}, "--on slurm must be here or ray"),
        ({"gpus_per_run": 1000}, "--jobs 1 with 1000 GPUs a run takes 1000"),
    ],
)
def test_where_a_study_cannot_run_is_told_by_the_option(options, told, tmp_path):
    with pytest.raises(ConfigError, match=told):
        where(**{"on": "here", "jobs": None, "gpus_per_run": None, **options}, out=tmp_path)


def test_without_ray_its_option_says_how_to_install_it(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--on ray needs Ray: pip install 'dataflex-core\[ray\]'"):
        where("ray", tmp_path, jobs=None, gpus_per_run=None)
