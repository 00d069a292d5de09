"""A run whose data sets are called 2023 and no, and whose files lie under ``~``: one real run, and its second half."""

from __future__ import annotations

import json
import shutil

import pytest
from tiny_runs import NOTE_MIX, weights_digest

from dataflex.decisions import DecisionLog
from dataflex.report.page import write_report


@pytest.fixture
def home(workshop, tmp_path, monkeypatch):
    """A home folder with the model and two data sets with names that YAML reads as something else."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "model").symlink_to(workshop.folder / "model")
    shutil.copytree(workshop.folder / "data", home / "data")
    path = home / "data" / "dataset_info.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({"2023": described["tiny"], "no": described["other"]}))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


def test_a_run_under_a_home_folder_with_odd_names_is_whole_in_one_place_and_resumes(workshop, home, train, tmp_path):
    keys = NOTE_MIX | {"dataset": None, "init_mixture_proportions": None, "save_strategy": "steps", "save_steps": 5}
    keys |= {"model_name_or_path": "~/model", "dataset_dir": "~/data", "output_dir": "~/runs/whole"}
    path = workshop.run_file("run", **keys)
    path.write_text(path.read_text() + "dataset: [2023, no]\ninit_mixture_proportions: {2023: 0.7, no: 0.3}\n")
    train(path)
    whole = home / "runs" / "whole"
    assert not (tmp_path / "~").exists()
    assert len(list(DecisionLog(whole))) == 2
    assert json.loads((whole / "dataflex" / "run.json").read_text())["domains"] == ["2023", "no"]
    write_report([whole], tmp_path / "report.html", None)

    (half := home / "runs" / "half").mkdir()
    shutil.copytree(whole / "checkpoint-5", half / "checkpoint-5")
    train(path, "output_dir=~/runs/half", "resume_from_checkpoint=~/runs/half/checkpoint-5")
    assert weights_digest(half) == weights_digest(whole)
    assert not (tmp_path / "~").exists()
