"""``dataflex study --dry-run``: what would be done, nothing written."""

from __future__ import annotations

import sys

import pytest
import yaml
from fake_study import FakeProcesses, Silent

from dataflex.errors import ConfigError
from dataflex.study.checks import Tools
from dataflex.study.conduct import Options, conduct
from dataflex.study.dry_run import dry_run
from dataflex.study.file import read_study_file

BASE = {
    "do_eval": True,
    "eval_dataset": "a",
    "eval_on_each_dataset": True,
    "train_type": "dynamic_select",
    "component_name": "random",
    "warmup_step": 2,
    "update_step": 4,
    "update_times": 2,
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def study(base=None, **keys):
        (tmp_path / "run.yaml").write_text(yaml.safe_dump({**BASE, **(base or {})}))
        arms = {"random": {}, "loss": {"component_name": "loss"}}
        given = {"base": "run.yaml", "arms": arms, "metric": "eval_a_loss", "seeds": [1, 2], "out": "out", **keys}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
        return read_study_file(tmp_path / "study.yaml")

    return study


def listed(study, check=lambda run: None, **options):
    return dry_run(study, Tools(check=check, check_command=lambda command, run: None, defaults={}), **options)


def test_every_run_is_listed_with_its_file_and_nothing_is_written(study, tmp_path):
    found = listed(study(baseline_lengths=[2]))
    assert (found.count, found.left, len(found.rows), len(found.files)) == (6, 6, 6, 6)
    assert found.rows[2] == {
        "run": "random@2",
        "seed": "1",
        "steps": "20",
        "state": "to train",
        "file": "out/files/random@2-1.yaml",
    }
    assert yaml.safe_load(found.files[2])["train_step"] == 20 and found.notes == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yaml", "study.yaml"]


def test_what_is_done_and_what_has_failed_is_said(study):
    asked = study(arms={"random": {}, "loss": {"component_name": "loss", "fake": {"fail": 9}}})
    tools = Tools(check=lambda run: None, check_command=lambda command, run: None, defaults={})
    conduct(asked, tools, Options(executor=FakeProcesses()), Silent())
    found = listed(asked)
    assert [row["state"] for row in found.rows] == ["done", "failed", "done", "failed"] and found.left == 0
    again = listed(asked, retry_failed=True, restart=["random"])
    assert [row["state"] for row in again.rows] == ["to train", "goes on", "to train", "goes on"] and again.left == 4


def test_a_killed_run_that_could_not_go_on_is_told_of(study):
    assert listed(study({"save_strategy": "no"})).notes == [
        "save_strategy: no: a run that is killed leaves no checkpoint and begins anew."
    ]


def test_where_only_the_data_tells_the_length_all_runs_are_listed_without_it(study):
    found = listed(study({"update_times": -1}, baseline_lengths=[2]))
    assert len(found.rows) == 6 and len(found.files) == 2 and found.count == found.left == 6
    assert [row["steps"] for row in found.rows[:3]] == ["as the data tells", "T", "T"]
    assert found.notes == ["T is not known before the first run of random has ended: only the data tells it."]


def test_seeds_that_are_not_prepared_are_not_checked(study):
    def refuse(run):
        raise ConfigError("no such data set")

    found = listed(study(prepare=[sys.executable, "-c", "raise SystemExit('never run')"]), check=refuse)
    assert found.notes == ["Not checked: prepare has not been run for seed 1, 2."]
    with pytest.raises(ConfigError, match="arms random, loss: no such data set"):
        listed(study(), check=refuse)
