"""The transport problem: numbers worked out on paper, the linear program, properties, and versions that are wrong."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import linprog

from dataflex_selectors_tsds.transport import probabilities, transport

Values = npt.NDArray[np.float64]

LINE = [0.0, 1.0, 2.0, 3.0, 4.0]
TWO = [[0.1, 0.4, 0.5, 0.9, 1.2], [1.1, 0.8, 0.3, 0.2, 0.6]]
TWO_DENSITY = [1.0, 2.0, 2.0, 1.0, 1.5]


def solved(
    distances: npt.ArrayLike,
    density: npt.ArrayLike = 1.0,
    *,
    alpha: float = 0.5,
    scale: float,
    first: int | None = None,
) -> tuple[Values, float]:
    """Probabilities and s of a whole table of distances, or with so many neighbours of each query alone."""
    table_MN = np.atleast_2d(np.asarray(distances, np.float64))
    density_N = np.broadcast_to(np.asarray(density, np.float64), table_MN.shape[1:])
    order_MN = np.argsort(table_MN, axis=1, kind="stable")[:, :first]
    nearest = np.take_along_axis(table_MN, order_MN, axis=1)
    found = transport(nearest, density_N[order_MN], alpha, scale)
    return probabilities(order_MN, found.shares, table_MN.shape[1]), found.stop


def objective(gamma_MN: Values, table_MN: Values, density_N: Values, alpha: float, scale: float) -> float:
    tau = float((len(table_MN) * density_N * gamma_MN).max())
    return alpha / scale * float((gamma_MN * table_MN).sum()) + (1 - alpha) * tau


def linear_program(table_MN: Values, density_N: Values, alpha: float, scale: float) -> float:
    """The optimum by scipy's simplex: variables gamma and tau."""
    m, n = table_MN.shape
    costs = np.append(alpha / scale * table_MN.ravel(), 1 - alpha)
    sums = np.zeros((m, m * n + 1))
    for query in range(m):
        sums[query, query * n : (query + 1) * n] = 1
    bounds = np.hstack([np.diag(np.tile(m * density_N, m)), -np.ones((m * n, 1))])
    done = linprog(costs, A_ub=bounds, b_ub=np.zeros(m * n), A_eq=sums, b_eq=np.full(m, 1 / m))
    assert done.status == 0
    return float(done.fun)


def squared(distances: npt.ArrayLike) -> Values:
    """Wrong: FAISS gives squared distances."""
    return np.asarray(distances, np.float64) ** 2


def fetched_once(distances: npt.ArrayLike, density: npt.ArrayLike, alpha: float, scale: float, first: int) -> Values:
    """Wrong: the released loop, which stops where a query's neighbours, fetched once, have no next one."""
    table_MN, density_N = np.asarray(distances), np.asarray(density)
    order_MN = np.argsort(table_MN, axis=1, kind="stable")[:, :first]
    costs, places, stop = [0.0] * len(table_MN), [0] * len(table_MN), 0.0
    sums = [float(1 / density_N[order[0]]) for order in order_MN]
    while alpha / scale * sum(costs) < (1 - alpha) * len(table_MN):
        query = int(np.argmin(sums))
        place, order = places[query], order_MN[query]
        if place + 1 == first:
            break
        stop = sums[query]
        nearer = order[: place + 1]
        spent = float((table_MN[query, nearer] / density_N[nearer]).sum())
        costs[query] = float(table_MN[query, order[place + 1]] * stop - spent)
        places[query] += 1
        sums[query] += float(1 / density_N[order[place + 1]])
    p = np.zeros(table_MN.shape[1])
    for order in order_MN:
        left = 1.0
        for row in order:
            part = min(left, 1 / (stop * density_N[row]))
            p[row] += part / len(table_MN)
            left -= part
    return p


@pytest.mark.parametrize(
    ("scale", "density", "wanted", "stop"),
    [
        (1.0, 1.0, [1, 0, 0, 0, 0], 1.0),
        (5.0, 1.0, [1 / 3, 1 / 3, 1 / 3, 0, 0], 3.0),
        (5.0, [1, 1, 1.5, 1.5, 1.5], [0.375, 0.375, 0.25, 0, 0], 2.666667),
    ],
)
def test_one_query_on_a_line_is_what_is_worked_out_by_hand(
    scale: float, density: npt.ArrayLike, wanted: list[float], stop: float
) -> None:
    p, s = solved(LINE, density, scale=scale)
    assert p.tolist() == pytest.approx(wanted, abs=1e-12)
    assert s == pytest.approx(stop, abs=5e-7)


def test_squared_distances_give_another_answer() -> None:
    assert solved(squared(LINE), scale=5.0)[0].tolist() == pytest.approx([0.5, 0.5, 0, 0, 0])


