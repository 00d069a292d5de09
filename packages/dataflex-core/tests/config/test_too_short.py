"""Intervals beyond the last step of a run are warned of before it begins."""

from __future__ import annotations

from typing import Any

import pytest

from dataflex.config import run_warnings
from dataflex.config.run import read_run_file
from dataflex.config.too_short import planned_steps, warnings
from dataflex.runs import Steps

RUN = {
    "stage": "sft", "do_train": True, "eval_dataset": "val", "eval_strategy": "steps", "eval_steps": 4,
    "save_strategy": "steps", "save_steps": 4, "logging_steps": 1,
}  # fmt: skip
BEST = {"load_best_model_at_end": True}


def said(changes: dict[str, Any], total: int = 12) -> list[str]:
    given = {key: value for key, value in {**RUN, **changes}.items() if value is not None}
    return list(warnings(given, lambda key: "the command line" if key in changes else "run.yaml", total))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (BEST | {"eval_steps": 500}, "eval_steps: 500 (from the command line) leaves no evaluation before the end"),
        (BEST | {"eval_steps": 12}, "the 12 steps of this run: load_best_model_at_end has no earlier model to choose"),
        (BEST | {"save_steps": None}, "save_steps: 500 (from the command line) is beyond the 12 steps of this run"),
        (BEST | {"save_steps": 16}, "load_best_model_at_end has no earlier model to load, and a run that is stopped"),
        ({"eval_steps": 13}, "nothing is evaluated on the way"),
        ({"eval_steps": None, "logging_steps": 12} | BEST, "logging_steps: 12 (from the command line) leaves no eval"),
        ({"eval_delay": 12}, "eval_delay: 12 (from the command line) leaves no evaluation"),
        ({"early_stopping_steps": 2}, "early_stopping_steps: 2 (from the command line) cannot stop this run: it waits"),
        ({"early_stopping_steps": 3}, "before the last of its 12 steps there are 2."),
        ({"eval_delay": 5, "early_stopping_steps": 1}, "before the last of its 12 steps there are 1."),
        ({"save_steps": 13}, "save_steps: 13 (from the command line) is beyond the 12 steps of this run: there is no"),
        ({"logging_steps": 20}, "logging_steps: 20 (from the command line) is beyond the 12 steps"),
        ({"warmup_steps": 12}, "warmup_steps: 12 (from the command line) warms up the learning rate for longer"),
    ],
)
def test_what_comes_to_nothing_is_warned_of(changes, part):
    (warning,) = said(changes)
    assert part in warning


@pytest.mark.parametrize(
    "changes",
    [
        {},
        BEST,
        {"early_stopping_steps": 1},
        {"save_steps": 12},
        {"eval_steps": 12},
        {"save_steps": None, "logging_steps": None},  # the defaults of 500: nobody chose them
        {"save_steps": 0.5, "logging_steps": 0.1, "eval_steps": 0.25},
        {"eval_strategy": "no", "eval_steps": 500, "early_stopping_steps": None},
        {"eval_strategy": "epoch", "eval_steps": 500},
        {"save_strategy": "no", "save_steps": 500},
        {"logging_strategy": "epoch", "logging_steps": 500},
        {"warmup_steps": 0.1},
        {"warmup_steps": 3},
        {"do_train": False, "save_steps": 500},
    ],
)
def test_what_comes_to_something_is_not(changes):
    assert said(changes) == []


def test_a_share_of_a_short_run_is_one_step_at_least():
    assert said({"eval_steps": 0.01, "early_stopping_steps": 3}) == []


def test_the_defaults_of_a_trainer_are_nobodys_choice():
    keys = {"stage": "", "save_steps": 500, "logging_steps": 500, "eval_strategy": "no"}
    assert said(keys) == []
    assert "save_steps: 700" in said(keys | {"save_steps": 700})[0]


@pytest.mark.parametrize(
    ("steps", "arguments", "total"),
    [
        (Steps(warmup=2, update=3, times=4), {}, 14),
        (Steps(warmup=2, update=3, times=-1), {"num_train_epochs": 2}, None),
        (Steps(warmup=2, update=3, times=-1, train=9), {}, 9),
        (Steps(warmup=2), {"max_steps": 7}, 7),
        (Steps(warmup=2), {}, None),
        (None, {"max_steps": 7}, 7),
        (None, {"max_steps": -1}, None),
    ],
)
def test_the_length_is_known_where_the_keys_say_it(steps, arguments, total):
    assert planned_steps(steps, arguments) == total


@pytest.mark.parametrize("train_type", ["static", "dynamic_select"])
def test_a_run_file_is_told_of_its_own_keys(tmp_path, train_type):
    path = tmp_path / "run.yaml"
    path.write_text(
        f"train_type: {train_type}\nmax_steps: 8\nwarmup_step: 2\nupdate_step: 3\nupdate_times: 2\ndo_train: true\n"
        "save_steps: 500\n"
    )
    run = read_run_file(path, ["logging_steps=100"])
    told = [warning for warning in run_warnings.warnings(run) if "beyond" in warning]
    assert [warning.partition(" is")[0] for warning in told] == [
        "save_steps: 500 (from run.yaml)",
        "logging_steps: 100 (from the command line)",
    ]
    assert not [warning for warning in run_warnings.warnings(run, scores_only=True) if "beyond" in warning]
