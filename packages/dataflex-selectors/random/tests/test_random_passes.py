"""``passes`` in whole runs: what a stage reads, across a kill, on one rank and two."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from gloo import run_on_two_ranks

from dataflex.decisions import DecisionLog
from dataflex.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parent))  # in spawned processes too

import pass_runs as runs


def test_a_stage_longer_than_the_pool_reads_a_few_rows_again_and_the_decision_shows_it(tmp_path: Path) -> None:
    runs.trained(tmp_path, 3)
    for plan in runs.plans(tmp_path):
        assert len(plan) == 20 and sorted(plan[:7]) == sorted(plan[7:14]) and len(set(plan[:7])) == 7
        assert set(plan[14:]) < set(plan[:7]) and len(set(plan[14:])) == 6 and plan[:7] != plan[7:14]
    metrics = [decision.metrics for decision in DecisionLog(tmp_path / "out")]
    assert [(one["selected"], one["distinct"]) for one in metrics] == [(20, 7), (20, 7)]


def test_too_few_rows_for_a_pass_are_told_before_anything_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"draws 20 samples \(5 steps of 4\) but the pool holds 12"):
        runs.trained(tmp_path, 1)
    monkeypatch.setitem(runs.STEPS, "update_step", 7)
    with pytest.raises(ConfigError, match=r"draws 14 samples \(7 steps of 4, read passes=2 times\) .* to 6 or less"):
        runs.trained(tmp_path, 2)


@pytest.mark.parametrize("stop", [4, 7])
def test_a_run_that_is_stopped_reads_and_ends_as_one_that_is_not(tmp_path: Path, stop: int) -> None:
    assert runs.trained(tmp_path / "whole", 3) == runs.trained(tmp_path / "again", 3, stop=stop)
    assert runs.plans(tmp_path / "whole") == runs.plans(tmp_path / "again")


def test_two_ranks_read_what_one_reads(tmp_path: Path) -> None:
    run_on_two_ranks(runs.train_rank, tmp_path)
    alone = runs.trained(tmp_path / "alone", 3)
    assert runs.plans(tmp_path / "ranks") == runs.plans(tmp_path / "resumed") == runs.plans(tmp_path / "alone")
    for rank in range(2):
        whole, again = json.loads((tmp_path / f"told-{rank}.json").read_text())
        assert whole == again and whole == pytest.approx(alone, abs=1e-5)
