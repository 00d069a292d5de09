"""Every call into a component goes through one door: a failure names who failed, where, and what is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gloo import run_on_two_ranks

from dataflex.spec import Kind

FOLDER = Path(__file__).parent


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import door_runs

    return door_runs


def cases() -> Iterator[Any]:
    import sys

    sys.path.insert(0, str(FOLDER))
    import door_runs

    sys.path.remove(str(FOLDER))
    yield from (pytest.param(kind, method, id=f"{kind.value}-{method}") for kind, method in door_runs.methods())


def weights(made: Any) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in made.model.parameters()])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that never failed, one of each component."""
    made: dict[Any, Any] = {}

    def run(runs: Any, kind: Kind, method: str) -> Any:
        key = kind, runs.component(method), runs.statistics(method), method in runs.BESIDE_AN_ORDERER
        if key not in made:
            made[key] = runs.trainer(kind, method, tmp_path_factory.mktemp("whole"))
            made[key].train()
        return made[key]

    return run


def named(kind: Kind, method: str, told: str) -> None:
    assert re.search(
        rf"^(Component|OneRank)Error: {kind.value} '\w+' of \S*plug\.py failed in {method}\(\) at ", told
    ), told
    assert "ZeroDivisionError: on purpose" in told


@pytest.mark.parametrize(("kind", "method"), list(cases()))
def test_a_failure_in_any_method_is_named_and_its_repaired_run_ends_as_one_that_never_failed(
    runs, whole, tmp_path, kind, method
) -> None:
    told = runs.failure(kind, method, tmp_path / "run")
    named(kind, method, told)
    runs.broken(tmp_path / "run").unlink()
    kept = re.search(r"resume from (\S+?)[.,]? ", told + " ")
    at_the_start = (
        method in ("__init__", "begin", "state_dict", "load_state_dict", "warmup", "metrics", "order")
        or " step 0:" in told
    )
    assert (kept is None) == at_the_start, told
    repaired = runs.trainer(kind, method, tmp_path / "run")
    repaired.train(resume_from_checkpoint=kept.group(1) if kept else None)
    reference = whole(runs, kind, method)
    assert repaired.state.global_step == reference.state.global_step == runs.STEPS
    assert torch.equal(weights(repaired), weights(reference))
    assert getattr(repaired.component, "seen", None) == getattr(reference.component, "seen", None)


def test_on_two_ranks_all_tell_the_same_or_each_its_own(runs, tmp_path) -> None:
    run_on_two_ranks(runs.fail_on_this_rank, tmp_path)
    for kind, method in runs.methods():
        told = [(tmp_path / f"{kind.value}-{method}" / f"told-{rank}.txt").read_text() for rank in range(2)]
        for text in told:
            named(kind, method, text)
        if method in runs.IN_A_MICRO_BATCH:
            assert all(text.startswith("OneRankError") for text in told), told
        else:
            assert told[0] == told[1] and "(on rank 1)" in told[0], told
