"""What influence computes, by hand and by a property; wrong versions stand beside it with the values they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr

from dataflex.testing import make_context
from dataflex_selectors_influence.features import Counts
from dataflex_selectors_influence.labels import Labels
from dataflex_selectors_influence.params import InfluenceParams
from dataflex_selectors_influence.ridge import Ridge, fit

Z = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
Y = np.array([[0.3], [-0.1], [0.2]])


def test_the_ridge_by_hand() -> None:
    """Z = (1,0), (0,1), (1,1), y = .3, -.1, .2, lambda = .5."""
    ridge = fit(Z, Y, 0.5)
    np.testing.assert_allclose(ridge.coefficients_DS[:, 0], [0.1733, -0.0933], atol=5e-5)
    assert ridge.predict(np.array([[2.0, 0.0]]))[0, 0] == pytest.approx(0.4267, abs=5e-5)


def test_a_ridge_without_centring_gives_another_number() -> None:
    uncentred = np.linalg.solve(Z.T @ Z + 0.5 * np.eye(2), Z.T @ Y)
    assert float(np.array([2.0, 0.0]) @ uncentred[:, 0]) == pytest.approx(0.4381, abs=5e-5)


def test_both_forms_of_the_ridge_are_one() -> None:
    """More rows than features, and fewer: ``X'(XX' + l)^-1 y = (X'X + l)^-1 X'y``."""
    rng = np.random.default_rng(0)
    for rows, width in ((50, 8), (8, 50), (20, 20)):
        x, y = rng.normal(size=(rows, width)), rng.normal(size=(rows, 3))
        centred, target = x - x.mean(0), y - y.mean(0)
        dual = centred.T @ np.linalg.solve(centred @ centred.T + 0.3 * np.eye(rows), target)
        primal = np.linalg.solve(centred.T @ centred + 0.3 * np.eye(width), centred.T @ target)
        found = fit(x, y, 0.3)
        np.testing.assert_allclose(found.coefficients_DS, dual, atol=1e-10)
        np.testing.assert_allclose(found.coefficients_DS, primal, atol=1e-10)
        for column in range(3):  # one factorisation, as many regressions
            alone = fit(x, y[:, column : column + 1], 0.3)
            np.testing.assert_allclose(alone.coefficients_DS[:, 0], found.coefficients_DS[:, column], atol=1e-12)


@pytest.mark.parametrize(("rows", "width"), [(40, 6), (12, 30)])
def test_the_held_out_correlation_is_that_of_fits_without_each_row(rows: int, width: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, width))
    y = x[:, :2] @ rng.normal(size=(2, 2)) + rng.normal(size=(rows, 2))
    predicted = np.array(
        [fit(np.delete(x, row, 0), np.delete(y, row, 0), 0.3).predict(x[[row]])[0] for row in range(rows)]
    )
    expected = [pearsonr(predicted[:, column], y[:, column]).statistic for column in range(2)]
    np.testing.assert_allclose(fit(x, y, 0.3).held_out_S, expected, atol=0.02)


def test_labels_that_are_all_equal_give_one_score() -> None:
    rng = np.random.default_rng(2)
    for value in (0.1, -1 / 3, 0.0):
        for rows, width in ((40, 6), (12, 30)):
            ridge = fit(rng.normal(size=(rows, width)), np.full((rows, 1), value), 0.3)
            scores = ridge.predict(rng.normal(size=(100, width)))
            assert len(np.unique(scores)) == 1 and scores[0, 0] == pytest.approx(value, abs=1e-15)
            assert np.isnan(ridge.held_out_S).all()


def test_the_order_of_labelled_rows_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    x, y, order = rng.normal(size=(30, 10)), rng.normal(size=(30, 2)), rng.permutation(30)
    np.testing.assert_allclose(fit(x, y, 0.3).coefficients_DS, fit(x[order], y[order], 0.3).coefficients_DS, atol=1e-12)


def counts(pool: Any, buckets: int = 4) -> Counts:
    return Counts(InfluenceParams(buckets=buckets), make_context(pool, list))


def test_features_are_logarithms_of_counts_brought_to_length_1() -> None:
    pool = [
        {"input_ids": [0, 4, 0, 1]},  # 0, 4 and 0 fall into bucket 0
        {"input_ids": [3, 7, 2, 2], "attention_mask": [1, 1, 0, 0]},
        {"input_ids": [5], "attention_mask": [0]},
    ]
    pool[0]["attention_mask"] = [1] * 4
    found = counts(pool).of(np.array([1, 0, 2, 0]))
    first = np.log([4.0, 2.0, 1.0, 1.0])
    np.testing.assert_allclose(found[1], first / np.linalg.norm(first))
    np.testing.assert_array_equal(found[3], found[1])
    np.testing.assert_allclose(found[0], [0, 0, 0, 1])
    assert np.isnan(found[2]).all()


def test_scores_of_the_pool_are_those_of_its_features() -> None:
    rng = np.random.default_rng(4)
    pool = [{"input_ids": rng.integers(0, 50, rng.integers(0, 30)).tolist()} for _ in range(200)]
    features = counts(pool, buckets=16)
    ridge = Ridge(rng.normal(size=16), rng.normal(size=(16, 2)), rng.normal(size=2), np.zeros(2))
    expected = (features.of(np.arange(200)) - ridge.mean_D) @ ridge.coefficients_DS + ridge.mean_S
    found = features.predict(ridge)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    empty = [row for row, each in enumerate(pool) if not each["input_ids"]]
    assert empty and np.isnan(found[empty]).all() and np.isfinite(np.delete(found, empty, 0)).all()


def test_the_newest_labels_are_kept() -> None:
    labels = Labels(5)
    labels.add(np.array([4, 7, 1]), np.array([[0.1], [np.nan], [0.3]]), 1)
    labels.add(np.array([4, 2, 9, 8]), np.array([[0.4], [0.5], [0.6], [0.7]]), 2)
    assert labels.rows.tolist() == [1, 4, 2, 9, 8] and labels.directions.tolist() == [1, 2, 2, 2, 2]
    assert labels.values[:, 0].tolist() == [0.3, 0.4, 0.5, 0.6, 0.7]
    again = Labels(3)
    again.load_state_dict(labels.state_dict())
    assert again.rows.tolist() == [2, 9, 8]


def test_labels_of_several_directions_are_compared_within_each() -> None:
    labels = Labels(99)
    labels.add(np.arange(3), np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]), 1)
    np.testing.assert_array_equal(labels.comparable(), labels.values)  # of one direction: as they are
    labels.add(np.arange(2), np.array([[100.0, 1.0], [300.0, 3.0]]), 2)
    deviation = np.sqrt(2 / 3)
    expected = [[-1 / deviation, 0], [0, 0], [1 / deviation, 0], [-1, -1], [1, 1]]
    np.testing.assert_allclose(labels.comparable(), expected, atol=1e-12)
    together = (labels.values - labels.values.mean(0)) / labels.values.std(0)  # the second direction's age would decide
    assert together[3, 0] > together[2, 0] and labels.comparable()[3, 0] < labels.comparable()[2, 0]
