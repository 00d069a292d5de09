"""``dataflex check-run``: everything that shows before a model or data is loaded, for several files at once."""

from __future__ import annotations

import json
import os

import pytest
import yaml
from tiny_runs import NOTE_MIX, NOTE_SELECT, NOTE_WEIGHT

from dataflex.cli.check_run import check_runs
from dataflex.errors import ConfigError


def test_files_that_can_start_pass_and_write_nothing(workshop, capsys):
    files = [workshop.run_file("mix", **NOTE_MIX), workshop.run_file("plain")]
    check_runs(files, [])
    assert not list(workshop.out.glob("*/"))
    said = capsys.readouterr().out
    assert "mix.yaml (dynamic_mix with the mixer random)" in said
    assert "plain.yaml (a static run: trained as LlamaFactory does)" in said


def test_all_that_is_wrong_is_said_at_once_with_the_file_it_is_in(workshop):
    files = [
        workshop.run_file("steps", **NOTE_MIX, max_steps=3),
        workshop.run_file("shares", **NOTE_MIX | {"init_mixture_proportions": [0.5, 0.4, 0.1]}),
        workshop.run_file("data", **NOTE_MIX | {"dataset": "tiny,nowhere"}),
        workshop.run_file("key", lerning_rate=1.0),
    ]
    with pytest.raises(ConfigError) as caught:
        check_runs(files, [])
    first, second, third, fourth = str(caught.value).splitlines()
    assert first.startswith("steps.yaml: max_steps=3 differs from the 10 steps")
    assert second.startswith("shares.yaml: init_mixture_proportions (from shares.yaml) has 3 values for 2 domains")
    assert third.startswith("data.yaml: LlamaFactory cannot find dataset: tiny, nowhere") and "nowhere" in third
    assert fourth.startswith("key.yaml: unknown key lerning_rate")


SIX = NOTE_SELECT | {
    "component_name": "less",
    "update_step": 0,
    "dataset": "tinny",
    "component_params": {"preconditoner": "adam", "temperature": "hot"},
    "learning_rat": 1,
    "lr_scheduler_typ": "cosine",
    "finetuning_type": "loar",
    "optim": "adamm_torch",
    "eval_strategy": "stepps",
    "max_samples": "many",
}
TOLD = (
    "update_step: 0 (from six.yaml) must be a whole number",
    "no parameter 'preconditoner' (from six.yaml). Did you mean 'preconditioner'?",
    "component_params.temperature: 'hot' (from six.yaml)",
    "needs an eval set and six.yaml names none",
    "unknown key learning_rat (from six.yaml). Did you mean 'learning_rate'?",
    "unknown key lr_scheduler_typ (from six.yaml). Did you mean 'lr_scheduler_type'?",
    "finetuning_type: 'loar' (from six.yaml) is not one of",
    "max_samples: 'many' (from six.yaml) must be a whole number",
    "LlamaFactory cannot find dataset: tinny (from six.yaml)",
    "adamm_torch is not a valid OptimizerNames",
    "stepps is not a valid IntervalStrategy",
)


def refused(command, *arguments):
    with pytest.raises(ConfigError) as caught:
        command(*arguments)
    return str(caught.value)


def test_every_mistake_of_a_file_is_told_at_once_by_check_run_and_train_alike(workshop, train):
    path = workshop.run_file("six", **SIX)
    lines = refused(train, path).splitlines()
    for mistake in TOLD:
        assert sum(mistake in line for line in lines) == 1, mistake
    assert refused(check_runs, [path], []).splitlines() == [f"six.yaml: {line}" for line in lines]
    assert not (workshop.out / "six").exists()


