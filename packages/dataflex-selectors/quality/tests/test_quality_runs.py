"""Runs of a Trainer: stopped and resumed, they come to the same weights as if nothing had happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from quality_runs import plans, trained


@pytest.mark.parametrize("name", ["ifd", "perplexity", "deita", "column"])
def test_a_run_that_was_stopped_comes_to_the_same_weights(name: str, tmp_path: Path, fresh_accelerate: None) -> None:
    whole = trained(tmp_path / "whole", name)
    stopped = trained(tmp_path / "stopped", name, stop=2)
    assert torch.equal(whole, stopped)
    first, second = plans(tmp_path / "whole")
    assert plans(tmp_path / "stopped") == [first, second]
    assert not set(first) & set(second)


def test_a_run_records_what_its_scores_took_and_what_they_cost(tmp_path: Path, fresh_accelerate: None) -> None:
    trained(tmp_path / "run", "ifd")
    first, second = map(json.loads, (tmp_path / "run" / "decisions.jsonl").read_text().splitlines())
    assert first["metrics"]["score_seconds"] > 0 == second["metrics"]["score_seconds"]
    # Two passes of 40 rows, once; a step trains 2 rows at 3 passes each.
    assert first["metrics"]["selection_steps"] == pytest.approx(40 * 2 / (3 * 2))
    scored = first["metrics"]["scored"]
    assert (first["metrics"]["free"], second["metrics"]["free"]) == (scored, scored - 4)
