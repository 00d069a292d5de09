from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from dataflex.math.mmd import gaussian, greedy_mmd, kernel_means

Rows = npt.NDArray[np.float64]
FIVE = np.array([[0.0], [1.0], [1.1], [1.2], [3.0]])


def discrepancy(rows: Rows, chosen: list[int]) -> float:
    """MMD squared, from its definition."""
    kernel = np.exp(-0.5 * ((rows[:, None] - rows[None]) ** 2).sum(axis=2))
    return float(kernel[np.ix_(chosen, chosen)].mean() - 2 * kernel[chosen].mean() + kernel.mean())


def by_definition(rows: Rows, count: int) -> list[int]:
    chosen: list[int] = []
    for _ in range(count):
        left = [row for row in range(len(rows)) if row not in chosen]
        values = [discrepancy(rows, [*chosen, row]) for row in left]
        chosen.append(next(row for row, value in zip(left, values, strict=True) if value <= min(values) + 1e-12))
    return chosen


def test_five_numbers_are_chosen_in_this_order_with_these_discrepancies() -> None:
    order = greedy_mmd(FIVE, 5).tolist()
    assert order == [1, 2, 4, 0, 3]
    found = [discrepancy(FIVE, order[:count]) for count in range(1, 6)]
    assert found == pytest.approx([0.122641, 0.123448, 0.040348, 0.009095, 0], abs=1e-6)
    assert min(discrepancy(FIVE, list(pair)) for pair in itertools.combinations(range(5), 2)) == pytest.approx(
        discrepancy(FIVE, [0, 3]), abs=1e-12
    )
    assert discrepancy(FIVE, [0, 3]) == pytest.approx(0.090782, abs=1e-6)  # greedy is not the best pair


def test_a_kernel_of_half_the_width_chooses_others() -> None:
    """Wrong: exp(-d^2), as dataflex 1.1.0 has it."""
    assert greedy_mmd(FIVE * np.sqrt(2), 3).tolist() == [1, 4, 2]


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_that_of_a_brute_force(seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(12, 3))
    rows[7] = rows[2]  # a copy ties: the lower row first
    order = greedy_mmd(rows, 12).tolist()
    assert order == by_definition(rows, 12)
    for count in range(12):
        assert greedy_mmd(rows, count).tolist() == order[:count]


def test_rotating_the_rows_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 4))
    turned = rows @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert greedy_mmd(turned, 9).tolist() == greedy_mmd(rows, 9).tolist()


def test_mean_kernels_count_a_row_itself_and_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).normal(size=(9, 2))
    whole = kernel_means(rows)
    np.testing.assert_allclose(whole, np.exp(-0.5 * ((rows[:, None] - rows) ** 2).sum(2)).mean(1), atol=1e-12)
    monkeypatch.setattr("dataflex.math.mmd._NUMBERS", 20)
    np.testing.assert_allclose(kernel_means(rows), whole, atol=1e-15)
    assert gaussian([[1.0, 0.0]], [[1.0, 5e-4]]) == 1.0
    assert len(kernel_means(np.zeros((0, 3)))) == 0


def test_more_rows_than_there_are_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="cannot choose 6 of 5"):
        greedy_mmd(FIVE, 6)