REFUSED_ALIKE = {
    "a model that is not there": {"model_name_or_path": "./nowhere"},
    "a model that is not there, static": {"train_type": "static", "model_name_or_path": "~/nowhere"},
    "a template": {"template": "qwen4_nothink"},
    "a data set": {"dataset": "nowhere"},
    "a data set, static": {"train_type": "static", "dataset": "nowhere"},
    "an eval set": {"eval_dataset": "val,nowhere"},
    "two sources of an eval set": {"eval_dataset": "val", "val_size": 0.1},
    "a folder that is a file": {"output_dir": "/dev/null/x"},
    "a data set that is named twice": {"dataset": "tiny,other,tiny"},
    "an eval set that is named twice": {"eval_dataset": ["val", "val"], "eval_on_each_dataset": True},
    "shares of a set that is named twice": NOTE_MIX
    | {"dataset": "tiny,other,tiny", "init_mixture_proportions": [0.4, 0.2, 0.4]},
    "shares that do not sum to 1": NOTE_MIX | {"init_mixture_proportions": [0.4, 0.2]},
    "an unknown domain": NOTE_MIX | {"init_mixture_proportions": {"tiny": 0.5, "othr": 0.5}},
    "a limit of an unknown domain": NOTE_MIX | {"mixture_max_epochs": {"tiny": 2, "othr": 1}},
    "a bare number in JSON": {"dataset": 2023},
    "a tracker that is not installed": {"use_swanlab": True},
}


@pytest.mark.parametrize("what", REFUSED_ALIKE)
def test_train_and_check_run_refuse_in_the_same_words(workshop, train, what):
    path = workshop.run_file("run", **NOTE_SELECT | {"dataset": "tiny"} | REFUSED_ALIKE[what])
    if "JSON" in what:
        path = path.rename(path.with_suffix(".json"))
        path.write_text(json.dumps(yaml.safe_load(path.read_text())))
    said = refused(train, path)
    assert refused(check_runs, [path], []) == "\n".join(f"{path.name}: {line}" for line in said.splitlines())
    assert "\n" not in said


def test_a_data_set_that_is_named_twice_can_only_be_scored_once(workshop):
    from dataflex.cli.score import ScoreOptions, run_score

    path = workshop.run_file("run", dataset="tiny,other,tiny")
    options = ScoreOptions(component="loss", out=workshop.out / "s", checkpoint=None, keep_top=None, keep=None)
    assert "dataset (from run.yaml) names tiny more than once" in refused(run_score, path, [], [], options)


def test_a_static_run_with_a_set_twice_is_warned_by_check_run(workshop, caplog):
    check_runs([workshop.run_file("run", dataset="tiny,other,tiny")], [])
    assert "dataset (from run.yaml) names tiny more than once" in caplog.text


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (NOTE_MIX | {"static_mix": True, "component_name": "static"}, ["static_mix", "train_type: static_mix"]),
        (NOTE_MIX | {"component_name": "static"}, ["no mixer 'static'", "train_type: static_mix"]),
        (
            NOTE_WEIGHT | {"component_name": "joint_update_aware"},
            ["no weighter 'joint_update_aware'", "a weighter of dataflex 1.x"],
        ),
        (NOTE_SELECT | {"static_mix": False}, ["unknown key static_mix", "Leave it out: train_type says it"]),
        ({"freeze_gate": True}, ["unknown key freeze_gate", "a key of dataflex 1.x"]),
        ({"mixer_eval_dataset": "val"}, ["unknown key mixer_eval_dataset", "a mixer here reads eval_dataset"]),
        ({"doremi": {"proxy": {}}}, ["unknown key doremi", "`dataflex doremi`"]),
    ],
)
def test_names_of_other_programs_are_known_and_nothing_misleading_is_said(workshop, train, keys, told):
    said = refused(train, workshop.run_file("run", **keys))
    assert [words for words in told if words not in said] == [], said
    assert "Did you mean" not in said and "Was it meant" not in said and "\n" not in said


def test_a_share_that_is_missing_is_not_taken_for_another_key(workshop, train):
    said = refused(train, workshop.run_file("run", **NOTE_MIX | {"init_mixture_proportions": None, "max_samples": 9}))
    assert "init_mixture_proportions is missing" in said and "max_samples" not in said


def test_asking_the_parser_leaves_no_trace(workshop):
    import random

    import numpy as np
    import torch

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), dict(os.environ)
    check_runs([workshop.run_file("run", seed=9)], [])
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), dict(os.environ)
    assert after == before
    assert not (workshop.out / "run").exists()
