"""Which runs a study makes: arms times seeds, and the baseline's other lengths."""

from __future__ import annotations

import pytest
import yaml

from dataflex.errors import ConfigError
from dataflex.study.arms import Base
from dataflex.study.file import read_study_file
from dataflex.study.notes import Part, RunNote, Stage, note_path, read_note
from dataflex.study.plan import Plan

BASE = {
    "do_eval": True,
    "train_type": "dynamic_select",
    "component_name": "random",
    "warmup_step": 20,
    "update_step": 30,
    "update_times": 3,
}
ARMS = {
    "random": {},
    "loss": {"component_name": "loss"},
    "own": {"component_name": "loss", "train_step": 500},
    "tilted": {"train_type": "dynamic_weight", "component_name": "loss"},
    "plain": {"train_type": "static"},
}


@pytest.fixture
def plan(tmp_path):
    def plan(base=BASE, arms=ARMS, lengths=(0.5, 1, 4), seeds=(42, 43), total=None, **keys):
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(base))
        given = {"base": "run.yaml", "arms": arms, "metric": "eval_loss", "seeds": list(seeds), "out": "out", **keys}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
        study = read_study_file(tmp_path / "study.yaml")
        return Plan(study, Base.read(study.base), lengths, total)

    return plan


def test_there_are_arms_times_seeds_and_the_baselines_other_lengths(plan):
    made = plan()
    runs = made.runs()
    assert len(runs) == made.count == 5 * 2 + 2 * 2
    assert [run.name for run in runs[:7]] == [
        *("random-42", "loss-42", "own-42", "tilted-42", "plain-42", "random@0.5-42", "random@4-42")
    ]
    assert str(runs[6].output_dir) == "out/runs/random@4/42" and str(runs[6].file) == "out/files/random@4-42.yaml"


def test_every_run_is_as_long_as_the_baseline_whatever_its_train_type(plan):
    steps = {run.series: run.steps for run in plan().runs()}
    assert steps == {"random": 110, "loss": 110, "own": 500, "tilted": 110, "plain": 110} | {
        "random@0.5": 55,
        "random@4": 440,
    }
    keys = {run.series: {**run.run.ours, **run.run.llamafactory} for run in plan().runs()}
    assert keys["tilted"]["train_step"] == keys["loss"]["train_step"] == keys["plain"]["max_steps"] == 110
    assert keys["random@4"]["train_step"] == 440 and "update_times" not in keys["random@4"]
    assert keys["random"]["update_times"] == 3 and "train_step" not in keys["random"]


def test_a_static_baseline_is_made_longer_by_max_steps(plan):
    arms = {"plain": {"train_type": "static", "max_steps": 40}, "loss": {}}
    keys = {run.series: {**run.run.ours, **run.run.llamafactory} for run in plan(arms=arms, lengths=[2]).runs()}
    assert keys["plain@2"]["max_steps"] == 80 and "train_step" not in keys["plain@2"]
    assert keys["loss"]["train_step"] == 40 and "max_steps" not in keys["loss"]


def test_where_only_the_data_tells_the_length_the_baseline_comes_first(plan):
    made = plan(BASE | {"update_times": -1})
    assert made.total is None and [run.name for run in made.runs()] == ["random-42", "own-42", "random-43", "own-43"]
    assert made.count == 14 and len(made.runs(stand_in=10**6)) == 14
    told = plan(BASE | {"update_times": -1}, total=60)
    assert {run.series: run.steps for run in told.runs()}["random@4"] == 240


def test_lengths_that_round_to_the_same_steps_are_refused(plan):
    with pytest.raises(ConfigError, match=r"of T = 110 optimizer steps, 1 gives 110, 1.001 gives 110. Each needs"):
        plan(lengths=[1.001])
    with pytest.raises(ConfigError, match=r"0.001 gives 0, 1 gives 110"):
        plan(lengths=[0.001])


def test_a_commands_arm_trains_its_last_phase_for_t(plan):
    arms = {"random": {}, "doremi": {"command": "doremi", "doremi": {"proxy": {"max_steps": 5}}}}
    made = {run.series: run for run in plan(arms=arms).runs()}["doremi"]
    assert made.run.llamafactory["doremi"] == {"proxy": {"max_steps": 5}, "final": {"train_step": 110}}
    assert made.length == 1 and made.steps == 110


def test_a_note_is_read_back_and_a_damaged_one_is_named(tmp_path):
    file = tmp_path / "random@0.5-42.yaml"
    assert read_note(file) is None
    note = RunNote(identity={"seed": 1.0}, stage=Stage.DONE, trained=True, starts=2, evaluate=["x"],
                   parts=[Part(began=1.0, seconds=2.5, shared=True)], numbers={"accuracy": 0.5})  # fmt: skip
    note.write(note_path(file))
    assert read_note(file) == note and note_path(file).name == "random@0.5-42.json"
    note_path(file).write_text("{}")
    with pytest.raises(ConfigError, match=r"'identity' is missing.*Move it away to train that run anew"):
        read_note(file)
