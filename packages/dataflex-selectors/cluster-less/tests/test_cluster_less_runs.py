"""Whole runs of a tiny model with Adam's moments: a kill, and two ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cluster_cases as runs
import numpy as np
import pytest
from gloo import run_on_two_ranks
from transformers import TrainerCallback

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            control.should_training_stop = True


@pytest.mark.parametrize("model", ["initial", "run"])
def test_a_run_that_is_stopped_ends_as_one_that_is_not(tmp_path: Path, model: str) -> None:
    params = {"embedding_model": model}
    runs.trainer(tmp_path / "whole", params=params).train()
    saves = {"save_strategy": "steps", "save_steps": 3, "params": params}
    first = runs.trainer(tmp_path / "again", **saves)
    first.add_callback(StopAt(3))
    first.train()
    runs.trainer(tmp_path / "again", **saves).train(resume_from_checkpoint=True)
    assert runs.plans(tmp_path / "again") == runs.plans(tmp_path / "whole")


def test_two_ranks_choose_what_one_does(tmp_path: Path) -> None:
    run_on_two_ranks(runs.train_rank, tmp_path)
    alone = runs.trainer(tmp_path / "alone")
    alone.train()
    assert runs.plans(tmp_path / "ranks") == runs.plans(tmp_path / "alone")
    for rank in (0, 1):
        assert np.array_equal(np.load(tmp_path / f"labels-{rank}.npy"), alone.component.state_dict()["labels"])
