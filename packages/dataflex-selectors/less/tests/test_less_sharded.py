"""Under FSDP2: the scores of one plain process, and training that does not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks
from sharded_cases import CASES, FIRST, OPTIONS, same, scores_alone, select_under_fsdp2

LATER = [case for case in CASES if case not in FIRST]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(tmp_path_factory.mktemp("fsdp2"), FIRST)


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(tmp_path_factory.mktemp("fsdp2-later"), LATER)


def _run(folder: Path, cases: Any) -> Path:
    (folder / "cases.txt").write_text("\n".join(cases), encoding="utf-8")
    run_on_two_ranks(select_under_fsdp2, folder)
    return folder


def results_of(runs: Path, case: str, rank: int) -> dict[str, Any]:
    # Written by this test: moments are more than tensors.
    return dict(torch.load(runs / f"{case} {rank}.pt", weights_only=False))  # noqa: TID251


@pytest.mark.parametrize("case", FIRST)
def test_two_ranks_of_fsdp2_choose_what_one_plain_process_chooses(first: Path, case: str) -> None:
    _choose_alike(first, case)


@pytest.mark.parametrize("case", FIRST)
def test_the_step_that_a_selection_interrupts_under_fsdp2_ends_as_without_it(first: Path, case: str) -> None:
    _is_not_disturbed(first, case)


@pytest.mark.parametrize("case", LATER)
def test_further_models_under_fsdp2_choose_what_one_plain_process_chooses(later: Path, case: str) -> None:
    _choose_alike(later, case)


@pytest.mark.parametrize("case", LATER)
def test_steps_of_further_models_end_as_without_a_selection(later: Path, case: str) -> None:
    _is_not_disturbed(later, case)


def _choose_alike(runs: Path, case: str) -> None:
    results = [results_of(runs, case, rank) for rank in range(2)]
    assert all(each["sharded"] and each["sharded after"] for each in results)
    for label in OPTIONS:
        alone = scores_alone(case, results[0], label)
        for each in results:
            found = each["selections"][label]
            assert found["one_by_one"] == float("one by one" in case), label
            # Those of the linear preconditioner are inner products, not cosines: large numbers.
            close = {"atol": 0, "rtol": 1e-5} if label == "linear" else {"atol": 1e-7, "rtol": 0}
            np.testing.assert_allclose(found["scores"], alone.scores, **close, err_msg=label)
            np.testing.assert_array_equal(found["rows"], alone.rows, err_msg=label)
            np.testing.assert_array_equal(found["scores"], results[0]["selections"][label]["scores"])
        if case == "lora" and label in ("official", "adam"):
            np.testing.assert_array_equal(results[0]["selections"][label]["scores"], alone.scores)


def _is_not_disturbed(runs: Path, case: str) -> None:
    for rank in range(2):
        results = results_of(runs, case, rank)
        assert same(results["with"], results["without"])
