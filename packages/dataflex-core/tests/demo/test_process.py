"""Runs in processes of their own."""

from __future__ import annotations

import os
import sys

import pytest

from dataflex.demo import process
from dataflex.errors import DataFlexError


def test_a_failing_run_shows_the_end_of_its_log_and_where_it_lies(tmp_path):
    log = tmp_path / "logs" / "run.log"
    with pytest.raises(DataFlexError) as raised:
        process.train(
            tmp_path / "missing.yaml",
            output_dir=tmp_path / "out",
            log=log,
            environ=os.environ,
            report=lambda note, done, total: None,
        )
    message = str(raised.value)
    assert "missing.yaml failed with exit code 2" in message
    assert "does not exist" in message  # what the run itself said
    assert str(log) in message
    assert f"{sys.executable} -m dataflex train" in message


def test_the_tail_shows_only_the_last_state_of_a_progress_bar(tmp_path):
    log = tmp_path / "log"
    log.write_text("first\n 0%|\r 50%|\r100%|\n\nlast\n", newline="")
    assert process.tail(log) == "first\n100%|\nlast"
    assert process.tail(log, lines=1) == "last"


def test_what_the_user_set_in_the_environment_stays():
    environ = process.environment({"OMP_NUM_THREADS": "4"}, several_devices=False)
    assert environ["OMP_NUM_THREADS"] == "4"
    assert environ["HF_HUB_OFFLINE"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in environ


def test_of_several_devices_one_is_used():
    assert process.environment({}, several_devices=True)["CUDA_VISIBLE_DEVICES"] == "0"
    given = process.environment({"CUDA_VISIBLE_DEVICES": "3"}, several_devices=True)
    assert given["CUDA_VISIBLE_DEVICES"] == "3"
