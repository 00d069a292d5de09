"""Passes over a spread model: what one rank cannot do, all hear of, and what is kept is of all ranks' pieces."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import gloo
import lockstep_runs
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("lockstep")
    gloo.run_on_two_ranks(lockstep_runs.told, folder)
    return [json.loads((folder / f"said-{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


def test_a_row_that_one_rank_cannot_read_ends_the_pass_on_both_at_once(said: list[dict[str, Any]]) -> None:
    for each in said:
        assert each["whole"] == each["afterwards"] == "" and each["resharded"] == "True"
        assert "row 17" in each["broken"] and "bad block" in each["broken"]
        assert float(each["seconds"]) < 60  # and not the 30 minutes that a gather waits


def test_a_rank_that_runs_more_forwards_than_the_others_is_told_and_not_left_waiting(
    said: list[dict[str, Any]],
) -> None:
    assert said[0]["one forward more"] or "has finished while this one still waits" in said[1]["one forward more"]


def test_one_number_in_the_last_ranks_piece_changes_the_key_of_what_is_kept(said: list[dict[str, Any]]) -> None:
    assert said[0]["key"] == said[0]["same key"] == said[1]["key"]
    assert said[0]["other key"] == said[1]["other key"] != said[0]["key"]


def test_a_gradient_is_of_this_ranks_row_alone_and_leaves_nothing_behind(said: list[dict[str, Any]]) -> None:
    for each in said:
        assert each["gradients of its own row"] == each["nothing left"] == "True"


def test_an_error_inside_a_forward_ends_all_ranks(tmp_path: Path) -> None:
    import torch.multiprocessing

    began = time.monotonic()
    ranks = torch.multiprocessing.spawn(gloo._rank, args=(lockstep_runs.inside, 2, str(tmp_path)), nprocs=2, join=False)
    for process in ranks.processes:
        process.join(timeout=240)
    assert [process.exitcode for process in ranks.processes] == [2, 2], time.monotonic() - began
    assert (tmp_path / "began-1").exists() and not list(tmp_path.glob("came-back-*"))
