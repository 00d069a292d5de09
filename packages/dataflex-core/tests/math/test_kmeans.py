from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflex.math.kmeans import Clusters, kmeans, unit_rows

Rows = npt.NDArray[np.float64]


def at(*degrees: float) -> Rows:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def degrees(centres: Rows) -> list[float]:
    return np.rad2deg(np.arctan2(centres[:, 1], centres[:, 0])).tolist()


def scattered(rows: int, numbers: int, seed: int) -> Rows:
    return unit_rows(np.random.default_rng(seed).normal(size=(rows, numbers)))


def found(rows: Rows, clusters: int, seed: int = 0, **more: object) -> Clusters:
    return kmeans(rows, clusters, np.random.default_rng(seed), **more)  # type: ignore[arg-type]


def sum_of_cosines(rows: Rows, clusters: Clusters) -> float:
    return float((unit_rows(rows) * clusters.centres[clusters.labels]).sum())


def test_five_angles_move_to_two_clusters() -> None:
    rows = at(0, 10, 20, 100, 110)
    first = found(rows, 2, start=[0, 1], max_rounds=1)
    assert first.labels.tolist() == [0, 1, 1, 1, 1]
    last = found(rows, 2, start=[0, 1])
    assert last.labels.tolist() == [0, 0, 0, 1, 1]
    assert degrees(last.centres) == pytest.approx([10, 105])
    assert last.rounds == 3
    assert last.sizes.tolist() == [3, 2]
    assert [each.tolist() for each in last.members()] == [[0, 1, 2], [3, 4]]


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 9))
def test_the_sum_of_cosines_never_falls_and_each_row_is_where_it_is_served_best(
    rows: int, clusters: int, seed: int
) -> None:
    given_rows, clusters = scattered(rows, 4, seed), min(clusters, rows)
    sums = [sum_of_cosines(given_rows, found(given_rows, clusters, seed, max_rounds=n)) for n in range(1, 9)]
    assert all(after >= before - 1e-5 for before, after in itertools.pairwise(sums))
    last = found(given_rows, clusters, seed, max_rounds=100)
    assert (last.sizes > 0).all() and last.sizes.sum() == rows
    own = (given_rows * last.centres[last.labels]).sum(axis=1)
    alone = last.sizes[last.labels] == 1
    assert (own[~alone] >= (given_rows @ last.centres.T).max(axis=1)[~alone] - 1e-5).all()


def test_an_empty_cluster_takes_the_row_served_worst_from_a_cluster_of_several() -> None:
    rows = at(0, 0, 90, 40)  # the second centre is a copy of the first: it gets no row
    assert found(rows, 3, start=[0, 1, 2], max_rounds=1).labels.tolist() == [0, 0, 2, 1]


def test_as_many_clusters_as_rows_are_one_row_each_copies_included() -> None:
    rows = at(10, 10, 10, 50)
    assert sorted(found(rows, 4).labels.tolist()) == [0, 1, 2, 3]


def test_rows_that_are_not_finite_belong_to_no_cluster() -> None:
    rows = at(0, 5, 90, 95)
    rows[1] = np.nan
    clusters = found(rows, 2, start=[0, 2])
    assert clusters.labels.tolist() == [0, -1, 1, 1]
    assert sorted(row for each in clusters.members() for row in each.tolist()) == [0, 2, 3]
    for wrong in (0, 4):
        with pytest.raises(ValueError, match="of 3 rows that are finite"):
            found(rows, wrong)


def test_rows_that_cancel_out_keep_their_centre() -> None:
    clusters = found(at(0, 180), 1, start=[0])
    assert clusters.centres.tolist() == [[1.0, 0.0]]


def test_rotating_the_rows_changes_nothing_and_half_precision_next_to_nothing() -> None:
    rows = scattered(60, 6, 1)
    turned = rows @ np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0]
    labels = found(rows, 7).labels
    assert np.array_equal(found(turned, 7).labels, labels)
    assert np.array_equal(found(3 * rows, 7).labels, labels)
    assert (found(rows.astype(np.float16), 7).labels == labels).mean() > 0.9


def test_many_clusters_are_made_in_two_steps_by_the_sizes_of_coarse_ones() -> None:
    rows = scattered(300, 5, 3)
    clusters = found(rows, 30, two_steps_above=20)
    assert (clusters.sizes > 0).all() and clusters.sizes.sum() == 300 and len(clusters.centres) == 30
    assert sum_of_cosines(rows, clusters) > 0.95 * sum_of_cosines(rows, found(rows, 30))
    assert np.array_equal(found(rows, 30, two_steps_above=20).labels, clusters.labels)
    rows[::7] = np.nan
    again = found(rows, 30, two_steps_above=20)
    assert (again.labels[::7] == -1).all() and (again.sizes > 0).all()
