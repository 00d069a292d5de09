"""Under DeepSpeed's ZeRO-0, 1 and 2: scores of one plain process, and training that does not notice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks
from zero import NEEDS_DEEPSPEED
from zero_cases import CASES, plain_moments, same, scores_alone, select_under_zero

pytestmark = NEEDS_DEEPSPEED


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zero")
    run_on_two_ranks(select_under_zero, folder)
    return folder


def results_of(runs: Path, case: str, rank: int) -> dict[str, Any]:
    # Written by this test: moments are more than tensors.
    return dict(torch.load(runs / f"{case} {rank}.pt", weights_only=False))  # noqa: TID251


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_choose_what_one_plain_process_with_these_weights_and_moments_chooses(runs: Path, case: str) -> None:
    sixteen = CASES[case].get("bf16")
    alone = scores_alone(case, results_of(runs, case, 0))
    for rank in range(2):
        results = results_of(runs, case, rank)
        assert results["one_by_one"] == float("modules_to_save" in CASES[case] or "full" in CASES[case])
        np.testing.assert_allclose(results["scores"], alone.scores, atol=2e-2 if sixteen else 1e-5, rtol=0)
        np.testing.assert_array_equal(results["rows"], results_of(runs, case, 0)["rows"])
        if not sixteen:
            np.testing.assert_array_equal(results["rows"], alone.rows)


@pytest.mark.parametrize("case", CASES)
def test_the_step_that_a_selection_interrupts_ends_bit_for_bit_as_without_it(runs: Path, case: str) -> None:
    for rank in range(2):
        results = results_of(runs, case, rank)
        assert same(results["with"], results["without"])
        before = list(results["weights"].values())
        assert not same(results["with"][: len(before)], before)  # the step did something


@pytest.mark.parametrize("case", [case for case in CASES if not CASES[case].get("bf16")])
def test_moments_put_together_are_those_of_the_plain_optimizer(runs: Path, case: str) -> None:
    model, optimizer = plain_moments(case)
    own = dict(model.named_parameters())
    groups = {id(value): group for group in optimizer.param_groups for value in group["params"]}
    for rank in range(2):
        moments = results_of(runs, case, rank)["moments"]
        assert list(moments) == [name for name, value in own.items() if value.requires_grad]
        for name, memory in moments.items():
            state, group = optimizer.state[own[name]], groups[id(own[name])]
            for found, key in ((memory.first, "exp_avg"), (memory.second, "exp_avg_sq")):
                torch.testing.assert_close(found, state[key], atol=1e-7, rtol=1e-4)
            assert (memory.step, memory.beta1, memory.beta2, memory.eps) == (3, *group["betas"], group["eps"])


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case].get("bf16")])
def test_under_bf16_weights_are_the_models_and_moments_are_fp32(runs: Path, case: str) -> None:
    results = results_of(runs, case, 1)
    assert {value.dtype for value in results["weights"].values()} == {torch.bfloat16}
    assert {memory.first.dtype for memory in results["moments"].values()} == {torch.float32}
    assert all(memory.second.count_nonzero() for memory in results["moments"].values())
