from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from delta_cases import ask, rows_of, selector

from dataflex import ComponentError, ConfigError

BEFORE = [2.0] * 10
NOW = [1, 1.2, 1.4, 1.6, 1.8, 1.9, 2, 2.1, 2.2, np.nan]


def test_the_first_boundary_measures_and_draws_at_random() -> None:
    made = selector()
    found = ask(made, BEFORE, 1, 10)
    assert sorted(found.rows) == list(range(10))
    assert found.scores is not None and np.isnan(found.scores).all()
    assert "window_start" not in found.metrics
    state = made.state_dict()
    assert state["baseline"] == pytest.approx(BEFORE) and state["baseline_step"] == 10


def test_later_boundaries_score_by_the_drop_and_draw_from_the_window() -> None:
    made = selector()
    ask(made, BEFORE, 1, 4)
    made.on_rows(11, np.array([0, 3]))
    found = ask(made, NOW, 2, 1)
    assert found.scores is not None
    assert found.scores == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.1, 0, -0.1, -0.2, np.nan], abs=1e-12, nan_ok=True)
    kept = {"known": 9, "improved": 7, "window_start": 0, "window_width": 1, "seen_share": 1, "scored": 10}
    assert kept.items() <= found.metrics.items()
    often = selector(replacement=True)
    ask(often, BEFORE, 1, 4)
    counts = np.bincount(ask(often, NOW, 2, 3000).rows, minlength=10)
    expected = 3000 * np.array([1, *[0.025] * 8, 0]) / 1.2
    assert counts[9] == 0
    assert (((counts - expected) ** 2)[:9] / expected[:9]).sum() < 26.1  # 8 degrees of freedom, p = 0.001
    assert ask(made, NOW, 3, 1).metrics["seen_share"] == 0


def test_a_resumed_selector_compares_with_the_losses_it_began_with() -> None:
    """Wrong in dataflex 1.1.0: its next boundary became the new baseline."""
    made, resumed = selector(), selector()
    ask(made, BEFORE, 1, 4)
    made.on_rows(11, np.array([1, 2]))
    resumed.load_state_dict(made.state_dict())
    for boundary in (2, 3, 4):
        mine, theirs = ask(made, NOW, boundary, 6), ask(resumed, NOW, boundary, 6)
        assert list(mine.rows) == list(theirs.rows)
        np.testing.assert_array_equal(mine.scores, theirs.scores)
        assert {**mine.metrics, "seconds": 0, "samples_per_second": 0} == {
            **theirs.metrics, "seconds": 0, "samples_per_second": 0,
        }  # fmt: skip
    fresh = selector()
    fresh.load_state_dict({})
    assert fresh.state_dict() == {}


def test_candidates_are_drawn_once_and_kept() -> None:
    made = selector(max_candidates=6)
    first = ask(made, BEFORE, 1, 6)
    assert first.metrics["scored"] == first.metrics["max_candidates"] == 6
    known = [np.flatnonzero(np.isfinite(ask(made, BEFORE, boundary, 4).scores)).tolist() for boundary in (2, 3)]
    assert known[0] == known[1] == made.state_dict()["candidates"].tolist()
    with pytest.raises(ConfigError, match="max_candidates=6"):
        ask(selector(max_candidates=6), BEFORE, 1, 7)


def test_too_few_rows_with_both_losses_are_an_error() -> None:
    made = selector()
    ask(made, BEFORE, 1, 10)
    with pytest.raises(ComponentError, match=r"only 9 of 10 candidates at step 20 .* 10 are needed"):
        ask(made, NOW, 2, 10)
    again = selector(replacement=True)
    ask(again, BEFORE, 1, 14)
    assert len(ask(again, NOW, 2, 14).rows) == 14
    assert 9 not in ask(again, NOW, 2, 400).rows
    with pytest.raises(ComponentError, match="only 0 of 10"):
        ask(again, [np.nan] * 10, 2, 4)


def test_without_a_falling_loss_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    made = selector()
    ask(made, BEFORE, 1, 4)
    with caplog.at_level(logging.WARNING, "dataflex"):
        found = ask(made, [3.0] * 10, 2, 4)
    assert "no loss at step 20 is at or below that of the first boundary" in caplog.text
    assert found.metrics["window_width"] == 0 and "seen_share" not in found.metrics


def test_a_single_boundary_is_refused_and_few_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=r"this run has 1 boundary\. Set update_times to 4 or more"):
        ask(selector(), BEFORE, 1, 4, times=1)
    with caplog.at_level(logging.WARNING, "dataflex"):
        ask(selector(), BEFORE, 1, 4, times=4)
        assert not caplog.text
        ask(selector(), BEFORE, 1, 4, times=3)
    assert "its window hardly moves" in caplog.text


def test_an_extension_moves_later_windows_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    made = selector()
    ask(made, BEFORE, 1, 4, times=3)
    assert ask(made, NOW, 3, 4, times=3).metrics["window_start"] == 6
    with caplog.at_level(logging.INFO, "dataflex"):
        assert ask(made, NOW, 3, 4, times=5).metrics["window_start"] == 1
    assert "the run has 5 boundaries now and had 3" in caplog.text
    assert made.state_dict()["boundaries"] == 5


def test_rows_are_read_several_times() -> None:
    made = selector(passes=3)
    for boundary in (1, 2):
        rows = np.asarray(ask(made, BEFORE, boundary, 8).rows).tolist()
        assert len(rows) == 8
        assert set(rows[:3]) == set(rows[3:6])
        assert set(rows[6:]) < set(rows[:3])


def test_scoring_a_pool_needs_a_checkpoint_with_a_baseline(tmp_path: Path) -> None:
    scoring = selector(scores_only=True, cache_dir=tmp_path)
    with pytest.raises(ConfigError, match="Give a checkpoint of a run with delta_loss"):
        ask(scoring, BEFORE, 1, 1, times=1)
    trained = selector()
    ask(trained, BEFORE, 1, 4)
    scoring.load_state_dict(trained.state_dict())
    found = ask(scoring, NOW, 3, 2, times=1)  # of a pool that is scored there is but one
    assert found.metrics["window_start"] == 1
    assert found.scores is not None
    assert found.scores[0] == pytest.approx(1)


def test_rows_without_a_target_are_counted() -> None:
    rows = rows_of(10)
    rows[4]["labels"] = [-100, -100]
    made = selector(dataset=rows)
    assert ask(made, BEFORE, 1, 4).metrics["without_targets"] == 1
    assert ask(made, [1.0] * 10, 2, 9).metrics["known"] == 9
