"""Scores of clusters, their order and their agreement, by hand, and against the rules of dataflex 1.1.0."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from dataflex.math.aggregation import aggregate
from dataflex_selectors_cluster_less.agreement import intraclass_correlation, of_rows
from dataflex_selectors_cluster_less.ranking import choose, cluster_scores, represent

LABELS = np.array([0, 0, 0, 1, 1, 1, 2, 2])
REPRESENTATIVES = np.array([0, 1, 3, 4, 6, 7])
COSINES = np.array([[0.3, 0], [0.1, 0.2], [0.05, 0.35], [0.15, 0.45], [-0.2, 0.1], [np.nan, np.nan]])
TABLE = np.array([[0.2, 0.1], [0.1, 0.4], [-0.2, 0.1]])


def rivals_score(gradients: npt.NDArray[np.float64], direction: npt.NDArray[np.float64]) -> float:
    """Wrong: the mean of unit gradients is made a unit vector again, which rewards those that disagree."""
    mean = (gradients / np.linalg.norm(gradients, axis=1, keepdims=True)).mean(axis=0)
    return float(mean @ direction / np.linalg.norm(mean))


def test_a_cluster_scores_the_mean_of_its_representatives() -> None:
    table = cluster_scores(COSINES, LABELS[REPRESENTATIVES], 3)
    np.testing.assert_allclose(table, TABLE, atol=1e-12)
    assert aggregate(table, "max") == pytest.approx([0.2, 0.4, 0.1])
    assert np.isnan(cluster_scores(COSINES, LABELS[REPRESENTATIVES], 4)[3]).all()


def test_representatives_that_disagree_score_less_than_those_that_agree() -> None:
    up, root = np.array([0.0, 1.0]), np.sqrt(0.75)
    apart, alike = np.array([[1.0, 0.0], [-0.8, 0.6]]), np.array([[root, 0.5], [root, 0.5]])
    ours = [cluster_scores((each @ up)[:, None], np.zeros(2, np.int64), 1)[0, 0] for each in (apart, alike)]
    assert ours == pytest.approx([0.3, 0.5])
    assert [rivals_score(each, up) for each in (apart, alike)] == pytest.approx([0.948683, 0.5], abs=1e-6)


def test_rows_come_by_the_score_of_their_cluster_and_at_random_within_it() -> None:
    seen = set()
    for seed in range(40):
        chosen = choose(TABLE, LABELS, 5, "max", np.random.default_rng(seed)).tolist()
        assert {3, 4, 5} < set(chosen)
        assert len(set(chosen)) == 5
        seen |= set(chosen)
    assert seen == set(range(6))  # dataflex 1.1.0 always took the same ones


def test_clusters_of_equal_score_are_mixed_and_rows_without_one_are_left_out() -> None:
    table = np.array([[0.5], [0.5], [np.nan]])
    first = [choose(table, LABELS, 2, "mean", np.random.default_rng(seed)).tolist() for seed in range(60)]
    assert {row for rows in first for row in rows} == set(range(6))
    labels = np.array([0, -1, -1, 1])
    assert sorted(choose(TABLE[:2], labels, 2, "max", np.random.default_rng(0)).tolist()) == [0, 3]


def test_targets_in_turn_take_rows_of_their_best_cluster() -> None:
    chosen = choose(TABLE, LABELS, 4, "round_robin", np.random.default_rng(0))
    assert sorted(LABELS[chosen].tolist()) == [0, 0, 1, 1]


@pytest.mark.parametrize(("strategy", "fixed"), [("nearest", [2, 0, 3]), ("mixed", [2, 0]), ("random", [])])
def test_representatives_are_near_the_centre_or_drawn(strategy: str, fixed: list[int]) -> None:
    members, nearest = [np.arange(5), np.array([5, 6])], [np.array([2, 0, 3]), np.array([6, 5])]
    seen = set()
    for seed in range(30):
        rows = represent(members, nearest, 3, strategy, np.random.default_rng(seed)).tolist()
        assert rows == sorted(set(rows))
        assert len(rows) == 5
        assert {*fixed, 5, 6} <= set(rows)
        seen |= set(rows)
    assert seen == ({0, 2, 3, 5, 6} if strategy == "nearest" else set(range(7)))


def test_agreement_by_hand() -> None:
    # Of target 1, clusters 0 and 1 have two scores: B = .09, W = .0125, n0 = 2.
    found = intraclass_correlation(COSINES[:, 1], LABELS[REPRESENTATIVES])
    assert found == pytest.approx(0.756098, abs=1e-6)
    assert pytest.approx(found) == (0.09 - 0.0125) / (0.09 + 0.0125)


def test_agreement_of_unequal_clusters_is_that_of_an_analysis_of_variance() -> None:
    from scipy import stats

    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(6), [2, 3, 3, 2, 3, 1])
    scores = rng.normal(size=len(labels)) + np.arange(6)[labels] / 2
    several = labels < 5
    groups = [scores[labels == each] for each in range(5)]
    f = stats.f_oneway(*groups).statistic
    counts = np.array([len(each) for each in groups])
    size = (counts.sum() - (counts**2).sum() / counts.sum()) / 4
    assert several.sum() == 13
    assert intraclass_correlation(scores, labels) == pytest.approx((f - 1) / (f + size - 1))


def test_pure_noise_agrees_by_nothing() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(400), 3)
    found = [intraclass_correlation(rng.normal(size=1200), labels) or 0.0 for _ in range(300)]
    assert np.mean(found) == pytest.approx(0, abs=0.01)
    assert np.quantile(found, 0.95) < 0.05


@pytest.mark.parametrize(("agreement", "of_a_row"), [(0.1, 0.16), (0.3, 0.41), (0.6, 0.70), (-0.2, 0.0), (1.0, 1.0)])
def test_a_rows_own_score_follows_its_cluster_less_than_clusters_agree(agreement: float, of_a_row: float) -> None:
    assert of_rows(agreement, 3) == pytest.approx(of_a_row, abs=0.005)


def test_that_is_what_a_simulation_finds() -> None:
    rng = np.random.default_rng(1)
    of_cluster = rng.normal(size=(20_000, 1)) * np.sqrt(0.3)
    scores = of_cluster + rng.normal(size=(20_000, 4)) * np.sqrt(0.7)
    assert np.corrcoef(scores[:, 0], scores[:, 1:].mean(axis=1))[0, 1] == pytest.approx(of_rows(0.3, 3), abs=0.02)


@pytest.mark.parametrize(("scores", "labels"), [([1, 2], [0, 1]), ([1, 2, 3], [0, 0, 1]), ([1, 1, 1, 1], [0, 0, 1, 1])])
def test_without_two_clusters_of_two_there_is_no_agreement(scores: list[float], labels: list[int]) -> None:
    assert intraclass_correlation(scores, labels) is None
