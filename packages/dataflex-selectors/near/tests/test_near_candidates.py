"""Beside a mixer: one pass over pool and eval sets, and the nearest rows of each domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedded_pools import DOMAINS, of_domains, pool, tiny_qwen, trained_beside_a_mixer
from near_cases import selector

from dataflex import ComponentError
from dataflex.decisions import DecisionLog
from dataflex.record.plans import result_name

A = DOMAINS["a"]


def chosen(subject: Any, step: int, *counts: int) -> list[list[int]]:
    rows = subject.select(tiny_qwen(), step, sum(counts), candidates=of_domains(*counts)).rows
    return [part.tolist() for part in np.split(np.asarray(rows), np.cumsum(counts)[:-1])]


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_each_domain_gives_its_nearest_rows_by_likenesses_of_the_whole_pool(aggregate: str, tmp_path: Path) -> None:
    scores = selector(tmp_path / "pool", aggregate=aggregate).select(tiny_qwen(), 4, 5).scores
    assert scores is not None
    of_a, of_b = chosen(selector(tmp_path / "domains", aggregate=aggregate), 4, 5, 7)
    ranked = np.argsort(-scores, kind="stable")
    assert sorted(of_a) == sorted(ranked[ranked < A][:5].tolist())
    assert sorted(of_b) == sorted(ranked[ranked >= A][:7].tolist())


def test_turns_go_on_from_domain_to_domain_and_boundary_to_boundary(tmp_path: Path) -> None:
    subject, seen = selector(tmp_path), []
    for step, counts in ((0, (8, 3)), (2, (8, 9)), (4, (8, 0)), (6, (0, 24))):
        seen += [row for part in chosen(subject, step, *counts) for row in part]
        assert subject.state_dict()["turn"] == len(seen)
    assert sorted(seen) == list(range(60))  # no row twice while others are left
    of_a, of_b = chosen(subject, 8, 4, 0)
    assert set(of_a) <= set(range(A)) and not of_b
    left = ~np.unpackbits(subject.state_dict()["chosen"], count=60).astype(bool)
    assert left[:A].sum() == A - 4 and not left[A:].any()  # only the rows of the first domain are free again


def test_the_first_domain_of_all_rows_gives_what_the_pool_gives(tmp_path: Path) -> None:
    whole = selector(tmp_path / "pool", share=0.7, max_candidates=40).select(tiny_qwen(), 4, 12)
    every = of_domains(12, 0)
    object.__setattr__(every, "rows", (np.arange(60), np.arange(0)))
    one = selector(tmp_path / "one", share=0.7, max_candidates=40).select(tiny_qwen(), 4, 12, candidates=every)
    assert list(whole.rows) == list(one.rows)
    assert np.array_equal(whole.scores, one.scores, equal_nan=True)


def test_a_limit_is_shared_among_the_domains_by_size(tmp_path: Path) -> None:
    found = selector(tmp_path, max_candidates=30, share=0.5).select(tiny_qwen(), 4, 8, candidates=of_domains(4, 4))
    assert found.scores is not None
    looked_at = np.isfinite(found.scores)
    assert (looked_at[:A].sum(), looked_at[A:].sum()) == (12, 18)
    assert looked_at[np.asarray(found.rows)].all()


def test_a_domain_with_too_few_embeddings_is_told(tmp_path: Path) -> None:
    rows = [{**row, "labels": row["labels"] if at < A + 3 else [-100] * len(row["labels"])} for at, row in
            enumerate(pool())]  # fmt: skip
    subject = selector(tmp_path, dataset=rows, span="answer")
    with pytest.raises(ComponentError, match=r"only 3 of 36 candidates of a domain at step 4 .* 4 are needed: 33 have"):
        subject.select(tiny_qwen(), 4, 8, candidates=of_domains(4, 4))


@pytest.mark.parametrize("name", ["near", "rds"])
def test_two_boundaries_beside_a_mixer_train_on_the_nearest_rows_of_each_domain(name: str, tmp_path: Path) -> None:
    trainer = trained_beside_a_mixer(tmp_path, name)
    assert set(trainer.parts.opened) == {"mixer", "selector"}  # one instance, not one a domain
    asked = [line.metrics for line in DecisionLog(tmp_path) if line.kind == "selector"]
    assert [(each["selected_of"], each["validation"], each["scored"]) for each in asked] == [([4, 4], 7, 60)] * 2
    rows = np.concatenate([np.load(tmp_path / result_name(step, "selector")) for step in (0, 2)])
    assert len(set(rows.tolist())) == 16 and (rows < A).sum() == 8
    assert (rows % 3 == 0).sum() >= 14  # of the target's tokens
