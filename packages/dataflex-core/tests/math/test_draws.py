from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex.math.draws import by_score, systematic, with_share


class Fixed(np.random.Generator):
    """A generator whose next uniform number is known."""

    def __init__(self, u: float) -> None:
        super().__init__(np.random.PCG64(0))
        self.u = u

    def random(self, *_: object, **__: object) -> float:  # type: ignore[override]
        return self.u


def independent(p: list[float], n: int, rng: np.random.Generator) -> list[int]:
    """Wrong: counts of independent draws spread."""
    return np.bincount(rng.choice(len(p), size=n, p=p), minlength=len(p)).tolist()


@pytest.mark.parametrize(
    ("u", "rows"),
    [(0.0, [0, 0, 1]), (0.4, [0, 0, 2]), (0.49, [0, 0, 2]), (0.5, [0, 1, 2]), (0.25, [0, 0, 2]), (0.99, [0, 1, 2])],
)
def test_positions_are_looked_up_in_the_running_sum(u: float, rows: list[int]) -> None:
    # n p = 1.5, .75, .75: edges 1.5, 2.25, 3; positions u, 1 + u, 2 + u.
    assert systematic([0.5, 0.25, 0.25], 3, Fixed(u)).tolist() == rows


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda p: sum(p) > 1e-3),
    st.integers(0, 40),
    st.integers(0, 9),
)
def test_counts_are_floor_or_ceil_of_what_is_expected(p: list[float], n: int, seed: int) -> None:
    drawn = systematic(p, n, np.random.default_rng(seed))
    expected = np.array(p) / sum(p) * n
    counts = np.bincount(drawn, minlength=len(p))
    assert len(drawn) == n
    assert (np.diff(drawn) >= 0).all()
    assert (counts >= np.floor(expected - 1e-7)).all()
    assert (counts <= np.ceil(expected + 1e-7)).all()
    assert not counts[np.array(p) == 0].any()


def test_whole_expectations_are_met_by_every_draw_where_independent_ones_are_not() -> None:
    thirds = [1 / 3, 1 / 3, 1 / 3]
    seeds = range(50)
    assert all(systematic(thirds, 3, np.random.default_rng(seed)).tolist() == [0, 1, 2] for seed in seeds)
    assert systematic(thirds, 3, Fixed(0.0)).tolist() == [0, 1, 2]
    assert systematic(thirds, 3, Fixed(np.nextafter(1, 0))).tolist() == [0, 1, 2]
    assert any(independent(thirds, 3, np.random.default_rng(seed)) != [1, 1, 1] for seed in seeds)


def test_a_row_comes_as_often_as_expected_on_average() -> None:
    p = np.array([0.07, 0.2, 0.03, 0.7])
    rng = np.random.default_rng(3)
    counts = sum(np.bincount(systematic(p, 5, rng), minlength=4) for _ in range(4000))
    assert counts / 4000 == pytest.approx(5 * p, abs=0.03)


def test_a_million_draws_of_one_row_are_a_million() -> None:
    assert len(systematic([0.0, 1.0, 0.0], 10**6, Fixed(np.nextafter(1, 0)))) == 10**6
    assert set(systematic([np.nan, 1.0, 0.0], 7, Fixed(0.9)).tolist()) == {1}


@pytest.mark.parametrize("p", [[], [0.0, 0.0], [-1.0, 2.0], [np.inf, 1.0], [[1.0]]])
def test_what_is_no_distribution_is_refused(p: list[float]) -> None:
    with pytest.raises(ValueError, match="p must be a vector"):
        systematic(p, 2, np.random.default_rng(0))


@pytest.mark.parametrize(("m", "share", "wanted"), [(5, 0.5, 3), (3, 0.5, 2), (4, 0.5, 2), (7, 0.0, 0), (7, 1.0, 7)])
def test_halves_of_a_row_are_rounded_up(m: int, share: float, wanted: int) -> None:
    assert by_score(m, share) == wanted
    if (m, share) == (5, 0.5):
        assert round(share * m) == 2  # wrong: to the even number


@pytest.mark.parametrize(("m", "share", "wanted"), [(50, 0.29, 15), (50, 0.57, 29), (150, 0.07, 11), (49, 0.29, 14)])
def test_rounding_of_the_product_takes_no_row_away(m: int, share: float, wanted: int) -> None:
    """14.5, 28.5 and 10.5 rows, which a product of floats puts a little below; 14.21."""
    assert by_score(m, share) == wanted


def test_a_stage_is_filled_up_uniformly_with_rows_that_were_not_chosen() -> None:
    chosen, pool = np.array([7, 2]), np.arange(10)
    seen = np.zeros(10)
    for seed in range(2000):
        rows = with_share(chosen, pool, 5, np.random.default_rng(seed))
        assert len(set(rows.tolist())) == 5
        assert {7, 2} <= set(rows.tolist())
        seen[rows] += 1
    others = np.delete(seen, [2, 7]) / 2000
    assert others == pytest.approx(np.full(8, 3 / 8), abs=0.05)
    assert with_share(chosen, pool, 2, np.random.default_rng(0)) is chosen
    with pytest.raises(ValueError, match="cannot draw 9 of the 8 rows"):
        with_share(chosen, pool, 11, np.random.default_rng(0))
