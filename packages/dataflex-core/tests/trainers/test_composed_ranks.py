"""Four parts on one rank and two, killed at a boundary, in saving and in a step: one run, whatever happens to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from gloo import run_on_ranks


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import composed_runs

    return composed_runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, Path]:
    """The weights that one rank ends with when nothing befalls it, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        import composed_runs

        folder = tmp_path_factory.mktemp("whole")
        trained = composed_runs.trained(folder, composed_runs.FOUR_PARTS)
        effective = [entry.get("dataflex/weight_ess", 1.0) for entry in trained.state.log_history]
        assert min(effective) < 1  # the weighter acted
        return composed_runs.weights(trained), folder / "out"


def on_ranks(runs: Any, folder: Path, ranks: int) -> None:
    mine = folder / "mine.py"
    if not mine.exists():
        mine.write_text(runs.COMPONENTS)
    (folder / "rendezvous").unlink(missing_ok=True)
    run_on_ranks(runs.train_rank, folder, ranks)


def check_same(runs: Any, whole: tuple[torch.Tensor, Path], folder: Path, ranks: int) -> None:
    parameters, out = whole
    for rank in range(ranks):
        told = torch.tensor(json.loads((folder / f"told-{rank}.json").read_text()))
        torch.testing.assert_close(told, parameters, rtol=0, atol=0 if ranks == 1 else 1e-5)
    assert runs.plans(folder / "out").keys() == runs.plans(out).keys()
    for name, rows in runs.plans(out).items():
        np.testing.assert_allclose(runs.plans(folder / "out")[name], rows, rtol=0, atol=1e-12)
    kinds = [[(each["step"], each["kind"]) for each in runs.decisions(each)] for each in (folder / "out", out)]
    assert kinds[0] == kinds[1]


def test_two_ranks_decide_and_train_as_one(runs, tmp_path, whole) -> None:
    on_ranks(runs, tmp_path, 2)
    check_same(runs, whole, tmp_path, 2)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    "moment",
    [
        "select 5 a",  # between mixing and selecting
        "select 5 b",
        "ranks 4 ",  # in ordering the only selection of four rows a domain, at step 9
        "state 16 b",  # in saving, after the sixteenth row of b was chosen at step 5
        "mixer 4 ",
        "weighter 10 ",
    ],
)
def test_a_run_that_is_killed_at_a_boundary_or_in_a_step_ends_as_one_that_is_not(
    runs, tmp_path, whole, moment, ranks
) -> None:
    (tmp_path / "broken").write_text(f"kill in {moment}")
    with pytest.raises(torch.multiprocessing.ProcessExitedException, match="exit code 9"):
        on_ranks(runs, tmp_path, ranks)
    (tmp_path / "broken").unlink()
    assert (tmp_path / "out" / "checkpoint-3").is_dir() and not (tmp_path / "told-0.json").exists()
    on_ranks(runs, tmp_path, ranks)
    check_same(runs, whole, tmp_path, ranks)
