from __future__ import annotations

import numpy as np
import pytest
import torch

from dataflex.math.neighbours import distances, mean_products, neighbours


def unit(rows: int, width: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(rows, width))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def by_sorting(queries: np.ndarray, pool: np.ndarray, k: int) -> list[list[int]]:
    """All products in one piece and Python's sort of (-s, row), in whole numbers of 2^-20."""
    steps = np.rint(queries.astype(np.float64) @ pool.astype(np.float64).T * 2**20).astype(int)
    return [sorted(range(len(pool)), key=lambda row: (-line[row], row))[:k] for line in steps]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("block", [1, 7, 64, None])
def test_block_sizes_change_nothing(block: int | None, dtype: type) -> None:
    queries, pool = unit(9, 24, 1).astype(dtype), unit(150, 24, 2).astype(dtype)
    pool[[40, 90, 141]] = pool[3]  # copies
    found = neighbours(queries, pool, 20, block=block)
    assert found.rows.tolist() == by_sorting(queries, pool, 20)
    whole = neighbours(queries, pool, 20)
    assert np.array_equal(found.products, whole.products)
    assert np.array_equal(found.best, whole.best)


def test_copies_come_in_the_order_of_rows() -> None:
    pool = np.repeat(unit(1, 8), 30, axis=0).astype(np.float32)
    found = neighbours(unit(3, 8, 5), pool, 30, block=4)
    assert found.rows.tolist() == [list(range(30))] * 3
    assert len(np.unique(found.products[0])) == 1


def test_products_compared_as_they_are_would_order_copies_by_their_rounding() -> None:
    # The wrong version: products that differ by rounding alone do not tie.
    query, pool = unit(1, 8, 5), np.repeat(unit(1, 8), 3, axis=0)
    pool[1] *= 1 + 1e-12 * np.sign(query @ pool[1])
    assert np.argsort(-(query @ pool.T)[0], kind="stable").tolist() != [0, 1, 2]
    assert neighbours(query, pool, 3).rows.tolist() == [[0, 1, 2]]


def test_products_are_multiples_and_the_best_over_queries_is_kept_for_each_row() -> None:
    queries, pool = unit(5, 6, 3), unit(40, 6, 4)
    found = neighbours(queries, pool, 4)
    assert np.array_equal(found.products * 2**20, np.rint(found.products * 2**20))
    np.testing.assert_allclose(found.best, (queries @ pool.T).max(axis=0), atol=2**-21)


def test_a_row_that_is_not_finite_is_nobodys_neighbour() -> None:
    pool = unit(6, 4)
    pool[2] = np.nan
    found = neighbours(unit(2, 4, 9), pool, 6, block=2)
    assert found.rows.shape == (2, 5)
    assert 2 not in found.rows
    assert np.isnan(found.best[2])
    assert np.isfinite(np.delete(found.best, 2)).all()
    assert np.isnan(mean_products(unit(2, 4, 9), pool)[2])


def test_rows_that_are_not_free_are_passed_over_but_keep_their_product() -> None:
    queries, pool = unit(3, 5, 1), unit(20, 5, 2)
    free = np.arange(20) % 3 != 0
    found = neighbours(queries, pool, 4, among=free, block=7)
    places = np.flatnonzero(free)
    assert found.rows.tolist() == places[neighbours(queries, pool[free], 4).rows].tolist()
    assert np.array_equal(found.best, neighbours(queries, pool, 1).best)


def test_more_neighbours_than_rows_are_all_rows() -> None:
    assert neighbours(unit(1, 4), unit(3, 4), 50).rows.shape == (1, 3)


def test_tensors_and_arrays_give_the_same() -> None:
    queries, pool = unit(3, 5, 1), unit(20, 5, 2)
    found = neighbours(torch.from_numpy(queries), torch.from_numpy(pool), 4)
    assert found.rows.tolist() == neighbours(queries, pool, 4).rows.tolist()


def test_the_mean_of_products_is_the_product_with_the_mean() -> None:
    queries, pool = unit(7, 5, 1), unit(20, 5, 2)
    expected = (queries @ pool.T).mean(axis=0)
    np.testing.assert_allclose(mean_products(queries, pool, block=3), expected, atol=2**-20)
    np.testing.assert_allclose(mean_products(3 * queries, 2 * pool, normalise=True), expected, atol=2**-20)


def test_distances_rank_as_cosines_do_and_rounding_is_no_distance() -> None:
    queries, pool = unit(4, 8, 1), unit(30, 8, 2)
    found = neighbours(queries, pool, 30)
    exact = np.linalg.norm(queries[:, None] - pool[found.rows], axis=2)
    np.testing.assert_allclose(distances(found.products), exact, atol=1e-5)
    assert (np.diff(distances(found.products), axis=1) >= 0).all()
    assert distances([1.0, 1 - 4e-7, 1 + 1e-3, 0.5, -1.0]).tolist() == [0, 0, 0, 1, 2]


def test_fp16_rows_brought_to_length_one_are_at_no_distance_from_their_copies() -> None:
    pool = unit(20, 300).astype(np.float16)
    found = neighbours(pool[:5], pool, 1, normalise=True)
    assert found.rows[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert distances(found.products).tolist() == [[0.0]] * 5


@pytest.mark.parametrize(
    ("queries", "pool", "message"),
    [
        (np.ones((1, 3)), np.ones((2, 4)), "do not fit"),
        (np.full((1, 3), np.nan), np.ones((2, 3)), "not finite"),
        (np.full((1, 3), 9.0), np.ones((2, 3)), "length 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(queries: np.ndarray, pool: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        neighbours(queries, pool, 1)