def test_two_queries_are_what_is_worked_out_by_hand() -> None:
    p, s = solved(TWO, TWO_DENSITY, scale=0.5)
    assert p.tolist() == pytest.approx([0.25, 0.125, 0.25, 0.25, 0.125], abs=1e-12)
    assert s == pytest.approx(2.0)
    assert solved(TWO, scale=0.5)[0].tolist() == pytest.approx([0.25, 0.25, 0.25, 0.25, 0], abs=1e-12)


def test_neighbours_fetched_once_give_another_answer_and_too_few_say_so() -> None:
    p = fetched_once(TWO, TWO_DENSITY, 0.5, 0.5, 3)
    assert p.tolist() == pytest.approx([0.333, 0.167, 0.167, 0.333, 0], abs=5e-4)
    assert fetched_once(TWO, TWO_DENSITY, 0.5, 0.5, 5).tolist() == pytest.approx([0.25, 0.125, 0.25, 0.25, 0.125])
    order = np.argsort(TWO, axis=1, kind="stable")
    density = np.asarray(TWO_DENSITY)[order]
    nearest = np.take_along_axis(np.asarray(TWO), order, axis=1)
    assert transport(nearest[:, :3], density[:, :3], 0.5, 0.5).ended
    assert not transport(nearest, density, 0.5, 0.5).ended


def test_copies_of_a_row_share_what_it_had_and_without_density_they_take_more() -> None:
    copied = [0.0, 0.0, *LINE]
    p, _ = solved(copied, [3, 3, 3, 1, 1, 1, 1], scale=5.0)
    assert p[:3].sum() == pytest.approx(1 / 3)
    assert p[:3] == pytest.approx(np.full(3, 1 / 9))
    assert solved(copied, scale=5.0)[0][:3].sum() == pytest.approx(0.75)


def test_the_linear_program_finds_nothing_better() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        m, n = int(rng.integers(1, 5)), int(rng.integers(2, 9))
        table_MN, density_N = rng.random((m, n)), 1 + rng.integers(0, 3, n) * rng.random(n)
        alpha, scale = float(rng.uniform(0.05, 0.95)), float(rng.uniform(0.05, 3))
        order_MN = np.argsort(table_MN, axis=1, kind="stable")
        found = transport(np.take_along_axis(table_MN, order_MN, axis=1), density_N[order_MN], alpha, scale)
        gamma_MN = np.zeros_like(table_MN)
        np.put_along_axis(gamma_MN, order_MN, found.shares / m, axis=1)
        assert gamma_MN.sum(axis=1) == pytest.approx(np.full(m, 1 / m), abs=1e-12)
        mine = objective(gamma_MN, table_MN, density_N, alpha, scale)
        assert mine == pytest.approx(linear_program(table_MN, density_N, alpha, scale), abs=1e-9)


def test_where_the_optimum_is_not_unique_the_objective_is_what_counts() -> None:
    table_MN, density_N = np.asarray([LINE]), np.ones(5)
    p, _ = solved(LINE, scale=1.0)
    best = linear_program(table_MN, density_N, 0.5, 1.0)
    assert objective(p[None], table_MN, density_N, 0.5, 1.0) == pytest.approx(best)
    other = np.array([[0.5, 0.5, 0, 0, 0]])
    assert objective(other, table_MN, density_N, 0.5, 1.0) == pytest.approx(best)


def test_only_the_quotient_of_distance_and_scale_matters() -> None:
    rng = np.random.default_rng(3)
    table_MN, density_N = rng.random((4, 12)), 1 + rng.random(12)
    once = solved(table_MN, density_N, scale=0.5)[0]
    assert solved(7 * table_MN, density_N, scale=3.5)[0] == pytest.approx(once)


def test_repeated_queries_and_other_orders_change_nothing() -> None:
    rng = np.random.default_rng(1)
    table_MN, density_N = rng.random((4, 12)), 1 + rng.random(12)
    once, stop = solved(table_MN, density_N, scale=1.0)
    thrice, same = solved(np.tile(table_MN, (3, 1)), density_N, scale=1.0)
    assert thrice == pytest.approx(once)
    assert same == pytest.approx(stop)
    queries, rows = rng.permutation(4), rng.permutation(12)
    mixed, _ = solved(table_MN[queries][:, rows], density_N[rows], scale=1.0)
    assert mixed == pytest.approx(once[rows])


def test_a_smaller_alpha_spreads_wider() -> None:
    rng = np.random.default_rng(2)
    table_MN = rng.random((3, 40))
    stops = [solved(table_MN, alpha=alpha, scale=1.0)[1] for alpha in (0.0, 0.01, 0.1, 0.5, 0.9, 1.0)]
    assert stops == sorted(stops, reverse=True)
    assert (stops[0], stops[-1]) == (40.0, 1.0)
    nearest = np.bincount(table_MN.argmin(axis=1), minlength=40) / 3
    assert solved(table_MN, alpha=1.0, scale=1.0)[0] == pytest.approx(nearest)
    assert solved(table_MN, alpha=0.0, scale=1.0)[0] == pytest.approx(np.full(40, 1 / 40))
