"""The commands of a study file, and the numbers that evaluate gives."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from dataflex.errors import ConfigError
from dataflex.study.commands import evaluate_command, is_prepared, last_object, mark_prepared, prepare_command


def test_seed_and_out_are_filled_in_and_nothing_is_run_by_a_shell():
    command = prepare_command(["make", "--seed={seed}", "{out}/data/{seed}", "$HOME; rm {x}"], 7, Path("studies/s"))
    assert command == ("make", "--seed=7", "studies/s/data/7", "$HOME; rm {x}")


def test_a_command_that_was_run_is_not_repeated_unless_it_is_another(tmp_path):
    assert not is_prepared(("make", "7"), 7, tmp_path)
    mark_prepared(("make", "7"), 7, tmp_path)
    assert is_prepared(("make", "7"), 7, tmp_path)
    assert not is_prepared(("make", "8"), 7, tmp_path) and not is_prepared(("make", "7"), 8, tmp_path)


def test_the_output_directory_is_filled_in_or_the_last_argument():
    assert evaluate_command(["score"], Path("runs/a/1")) == ("score", "runs/a/1")
    assert evaluate_command(["score", "-m", "{output_dir}", "x"], Path("r")) == ("score", "-m", "r", "x")


def test_the_last_line_that_is_an_object_counts():
    text = '{"accuracy": 0.1}\nloading...\n{"accuracy": 0.5, "of": 3, "name": "x", "fine": true}\n[1, 2]\nbye\n'
    assert last_object(text, {"eval_loss": 1.0}) == {"accuracy": 0.5, "of": 3.0}
    assert last_object('{"accuracy": NaN}', {}) == {"accuracy": None}
    assert not math.isnan(last_object('{"a": 1}', {})["a"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nothing", "no line that is a JSON object"),
        ("", "no line that is a JSON object"),
        ('{"name": "x"}', "which holds no number"),
        ('{"eval_loss": 2.0}', "eval_loss, which the run has already"),
    ],
)
def test_what_gives_no_new_number_is_refused(text, told):
    with pytest.raises(ConfigError, match=told):
        last_object(text, {"eval_loss": 1.0})
