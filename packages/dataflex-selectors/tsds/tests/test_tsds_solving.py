"""From embeddings to probabilities: densities, as many neighbours as are needed, and what is kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dataflex import ComponentError
from dataflex_selectors_tsds import kept, solving
from dataflex_selectors_tsds.density import densities
from dataflex_selectors_tsds.params import TsdsParams
from dataflex_selectors_tsds.solving import solve

NAN = float("nan")


def units(count: int, width: int = 16, seed: int = 0) -> npt.NDArray[np.float16]:
    values = np.random.default_rng(seed).normal(size=(count, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


def fresh() -> np.random.Generator:
    return np.random.default_rng(0)


def all_densities(pool: npt.NDArray[Any], sigma: float, counted: int = 10**6, seed: int = 0) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return densities(pool, np.arange(len(pool)), sigma, counted=counted, rng=rng)


def test_a_thousand_rows_of_mutual_cosine_85_hundredths_have_a_density_of_467() -> None:
    common, own = np.sqrt(0.85), np.sqrt(0.15)
    pool = np.hstack([np.full((1000, 1), common), own * np.eye(1000)]).astype(np.float32)
    found = densities(pool, np.arange(20), 0.75, counted=10**6, rng=fresh())
    assert found == pytest.approx(np.full(20, 1 + 999 * (1 - 0.3 / 0.5625)), rel=1e-3)
    assert found[0] == pytest.approx(467, abs=0.5)


def test_density_counts_copies_whole_near_rows_in_part_and_far_ones_not_at_all() -> None:
    angles = np.deg2rad([0, 0, 30, 90])
    pool = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    near = max(0.0, 1 - (2 - 2 * np.cos(np.pi / 6)) / 0.75**2)
    assert all_densities(pool, 0.75) == pytest.approx([2 + near, 2 + near, 1 + 2 * near, 1.0], abs=2e-3)
    assert all_densities(pool, 0.0).tolist() == [1, 1, 1, 1]
    pool[1] = NAN
    assert densities(pool, np.array([0]), 0.75, counted=9, rng=fresh()) == pytest.approx([1 + near], abs=2e-3)


def test_copies_have_the_same_density() -> None:
    pool = units(300)
    pool[[40, 250, 299]] = pool[7]
    found = all_densities(pool, 1.2)
    assert found[[40, 250, 299]] == pytest.approx(np.full(3, found[7]), rel=1e-6)
    assert found[7] > 4


def test_density_of_a_large_pool_is_estimated_without_bias() -> None:
    pool = units(200, width=4)
    exact = all_densities(pool, 1.0)
    estimates = np.mean([all_densities(pool, 1.0, counted=40, seed=seed) for seed in range(400)], axis=0)
    assert estimates == pytest.approx(exact, rel=0.1)
    assert not np.array_equal(all_densities(pool, 1.0, counted=40), exact)


def test_a_pool_is_searched_until_the_result_is_exact() -> None:
    queries, pool = units(5, seed=1), units(400)
    params = TsdsParams(alpha=0.2, C=5.0, sigma=0.9)
    whole = solve(queries, pool, params, fresh, first=400)
    for first in (1, 7, 64):
        found = solve(queries, pool, params, fresh, first=first)
        assert found.p == pytest.approx(whole.p, abs=1e-12)
        assert found.stop == pytest.approx(whole.stop)
        assert found.mean_density == pytest.approx(whole.mean_density)
    assert whole.p.sum() == pytest.approx(1)
    assert np.count_nonzero(whole.p) > 64
    short = solve(queries, pool, TsdsParams(alpha=1.0, sigma=0.0), fresh)
    assert short.neighbours == 64
    assert np.count_nonzero(short.p) <= 5


def test_probabilities_are_those_of_the_whole_table() -> None:
    from test_tsds_transport import solved

    queries, pool = units(4, seed=1).astype(np.float64), units(30).astype(np.float64)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    table = np.linalg.norm(queries[:, None] - pool[None], axis=2)
    apart = np.linalg.norm(pool[:, None] - pool[None], axis=2)
    density = np.maximum(0, 1 - apart**2 / 1.1**2).sum(axis=1)
    wanted, stop = solved(table, density, alpha=0.4, scale=1.0)
    found = solve(queries, pool, TsdsParams(alpha=0.4, C=1.0, sigma=1.1), fresh)
    assert found.p == pytest.approx(wanted, abs=1e-4)
    assert found.stop == pytest.approx(stop, abs=1e-3)


def test_a_copied_row_keeps_its_part_in_all() -> None:
    queries, pool = units(3, seed=1), units(40)
    params = TsdsParams(sigma=0.3)
    alone = solve(queries, pool, params, fresh).p
    row = int(alone.argmax())
    copied = solve(queries, np.concatenate([pool, pool[[row, row]]]), params, fresh).p
    assert copied[[row, 40, 41]].sum() == pytest.approx(alone[row], abs=1e-6)
    assert np.delete(copied, [row, 40, 41]) == pytest.approx(np.delete(alone, row), abs=1e-6)
    without = solve(queries, np.concatenate([pool, pool[[row, row]]]), TsdsParams(sigma=0.0), fresh).p
    assert without[[row, 40, 41]].sum() > 1.5 * alone[row]


def test_rows_without_an_embedding_get_nothing() -> None:
    pool = units(20)
    pool[3] = NAN
    found = solve(units(2, seed=1), pool, TsdsParams(alpha=0.0), fresh)
    assert found.p[3] == 0
    assert np.count_nonzero(found.p) == 19


def test_a_spread_that_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solving, "MOST", 100)
    with pytest.raises(ComponentError, match=r"each of 5 rows .* over more than 16 rows of the pool"):
        solve(units(5, seed=1), units(400), TsdsParams(alpha=0.0), fresh, first=16)


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_bytes(b"cut"), lambda path: path.unlink(), lambda path: path.write_bytes(b"")],
)
def test_what_is_kept_is_read_again_unless_it_is_damaged(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    params, found = TsdsParams(), solve(units(2, seed=1), units(9), TsdsParams(), fresh)
    path = kept.place(tmp_path / "new", "abc", params, 3)
    kept.write(path, found)
    again = kept.read(path, 9)
    assert again is not None
    assert again.p.tolist() == found.p.tolist()
    assert (again.stop, again.neighbours, again.mean_density) == (found.stop, found.neighbours, found.mean_density)
    assert kept.read(path, 8) is None
    damage(path)
    assert kept.read(path, 9) is None


def test_the_file_is_of_the_embeddings_the_parameters_and_the_seed(tmp_path: Path) -> None:
    places = {
        kept.place(tmp_path, fingerprint, params, seed)
        for fingerprint in ("a", "b")
        for params in (TsdsParams(), TsdsParams(alpha=0.6), TsdsParams(C=4.0), TsdsParams(density_rows=9))
        for seed in (1, 2)
    }
    assert len(places) == 16
    assert kept.place(tmp_path, "a", TsdsParams(), 1) == kept.place(tmp_path, "a", TsdsParams(draw="distinct"), 1)
    found = solve(units(2, seed=1), units(9), TsdsParams(), fresh)
    for place in places:
        kept.write(place, found)
    assert len(list(tmp_path.glob("tsds-*"))) == 1
