"""A name is only suggested if a slip of the fingers makes it of what was written."""

from __future__ import annotations

import pytest

from dataflex.hints import did_you_mean


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("learning_rat", "learning_rate"),
        ("lr_sheduler_type", "lr_scheduler_type"),
        ("preconditoner", "preconditioner"),
        ("focsu", "focus"),
        ("Update-Step", "update_step"),
        ("webb", "web"),
    ],
)
def test_a_slip_is_found(written, meant):
    assert did_you_mean(written, ["other", meant, "something_else"]) == f" Did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("mixer_eval_dataset", "eval_dataset"),
        ("freeze_gate", "freeze_vision_tower"),
        ("doremi", "do_predict"),
        ("init_mixture_proportions", "max_samples"),
        ("warmup_step", "warmup_ratio"),
        ("no", "en"),
        ("static", "stratified"),
    ],
)
def test_another_name_is_not_suggested(written, known):
    assert did_you_mean(written, [known]) == ""


def test_the_nearest_of_several_is_suggested():
    assert "'evals'" in did_you_mean("evlas", ["vals", "evals", "evil"])
