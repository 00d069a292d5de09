"""Beside a mixer: one scoring of the pool, and the best rows of each domain."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from lexical_cases import Row, selector, told_apart, zipf

from dataflex import Candidates
from dataflex.errors import ComponentError
from dataflex_selectors_lexical.params import DsirParams, LexicalParams


def domains(*sizes_and_counts: tuple[int, int]) -> Candidates:
    ends = np.cumsum([0, *(size for size, _ in sizes_and_counts)])
    rows = tuple(np.arange(first, end) for first, end in itertools.pairwise(ends))
    names = tuple("abcd"[: len(rows)])
    return Candidates(names, rows, tuple(count for _, count in sizes_and_counts))


def chosen(params: LexicalParams, candidates: Candidates) -> tuple[list[list[int]], np.ndarray]:
    pool, target = told_apart()
    answer = selector(pool, {"eval": target}, params).select(
        None,  # type: ignore[arg-type]  # no model is used
        0,
        candidates.num_samples,
        candidates=candidates,
    )
    assert answer.scores is not None
    parts = np.split(np.asarray(answer.rows), np.cumsum(candidates.counts)[:-1])
    return [part.tolist() for part in parts], answer.scores


def test_each_domain_gives_its_best_rows_by_scores_of_the_whole_pool() -> None:
    candidates = domains((100, 5), (20, 0), (80, 7))
    parts, scores = chosen(LexicalParams(mode="top"), candidates)
    for own, rows, count in zip(parts, candidates.rows, candidates.counts, strict=True):
        assert sorted(own) == sorted(rows[np.argsort(-scores[rows])[:count]].tolist())
    pool, target = told_apart()
    alone = selector(pool, {"eval": target}, LexicalParams(mode="top")).select(None, 0, 12)  # type: ignore[arg-type]
    assert alone.scores is not None and alone.scores.tolist() == scores.tolist()


@pytest.mark.parametrize("params", [LexicalParams(), LexicalParams(share=0.5), DsirParams()])
def test_draws_stay_within_the_domains(params: LexicalParams) -> None:
    candidates = domains((100, 10), (100, 30))
    parts, _ = chosen(params, candidates)
    for own, rows, count in zip(parts, candidates.rows, candidates.counts, strict=True):
        assert len(set(own)) == len(own) == count and set(own) <= set(rows.tolist())


def test_one_domain_of_all_rows_gives_what_the_pool_gives() -> None:
    pool, target = told_apart()
    for params in (LexicalParams(), LexicalParams(share=0.7)):
        whole = selector(pool, {"eval": target}, params).select(None, 3, 40)  # type: ignore[arg-type]
        one = selector(pool, {"eval": target}, params).select(
            None,  # type: ignore[arg-type]
            3,
            40,
            candidates=domains((200, 40)),
        )
        assert list(whole.rows) == list(one.rows)


def test_a_domain_with_too_few_scored_rows_is_told() -> None:
    target = zipf(np.random.default_rng(1), 10)
    empty: list[Row] = [{"input_ids": []} for _ in range(4)]
    subject = selector([*zipf(np.random.default_rng(0), 6), *empty], {"eval": target})
    with pytest.raises(ComponentError, match=r"only 0 of a domain's 4 rows have a score and 2 are needed at step 0"):
        subject.select(None, 0, 4, candidates=domains((6, 2), (4, 2)))  # type: ignore[arg-type]
