"""Contradictions that would show at the first evaluation: told from the keys alone, with the names there will be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dataflex.config import evaluation
from dataflex.config.metric_names import metric_names

EACH = {
    "stage": "sft", "do_train": True, "eval_dataset": "val,code", "eval_on_each_dataset": True,
    "eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4,
}  # fmt: skip
ONE = {**EACH, "eval_dataset": "val", "eval_on_each_dataset": False}
BEST = {"load_best_model_at_end": True}
NAMES = "eval_val_loss, eval_code_loss"


def said(keys: dict[str, Any], **changes: Any) -> list[str]:
    given = {key: value for key, value in {**keys, **changes}.items() if value is not None}
    found = evaluation.problems(given, lambda key: "the command line" if key in changes else "run.yaml")
    return [f"{problem.message} {problem.fix}" for problem in found]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (BEST, ["load_best_model_at_end: true (from the command line)", "eval_loss", "metric_for_best_model", NAMES]),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, ["reduce_lr_on_plateau", "metric_for_best_model", NAMES]),
        ({"lr_scheduler_type": "greedy"}, ["lr_scheduler_type: greedy", "metric_for_best_model", NAMES]),
        ({"early_stopping_steps": 2}, ["early_stopping_steps: 2", "metric_for_best_model, which is missing", NAMES]),
        ({"save_strategy": "best"}, ["save_strategy: best", "metric_for_best_model, which is missing", NAMES]),
        ({"metric_for_best_model": "eval_vall_loss"}, ["eval_vall_loss", "Did you mean 'eval_val_loss'?", NAMES]),
        ({"metric_for_best_model": "loss"}, ["metric_for_best_model: loss", NAMES]),
        (BEST | {"metric_for_best_model": "eval_val_accuracy"}, ["eval_val_accuracy", NAMES]),
    ],
)
def test_a_metric_that_will_not_be_measured_is_told_once_with_those_that_will(changes, parts):
    (message,) = said(EACH, **changes)
    assert all(part in message for part in parts)


@pytest.mark.bad_input("a metric that no evaluation has", file="LlamaFactory's keys")
def test_a_misspelt_metric_is_told_with_the_nearest(seen):
    (message,) = said(EACH, metric_for_best_model="eval_vall_loss")
    assert "Did you mean 'eval_val_loss'?" in seen(message)


@pytest.mark.parametrize("metric", ["eval_val_loss", "val_loss", "code_loss", "eval_code_runtime"])
@pytest.mark.parametrize("changes", [BEST, {"early_stopping_steps": 2}, {"lr_scheduler_type": "reduce_lr_on_plateau"}])
def test_a_metric_that_will_be_measured_passes_with_and_without_its_prefix(changes, metric):
    assert said(EACH, **changes, metric_for_best_model=metric) == []


def test_one_eval_loss_is_what_the_trainer_takes_by_default():
    for changes in (BEST, {"lr_scheduler_type": "greedy"}, BEST | {"early_stopping_steps": 3}):
        assert said(ONE, **changes) == []
        assert said({**EACH, "eval_dataset": None, "val_size": 0.1}, **changes) == []  # a split has no name


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"stage": "pt"}, ["eval_loss"]),
        ({"stage": "pt", "compute_accuracy": True}, ["eval_loss"]),  # the stage computes none
        ({"stage": "sft", "compute_accuracy": True}, ["eval_loss", "eval_accuracy"]),
        ({"stage": "sft", "compute_accuracy": True, "prediction_loss_only": True}, ["eval_loss"]),
        (
            {"stage": "sft", "predict_with_generate": True},
            ["eval_rouge-1", "eval_rouge-2", "eval_rouge-l", "eval_bleu-4"],
        ),
        ({"stage": "rm"}, ["eval_loss", "eval_accuracy"]),
        ({"eval_on_each_dataset": True, "eval_dataset": ["a", " a", "b"]}, ["eval_a_loss", "eval_b_loss"]),
    ],
)
def test_the_names_follow_from_stage_sets_and_what_is_computed(keys, names):
    assert list(metric_names({**ONE, **keys})) == names


def test_preference_stages_add_their_rewards_without_the_name_of_a_set():
    dpo = metric_names({**EACH, "stage": "dpo"})
    assert {"eval_val_loss", "eval_code_loss", "eval_rewards/accuracies", "eval_logps/chosen"} <= set(dpo)
    kto = metric_names({**ONE, "stage": "kto"})
    assert "eval_rewards/margins" in kto and "eval_rewards/accuracies" not in kto
    assert "eval_odds_ratio_loss" in metric_names({**ONE, "stage": "dpo", "pref_loss": "orpo"})


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (BEST | {"eval_strategy": "no"}, "eval_strategy is no and save_strategy steps"),
        (BEST | {"save_strategy": "epoch"}, "eval_strategy is steps and save_strategy epoch"),
        (BEST | {"save_steps": 6}, "save_steps is 6 and eval_steps 4"),
        (BEST | {"save_steps": 0.5}, "save_steps is 0.5 and eval_steps 4"),
        (BEST | {"stage": "rm"}, "not possible in stage: rm"),
        (
            {"eval_strategy": "no", "lr_scheduler_type": "reduce_lr_on_plateau"},
            "goes by a metric, and eval_strategy: no",
        ),
        ({"eval_strategy": "no", "early_stopping_steps": 2}, "early_stopping_steps: 2 (from the command line) waits"),
        ({"eval_dataset": None}, "eval_strategy: steps (from run.yaml) evaluates, and there is no eval set."),
        ({"eval_dataset": None, "eval_strategy": "no", "do_eval": True}, "do_eval: true (from the command line)"),
    ],
)
def test_strategies_that_do_not_fit_are_told_as_the_trainer_would_find_out(changes, part):
    (message,) = said(ONE, **changes)
    assert part in message


def test_shares_of_the_run_are_compared_as_the_trainer_does():
    assert said(ONE, **BEST, save_steps=0.3, eval_steps=0.1) == []
    assert len(said(ONE, **BEST, save_steps=0.25, eval_steps=0.1)) == 1
    assert said(ONE, **BEST, save_steps=None, eval_steps=None, logging_steps=100) == []  # 500 and 100


def test_what_evaluates_nothing_is_left_alone():
    assert said({"stage": "sft", "do_train": True}) == []
    assert said(EACH, do_train=False, metric_for_best_model="nothing") == []
    assert said(EACH, stage="ppo", **BEST) == []
    assert said(EACH, eval_strategy="stepps", **BEST) == []  # LlamaFactory says which words there are


def test_eval_sets_of_a_tokenized_path_are_those_it_holds(tmp_path):
    folder = tmp_path / "tokens"
    folder.mkdir()
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation_held"]}))
    keys = {**ONE, "tokenized_path": str(folder)}
    assert metric_names(keys) == ("eval_held_loss",)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    assert "holds none" in said(keys)[0]
    (folder / "dataset_dict.json").write_text("{")
    assert metric_names(keys) is None and said(keys, **BEST) == []


def test_a_trainer_without_llamafactory_is_told_what_is_certain():
    keys = {**EACH, "stage": "", "eval_dataset": ["a", "b"]}
    assert "eval_a_loss, eval_b_loss" in said(keys, **BEST, metric_for_best_model="loss")[0]
    assert said(keys, **BEST, metric_for_best_model="eval_mean_token_accuracy") == []
    assert "EarlyStoppingCallback" in said({**keys, "early_stopping_steps": 3})[0]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"eval_strategy": "no", "save_strategy": "no", **BEST}, "load_best_model_at_end has no effect"),
        ({"eval_strategy": "no", "save_strategy": "best"}, "save_strategy: best writes no checkpoint"),
        ({"early_stopping_steps": 0, "metric_for_best_model": "loss"}, "ends the run at its first evaluation"),
        ({"metric_for_best_model": "eval_loss", "greater_is_better": True}, "takes the highest eval_loss for the best"),
        ({"metric_for_best_model": "accuracy", "greater_is_better": False}, "takes the lowest accuracy for the best"),
    ],
)
def test_what_does_nothing_or_the_opposite_is_warned_of(changes, part):
    (warning,) = evaluation.warnings({**ONE, **changes}, lambda key: "run.yaml")
    assert part in warning
    assert list(evaluation.warnings(ONE, lambda key: "run.yaml")) == []
