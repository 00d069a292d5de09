"""What each cluster gets, by hand, and against the rules of dataflex 1.1.0."""

from __future__ import annotations

import numpy as np
import pytest
from coincide_cases import GROUPS, centres_of, rivals_shares
from hypothesis import given
from hypothesis import strategies as st

from dataflex.math.apportion import apportion
from dataflex_selectors_coincide.shares import allot, density, proportions, serve, transferability

SIZES = np.array([3, 4, 1, 2])


def never() -> np.random.Generator:
    raise AssertionError("nothing is drawn of a small cluster")


def test_four_clusters_share_a_stage_as_worked_out_by_hand() -> None:
    transfer = transferability(centres_of(), 0.9)
    assert transfer == pytest.approx([-0.236836, 0.352570, -0.360807, -0.166250], abs=1e-6)
    dense = [density(group, never) for group in GROUPS]
    assert dense == pytest.approx([0.980293, 0.998480, 1, 0.999696], abs=1e-6)
    shares = proportions(transfer, dense, 0.1)
    assert shares == pytest.approx([0.002590, 0.991123, 0.000786, 0.005500], abs=1e-6)
    assert allot(shares, SIZES, SIZES, 6).tolist() == [1, 4, 0, 1]


def test_the_rules_of_dataflex_1_share_otherwise() -> None:
    transfer, shares = rivals_shares()
    assert transfer == pytest.approx([0.174174, 0.352570, -0.360807, 0.221232], abs=1e-6)
    assert shares == pytest.approx([0.263, 0.312, 0.152, 0.273], abs=5e-4)
    assert apportion(shares, SIZES, 6).tolist() == [1, 2, 1, 2]


def test_a_temperature_of_one_flattens_the_method_away() -> None:
    """Wrong: dataflex 1.1.0's default, where the released code has .1."""
    assert proportions([0.2, 0.4, 0.6], [0.8] * 3, 1.0) == pytest.approx([0.25, 0.33, 0.42], abs=0.01)
    assert proportions([0.2, 0.4, 0.6], [0.8] * 3, 0.1) == pytest.approx([0.006, 0.075, 0.918], abs=6e-4)
    assert proportions([1.0, -1.0], [1.0, 1.0], 1e-3).tolist() == [1.0, 0.0]  # in logs: nothing overflows


def test_a_centre_without_others_is_like_none_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert transferability(np.array([[1.0, 0.0]]), 0.9).tolist() == [0.0]
    assert transferability(np.array([[1.0, 0.0], [1.0, 0.0]]), 0.9).tolist() == [0.0, 0.0]
    centres = np.random.default_rng(0).normal(size=(17, 5))
    whole = transferability(centres, 0.5)
    monkeypatch.setattr("dataflex_selectors_coincide.shares._BLOCK", 40)
    np.testing.assert_allclose(transferability(centres, 0.5), whole, atol=1e-12)
    units = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    for place, row in enumerate(units @ units.T):
        kept = [value for other, value in enumerate(row) if other != place and value <= 0.5]
        assert whole[place] == pytest.approx(np.mean(kept))


def test_the_density_of_many_rows_is_that_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).normal(size=(400, 6))
    whole = density(rows, never)
    monkeypatch.setattr("dataflex_selectors_coincide.shares.DENSITY_ROWS", 100)
    sampled = density(rows, lambda: np.random.default_rng(2))
    assert sampled == density(rows, lambda: np.random.default_rng(2)) != whole
    assert sampled == pytest.approx(whole, abs=0.02)


def test_clusters_whose_share_rounds_to_nothing_fill_up_by_size() -> None:
    shares = np.array([0.0, 1.0, 0.0])
    assert allot(shares, np.array([6, 2, 3]), np.array([6, 2, 3]), 5).tolist() == [2, 2, 1]


def test_a_stage_goes_on_where_the_last_one_stopped_until_all_are_free_again() -> None:
    shares, sizes = np.array([0.7, 0.3]), np.array([4, 4])
    ((first, end),) = serve(shares, sizes, np.array([1, 2]), 3)
    assert (first.tolist(), end.sum() - first.sum()) == ([1, 2], 3)
    left, again = serve(shares, sizes, np.array([3, 3]), 5)
    assert (left[0].tolist(), left[1].tolist()) == ([3, 3], [4, 4])
    assert again[0].tolist() == [0, 0]
    assert again[1].sum() == 3
    assert (again[1] <= 3).all()  # none that the first part took


@given(st.data())
def test_every_stage_takes_so_many_different_rows(data: st.DataObject) -> None:
    sizes = np.array(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=6)))
    served = np.array([data.draw(st.integers(0, int(size))) for size in sizes])
    shares = np.array([data.draw(st.sampled_from([0.0, 0.01, 0.3, 1.0])) for _ in sizes])
    count = data.draw(st.integers(1, int(sizes.sum())))
    taken = [
        (cluster, place)
        for first, end in serve(shares, sizes, served, count)
        for cluster, (one, other) in enumerate(zip(first.tolist(), end.tolist(), strict=True))
        for place in range(one, other)
    ]
    assert len(taken) == len(set(taken)) == count
    assert all(place < sizes[cluster] for cluster, place in taken)
