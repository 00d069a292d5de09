"""Beside a mixer: one pass over pool and eval sets, and the eval set's mass spread over each domain anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded_pools import DOMAINS, of_domains, pool, tiny_qwen, trained_beside_a_mixer
from torch import nn
from tsds_cases import selector

from dataflex import ComponentError
from dataflex.decisions import DecisionLog
from dataflex.record.plans import result_name
from dataflex_selectors_tsds import solving

A = DOMAINS["a"]
FAR_LAST = sorted(range(60), key=lambda row: row % 3 != 0)  # 20 rows of the target's tokens, then the others


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_qwen()


def test_each_domain_has_the_probabilities_it_would_have_as_a_pool(model: nn.Module, tmp_path: Path) -> None:
    subject = selector(tmp_path / "both", center=False)
    found = subject.select(model, 4, 30, candidates=of_domains(10, 20))
    assert found.scores is not None
    rows, drawn = pool(), np.asarray(found.rows)
    assert (drawn[:10] < A).all() and (drawn[10:] >= A).all()
    for name, first, end, own in (("a", 0, A, drawn[:10]), ("b", A, 60, drawn[10:])):
        alone = selector(tmp_path / name, center=False, dataset=rows[first:end]).select(model, 4, 5).scores
        assert alone is not None
        assert found.scores[first:end] == pytest.approx(alone, abs=1e-3)
        expected = len(own) * found.scores[first:end]
        assert (np.abs(np.bincount(own - first, minlength=end - first) - expected) < 1).all()
    assert isinstance(found.metrics["support"], list)
    assert found.metrics["support"] == [np.count_nonzero(found.scores[:A]), np.count_nonzero(found.scores[A:])]


def test_a_domain_that_the_pools_own_mass_does_not_reach_gives_its_rows_too(model: nn.Module, tmp_path: Path) -> None:
    rows = pool()
    facts: dict[str, Any] = {"dataset": [rows[row] for row in FAR_LAST], "C": 0.5}
    whole = selector(tmp_path / "whole", **facts).select(model, 4, 5).scores
    assert whole is not None and whole[A:].sum() == 0  # of which the rows of b could not be drawn
    found = selector(tmp_path / "domains", **facts).select(model, 4, 8, candidates=of_domains(2, 6))
    assert (np.asarray(found.rows)[2:] >= A).all()


def test_a_domain_that_nothing_is_needed_of_is_left_alone(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved: list[int] = []
    solve = solving.solve

    def counted(queries: Any, rows: Any, *args: Any, **more: Any) -> Any:
        solved.append(len(rows))
        return solve(queries, rows, *args, **more)

    monkeypatch.setattr(solving, "solve", counted)
    subject = selector(tmp_path)
    found = subject.select(model, 4, 6, candidates=of_domains(0, 6))
    assert found.scores is not None
    assert np.isnan(found.scores[:A]).all() and found.metrics["support"][0] == 0  # type: ignore[index]
    assert found.metrics["scored"] == 36
    subject.select(model, 8, 6, candidates=of_domains(3, 3))
    again = selector(tmp_path)  # resumed: both lie on disk
    again.select(model, 8, 6, candidates=of_domains(3, 3))
    assert solved == [36, 24]


def test_what_is_wrong_with_a_domain_names_it(model: nn.Module, tmp_path: Path) -> None:
    rows = [{**row, "labels": row["labels"] if at < A else [-100] * len(row["labels"])} for at, row in
            enumerate(pool())]  # fmt: skip
    with pytest.raises(ComponentError, match="no row of domain 'b' has an embedding: they have no token with a label"):
        selector(tmp_path / "a", dataset=rows, span="answer").select(model, 4, 8, candidates=of_domains(4, 4))
    few = selector(tmp_path / "b", draw="distinct", alpha=1.0)
    with pytest.raises(
        ComponentError, match=r"draw: distinct needs 20 rows of domain 'b' at step 4, and \d+ of 36 have"
    ):
        few.select(model, 4, 21, candidates=of_domains(1, 20))


def test_two_boundaries_beside_a_mixer_train_on_rows_of_each_domain(tmp_path: Path) -> None:
    trainer = trained_beside_a_mixer(tmp_path, "tsds", {"C": 0.5})
    assert set(trainer.parts.opened) == {"mixer", "selector"}  # one instance, not one a domain
    asked = [line.metrics for line in DecisionLog(tmp_path) if line.kind == "selector"]
    assert [(each["selected_of"], each["validation"]) for each in asked] == [([4, 4], 7)] * 2
    for step in (0, 2):
        rows = np.load(tmp_path / result_name(step, "selector"))
        assert (rows[:4] < A).all() and (rows[4:] >= A).all()
        assert (rows % 3 == 0).sum() >= 6  # of the target's tokens
