"""From base and an arm to a run file: how keys merge, and which length a run gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dataflex.config.written import Written
from dataflex.study.arms import Base, run_of_arm
from dataflex.study.lengths import length_key, planned_steps, steps_at
from dataflex.study.study_file import Arm

SELECT = {
    "model_name_or_path": "data/${seed}/model",
    "do_eval": True,
    "seed": 9,
    "output_dir": "elsewhere",
    "resume_from_checkpoint": "elsewhere/checkpoint-3",
    "overwrite_output_dir": True,
    "train_type": "dynamic_select",
    "component_name": "loss",
    "component_params": {"focus": "high", "temperature": 0.5},
    "warmup_step": 20,
    "update_step": 30,
    "update_times": 3,
}


@pytest.fixture
def compose(tmp_path):
    """The keys of the run of an arm over a base."""

    def compose(arm=None, base=None, *, command="", text=None, **settings):
        path = tmp_path / "base.yaml"
        path.write_text(yaml.safe_dump(SELECT | (base or {}), sort_keys=False) if text is None else text)
        made = Arm(name="arm", keys=arm or {}, written=Written(source="study.yaml"), command=command)
        given = {"seed": 43, "file": Path("files/arm-43.yaml"), "output_dir": Path("out/runs/arm/43"), **settings}
        run = run_of_arm(Base.read(path), made, **given)
        return {**run.llamafactory, **run.ours}

    return compose


def test_the_study_sets_seed_and_output_dir_and_interpolations_see_them(compose):
    keys = compose(steps=110)
    assert (keys["seed"], keys["output_dir"]) == (43, "out/runs/arm/43")
    assert keys["model_name_or_path"] == "data/43/model"


def test_a_dynamic_run_resumes_and_a_static_one_begins_anew(compose):
    dynamic, static = compose(steps=110), compose({"train_type": "static"}, steps=110)
    assert dynamic["resume_from_checkpoint"] is True and dynamic["overwrite_output_dir"] is False
    assert "resume_from_checkpoint" not in static and static["overwrite_output_dir"] is True


def test_keys_merge_as_on_the_command_line(compose):
    keys = compose({"component_params": {"focus": "low"}, "learning_rate": 1.0}, steps=110)
    assert keys["component_params"] == {"focus": "low", "temperature": 0.5} and keys["learning_rate"] == 1.0


def test_another_component_starts_with_its_own_parameters_alone(compose):
    keys = compose({"component_name": "less", "component_params": {"targets": ["val"]}}, steps=110)
    assert keys["component_params"] == {"targets": ["val"]} and keys["update_step"] == 30
    assert "component_params" not in compose({"component_name": "random"}, steps=110)


def test_the_same_component_named_again_keeps_the_parameters(compose):
    assert compose({"component_name": "loss"}, steps=110)["component_params"]["focus"] == "high"


def test_another_train_type_starts_without_the_keys_it_does_not_read(compose):
    keys = compose({"train_type": "dynamic_weight", "component_name": "loss"}, steps=110)
    assert keys["train_step"] == 110 and keys["warmup_step"] == 20
    assert not {"update_step", "update_times", "component_params"} & keys.keys()
    static = compose({"train_type": "static"}, steps=110)
    assert not {"warmup_step", "update_step", "component_name", "component_params", "train_step"} & static.keys()
    assert static["max_steps"] == 110


def test_null_takes_a_key_away(compose):
    assert "do_eval" not in compose({"do_eval": None}, steps=110)
    assert "component_params" not in compose({"component_params": None}, steps=110)


def test_an_arm_without_a_length_gets_that_of_the_study_and_no_other(compose):
    keys = compose(base={"max_steps": 7, "num_train_epochs": 2.0}, steps=110)
    assert keys["train_step"] == 110 and not {"update_times", "max_steps", "num_train_epochs"} & keys.keys()


def test_an_arm_with_a_length_keeps_it_and_loses_that_of_base(compose):
    keys = compose({"update_times": 6}, {"max_steps": 110, "train_step": 110}, steps=110)
    assert keys["update_times"] == 6 and not {"max_steps", "train_step"} & keys.keys()
    assert compose({"num_train_epochs": 2}, steps=110)["num_train_epochs"] == 2


def test_a_length_that_an_arm_takes_away_is_none_of_its_own(compose):
    assert compose({"update_times": None}, steps=110)["train_step"] == 110


def test_the_baseline_keeps_the_length_that_base_has(compose):
    keys = compose(keeps=True)
    assert keys["update_times"] == 3 and "train_step" not in keys


def test_what_base_names_beside_itself_is_named_in_full(compose, tmp_path):
    for name in ("mine.py", "presets.yaml", "weights.json"):
        (tmp_path / name).write_text("")
    base = {
        "plugins": ["mine.py", "no:other", "gone.py"],
        "components_cfg_file": "presets.yaml",
        "init_mixture_proportions": "from:weights.json",
    }
    keys = compose(base=base, steps=110)
    assert keys["plugins"] == [str(tmp_path / "mine.py"), "no:other", "gone.py"]
    assert keys["components_cfg_file"] == str(tmp_path / "presets.yaml")
    assert keys["init_mixture_proportions"] == f"from:{tmp_path / 'weights.json'}"


def test_names_that_yaml_takes_for_something_else_stay_names(compose):
    text = "dataset: no\neval_dataset: 012\ntrain_type: dynamic_select\nsave_strategy: no\n"
    keys = compose(text=text, steps=5)
    assert (keys["dataset"], keys["eval_dataset"], keys["save_strategy"]) == ("no", "012", "no")


def test_a_commands_arm_leaves_choice_and_steps_out_and_trains_its_last_phase_for_t(compose):
    keys = compose({"doremi": {"proxy": {"max_steps": 9}}}, command="doremi", steps=110)
    assert keys["doremi"] == {"proxy": {"max_steps": 9}, "final": {"train_step": 110}}
    assert not {"train_type", "component_name", "component_params", "warmup_step", "update_times"} & keys.keys()
    own = compose({"doremi": {"final": {"max_steps": 50}}}, command="doremi", steps=110)
    assert own["doremi"] == {"final": {"max_steps": 50}}


@pytest.mark.parametrize(
    ("keys", "steps"),
    [
        ({"train_type": "static", "max_steps": 7}, 7),
        ({"train_type": "static", "max_steps": -1}, None),
        ({"train_type": "static", "train_step": 7}, None),
        ({"train_type": "dynamic_select", "warmup_step": 20, "update_step": 30, "update_times": 3}, 110),
        ({"train_type": "dynamic_select", "warmup_step": 20, "update_step": 30, "update_times": -1}, None),
        ({"train_type": "dynamic_select", "warmup_step": 2, "update_step": 3, "update_times": -1, "train_step": 9}, 9),
        ({"train_type": "dynamic_mix", "warmup_step": 20, "update_step": 30, "update_times": 3, "train_step": 50}, 50),
        ({"train_type": "dynamic_weight", "warmup_step": 5, "update_times": 3, "update_step": 4}, None),
        ({"train_type": "dynamic_weight", "train_step": 30, "max_steps": 7}, 30),
        ({"train_type": "dynamic_weight", "max_steps": 7}, 7),
        ({"train_type": "static_mix", "warmup_step": 5, "update_step": 4, "update_times": 3}, 17),
        ({"train_type": "static_mix", "max_steps": 7}, 7),
        ({"train_type": "dynamic_select", "warmup_step": 20}, None),
        ({"train_type": "nonsense"}, None),
    ],
)
def test_the_length_of_a_run_by_its_keys(tmp_path, keys, steps):
    from dataflex.config.run import read_run_file

    (tmp_path / "run.yaml").write_text(yaml.safe_dump(keys))
    assert planned_steps(read_run_file(tmp_path / "run.yaml")) == steps


def test_lengths_are_rounded_to_whole_steps():
    assert [steps_at(length, 110) for length in (0.5, 1, 2, 0.33)] == [55, 110, 220, 36]


def test_each_train_type_has_the_key_that_sets_its_steps():
    assert [length_key(kind) for kind in (None, "static", "dynamic_weight", "static_mix")] == [
        *("max_steps", "max_steps", "train_step", "train_step")
    ]
