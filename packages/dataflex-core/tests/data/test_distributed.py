from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gloo import run_on_two_ranks

from dataflex.distributed import assert_same_on_all_ranks, first_failure, gather_scores, rank0_decides


class NoGroup:
    """An accelerator on one process: anything but its size is out of bounds."""

    num_processes = 1


@pytest.mark.parametrize("accelerator", [None, NoGroup()])
def test_one_process_needs_no_group(accelerator: object) -> None:
    scores = gather_scores(np.array([2, 0]), [0.5, -1.0], 4, accelerator)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, [-1.0, np.nan, 0.5, np.nan])
    decided = np.arange(3)
    assert rank0_decides(decided, accelerator) is decided
    assert_same_on_all_ranks("rows", decided, accelerator)
    assert first_failure("it broke", accelerator) == "it broke"
    assert first_failure("", accelerator) == ""


def test_rows_and_scores_must_match() -> None:
    with pytest.raises(ValueError, match="2 rows"):
        gather_scores(np.array([2, 0]), [0.5], 4, None)


def test_a_rank_that_leaves_early_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from distributed_workers import fail_alone

    run_on_two_ranks(fail_alone, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    left = "rank 1 has finished while this one still waits for its part. All ranks must make the same calls of"
    for place in ("scores", "decision", "verdict"):
        assert first[f"{place} it broke"] == [
            "AnotherRankFailed: it broke (on rank 1)",
            "it broke (on rank 1)",
            "ab",
        ]
        assert second[f"{place} it broke"] == ["it broke (on rank 1)", "ab"]
        caught, *agreed = first[f"{place} "]
        assert caught.startswith(f"ComponentError: {left}")
        assert agreed == second[f"{place} "] and agreed[0].startswith(left) and agreed[0].endswith("(on rank 0)")


def test_two_ranks_see_the_same_scores_and_decisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from distributed_workers import exchange

    run_on_two_ranks(exchange, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert first["scores"] == ["0.3333333333333333", "nan", "nan", "0.3", "nan", "inf"]
    assert first["nothing"] == ["nan", "nan"]
    assert first["decided"] == [[0, 7]]
    assert first["message"].startswith("the plan on rank 1 differs from rank 0's")
    assert first["no_failure"] == ""
    assert first["failure"] == "it broke (on rank 1)"
    assert first["both_failed"] == "0 broke"
