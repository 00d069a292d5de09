"""Beside a mixer: labels of all that is trained on, one fit, and the best rows of each domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from influence_cases import pool_and_targets, selector, told, trainer

from dataflex import Candidates
from dataflex.decisions import DecisionLog
from dataflex.errors import ComponentError
from dataflex.record.plans import result_name

DOMAINS = {"a": 12, "b": 60}  # rows in the target's words: all of a, 12 to 23 of b


def of_domains(*counts: int) -> Candidates:
    return Candidates(tuple(DOMAINS), (np.arange(12), np.arange(12, 72)), counts)


def labelled(count: int = 40, **facts: Any) -> Any:
    pool, _ = pool_and_targets()
    rows = np.random.default_rng(0).choice(len(pool), count, replace=False)
    subject = selector(**facts)
    told(subject, rows, [np.mean(np.asarray(pool[row]["input_ids"]) < 12) for row in rows])
    return subject


def test_each_domain_gives_its_best_rows_by_one_fit_of_all_labels() -> None:
    alone = labelled().select(None, 5, 12)
    found = labelled().select(None, 5, 12, candidates=of_domains(4, 8))
    assert alone.scores is not None and np.array_equal(alone.scores, found.scores)
    assert set(found.target_scores) == {"one"}
    rows = np.asarray(found.rows)
    for own, first, end in ((rows[:4], 0, 12), (rows[4:], 12, 72)):
        ranked = first + np.argsort(-alone.scores[first:end], kind="stable")
        assert sorted(own.tolist()) == sorted(ranked[: len(own)].tolist())


@pytest.mark.parametrize("labels", [20, 40])
def test_one_domain_of_all_rows_gives_what_the_pool_gives(labels: int) -> None:
    every = Candidates(("a", "b"), (np.arange(72), np.arange(0)), (12, 0))
    for params in ({}, {"share": 0.5}):
        whole = labelled(labels, params=params).select(None, 5, 12)
        one = labelled(labels, params=params).select(None, 5, 12, candidates=every)
        assert list(whole.rows) == list(one.rows)


def test_with_too_few_labels_rows_are_drawn_at_random_within_each_domain() -> None:
    found = labelled(20).select(None, 5, 12, candidates=of_domains(5, 7))
    assert found.metrics["at_random"] == 1
    assert len(set(found.rows)) == 12 and [row < 12 for row in found.rows] == [True] * 5 + [False] * 7


def test_a_domain_with_too_few_scored_rows_is_told() -> None:
    pool, _ = pool_and_targets()
    subject = selector([*pool[:60], *({**row, "input_ids": []} for row in pool[60:])])
    told(subject, range(40), np.linspace(0, 1, 40))
    last = Candidates(("a", "b"), (np.arange(60), np.arange(60, 72)), (2, 3))
    with pytest.raises(ComponentError, match=r"only 0 of a domain's 12 rows have a score and 3 are needed at step 5"):
        subject.select(None, 5, 5, candidates=last)


def test_two_boundaries_beside_a_mixer_learn_from_the_rows_of_both_domains(tmp_path: Path) -> None:
    made = trainer(tmp_path, domains=DOMAINS)
    made.train()
    assert set(made.parts.opened) == {"mixer", "selector"}  # one instance, not one a domain
    labels = made.parts.opened["selector"].component._labels
    assert len(labels) == 64 and (labels.rows < 12).sum() == 32
    assert np.abs(labels.values).max() <= 1  # cosines, whatever the mixer weighs
    asked = [line.metrics for line in DecisionLog(tmp_path) if line.kind == "selector"]
    assert [(each["selected_of"], each["labels"]) for each in asked] == [([6, 6], 40), ([6, 6], 52)]
    of_b = np.concatenate([np.load(tmp_path / result_name(step, "selector"))[6:] for step in (10, 13)])
    assert (of_b < 24).mean() > 0.4  # a fifth of b is in the target's words
