"""The agreement of screen and exact score, on scores worked out here; the runs are in the packages' tests."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy.stats import spearmanr

from dataflex import Selector, register_selector
from dataflex.components.context import RunContext
from dataflex.components.screening import Agreement, Screened
from dataflex.spec import MARK

ROWS = np.arange(10, 40)


def agreement(screen: np.ndarray, exact: np.ndarray, rows: np.ndarray = ROWS) -> dict[str, object]:
    found = Screened(rows, rows, {"screen_survivors": 3.0}, Agreement(rows, screen, "screen a of selector b", True))
    return dict(found.metrics(exact))


def test_it_is_spearmans_correlation_over_the_rows_with_both_scores() -> None:
    rng = np.random.default_rng(2)
    screen, exact = rng.integers(0, 5, 60).astype(float), rng.normal(size=60)
    exact += screen
    screen[12], exact[15] = np.nan, np.inf
    both = np.setdiff1d(ROWS, [12, 15])
    found = agreement(screen, exact)
    assert found["screen_agreement"] == pytest.approx(spearmanr(screen[both], exact[both]).statistic, abs=1e-12)
    assert found["screen_survivors"] == 3.0


@pytest.mark.parametrize("known", [15, 16])
def test_fewer_than_16_rows_say_nothing(known: int) -> None:
    screen, exact = np.arange(60.0), np.arange(60.0)
    exact[10 + known :] = np.nan
    assert ("screen_agreement" in agreement(screen, exact)) is (known == 16)


def test_a_constant_score_says_nothing() -> None:
    assert "screen_agreement" not in agreement(np.ones(60), np.arange(60.0))
    assert "screen_agreement" not in agreement(np.arange(60.0), np.ones(60))


@pytest.mark.parametrize(("sign", "warned"), [(1, False), (-1, True)])
def test_little_agreement_is_warned_of(sign: int, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dataflex"):
        agreement(np.arange(60.0), sign * np.arange(60.0))
    assert ("screen a of selector b: its scores and the exact ones agree little" in caplog.text) is warned


def test_without_a_screen_all_candidates_are_scored_and_nothing_is_recorded() -> None:
    context = RunContext(dataset=[], data_collator=list)
    found = context.screened(None, ROWS, None, step=1, num_samples=3, facts={})  # type: ignore[arg-type]
    assert found.rows is ROWS and found.survivors is ROWS
    assert found.metrics(np.zeros(60)) == {}


def test_a_class_of_ones_own_can_say_that_it_gives_scores() -> None:
    @register_selector("own", gives_scores=True)
    class Own(Selector):
        """Mine."""

    @register_selector("silent")
    class Silent(Selector):
        """Mine."""

    assert getattr(Own, MARK).gives_scores is True
    assert getattr(Silent, MARK).gives_scores is None
