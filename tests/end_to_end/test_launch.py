"""Under torchrun our own entry point runs again, on every rank."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_runs import NOTE_SELECT, NOTE_SELECTOR, call, script

from dataflex.decisions import DecisionLog

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _from_nothing(monkeypatch):
    """The start of processes is the point here: none is a fork of the warm server's."""
    monkeypatch.setenv("DATAFLEX_WARM_SOCKET", "")


def test_two_ranks_train_the_notes_class_from_a_path_with_a_blank(workshop):
    folder = workshop.out / "with a blank"
    folder.mkdir()
    (folder / "mine.py").write_text(NOTE_SELECTOR)
    run = workshop.run_file(**NOTE_SELECT | {"component_name": "custom", "gradient_accumulation_steps": 1})
    run = run.rename(folder / "run file.yaml")
    command = (script("dataflex-cli"), "-p", str(folder / "mine.py"), "train", str(run), "update_times=1")
    done = call(*command, FORCE_TORCHRUN="1", NPROC_PER_NODE="2")
    assert done.returncode == 0
    state = json.loads((workshop.out / "run" / "trainer_state.json").read_text())
    assert state["global_step"] == 5
    (record,) = DecisionLog(workshop.out / "run")  # written once, by rank 0
    assert np.load(workshop.out / "run" / record.result_ref).tolist() == list(range(12))  # 3 steps x 2 ranks x 2


def test_a_failing_rank_fails_the_command(workshop):
    run = workshop.run_file(**NOTE_SELECT, optim="no_such_optimizer")
    done = call(script("dataflex-cli"), "train", str(run), FORCE_TORCHRUN="1", NPROC_PER_NODE="1")
    assert done.returncode != 0
