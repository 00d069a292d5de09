"""What the selector makes of labels: ranking, shares, passes, state and errors; labels are told to it by hand."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import pytest
import torch
from influence_cases import collate, model, pool_and_targets, rows_of, select, selector, told

from dataflex.checkpoint.component import from_files, to_files
from dataflex.errors import ComponentError, ConfigError
from dataflex_selectors_influence.features import Counts
from dataflex_selectors_influence.params import InfluenceParams


def of_words(rows: Any, pool: Any) -> np.ndarray:
    """A label that words tell: the share of tokens below 12."""
    return np.array([np.mean(np.asarray(pool[row]["input_ids"]) < 12) for row in rows])


def labelled(count: int = 40, params: dict[str, Any] | None = None, **facts: Any) -> Any:
    """A selector that knows the labels of some rows."""
    pool, _ = pool_and_targets()
    rows = np.random.default_rng(0).choice(len(pool), count, replace=False)
    chooser = selector(params=params, **facts)
    told(chooser, rows, of_words(rows, pool))
    return chooser


def test_rows_like_those_with_high_labels_are_chosen_though_their_own_were_never_seen() -> None:
    selection = select(labelled(36))
    assert sum(row < 24 for row in selection.rows) >= 11
    assert selection.scores is not None and np.isfinite(selection.scores).all()
    assert selection.metrics["held_out_correlation"] > 0.7
    assert selection.metrics["labels"] == 36 and selection.metrics["scored"] == 72


def test_scores_are_the_ridge_regressions_of_an_independent_solver() -> None:
    pool, _ = pool_and_targets()
    chooser = labelled(40)
    selection = select(chooser)
    features = np.zeros((len(pool), 1024))
    for row, each in enumerate(pool):
        np.add.at(features[row], np.asarray(each["input_ids"]) % 1024, 1)
    features = np.log1p(features)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    rows = chooser._labels.rows
    x, y = features[rows], of_words(rows, pool)
    stacked = np.vstack([x - x.mean(0), np.sqrt(0.3) * np.eye(1024)])  # ridge as least squares
    beta = np.linalg.lstsq(stacked, np.concatenate([y - y.mean(), np.zeros(1024)]), rcond=None)[0]
    np.testing.assert_allclose(selection.scores, (features - x.mean(0)) @ beta + y.mean(), atol=1e-9)


def test_with_too_few_labels_the_stage_is_drawn_at_random_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        selection = select(labelled(31))
    assert "only 31 rows have a label and at least 32 are needed" in caplog.text
    assert selection.metrics["at_random"] == 1 and selection.scores is None
    assert len(set(selection.rows)) == 12
    other = select(labelled(31, seed=7))
    assert set(selection.rows) != set(other.rows)
    assert "at_random" not in select(labelled(32)).metrics


def test_labels_that_are_all_equal_leave_the_rows_in_their_order() -> None:
    chooser = selector()
    told(chooser, range(40), np.full(40, 1 / 3))
    selection = select(chooser)
    assert selection.scores is not None and len(set(selection.scores)) == 1
    assert sorted(selection.rows) == list(range(12))
    assert "held_out_correlation" not in selection.metrics


def test_labels_that_features_do_not_tell_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    chooser = selector()
    rng = np.random.default_rng(9)
    told(chooser, range(60), rng.choice([-1.0, 1.0], 60))
    with caplog.at_level(logging.WARNING):
        select(chooser)
    assert "labels can hardly be told from counts" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        select(labelled())
    assert not caplog.text


def test_a_row_without_a_finite_label_is_none() -> None:
    chooser = selector()
    told(chooser, range(40), [np.nan, np.inf, *([0.1] * 38)])
    assert select(chooser).metrics["labels"] == 38


def two_targets(params: dict[str, Any]) -> Any:
    pool, _ = pool_and_targets()
    rows = np.arange(0, 72, 2)
    high = np.array([np.mean(np.asarray(pool[row]["input_ids"]) >= 26) for row in rows])
    chooser = selector(params={"targets": None, **params})
    told(chooser, rows, np.stack([of_words(rows, pool), 5 * high], axis=1))
    return chooser


def test_several_targets_are_combined_as_asked() -> None:
    chosen = {rule: select(two_targets({"aggregate": rule})) for rule in ("max", "mean", "round_robin")}
    assert len({tuple(sorted(each.rows)) for each in chosen.values()}) == 3
    found = two_targets({})
    tables = found._features.predict(found._fit())
    np.testing.assert_allclose(chosen["max"].scores, tables.max(axis=1))
    np.testing.assert_allclose(chosen["mean"].scores, tables.mean(axis=1))
    best = [int(np.argmax(tables[:, 0])), int(np.argmax(tables[:, 1]))]
    assert set(best) <= set(chosen["round_robin"].rows)
    assert sum(row < 24 for row in chosen["round_robin"].rows) == 6
    assert len(chosen["max"].metrics["subtask_shares"]) == 2
    np.testing.assert_allclose(chosen["max"].target_scores["two"], tables[:, 1])


def test_a_share_of_the_stage_is_drawn_from_the_rows_not_chosen() -> None:
    whole, half = select(labelled()), select(labelled(params={"share": 0.5}))
    assert whole.scores is not None
    best = set(np.argsort(-whole.scores, kind="stable")[:6])
    assert best <= set(half.rows) and len(set(half.rows)) == 12
    nothing = select(labelled(params={"share": 0.0}))
    assert sum(row < 24 for row in nothing.rows) < 9


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_a_share_does_not_excuse_rows_without_features(share: float) -> None:
    """36 of 72 rows have a token: enough for the half that is chosen by score, not for the rows of a pass."""
    pool, _ = pool_and_targets()
    ragged = [row if place % 2 else {"input_ids": [], "labels": []} for place, row in enumerate(pool)]
    chooser = selector(pool=ragged, params={"share": share})
    rows = np.flatnonzero(np.arange(72) % 2)
    told(chooser, rows, of_words(rows, pool))
    assert len(set(select(chooser, num_samples=36).rows)) == 36
    with pytest.raises(ComponentError, match="only 36 of the pool's 72 rows have a score and 37 are needed at step 5"):
        select(chooser, num_samples=37)


def test_rows_are_read_several_times() -> None:
    selection = select(labelled(params={"passes": 3}), num_samples=14)
    assert len(selection.rows) == 14 and len(set(selection.rows)) == 5
    assert (
        set(selection.rows[:5]) == set(selection.rows[5:10])
        and selection.rows[:5].tolist() != selection.rows[5:10].tolist()
    )


def test_sampling_prefers_high_scores_and_differs_by_step() -> None:
    first, second = (select(labelled(params={"mode": "sample"}), step=step) for step in (5, 9))
    assert set(first.rows) != set(second.rows)
    assert sum(row < 24 for row in first.rows) > 6
    equal = selector(params={"mode": "sample"})
    told(equal, range(40), np.full(40, 0.2))
    assert sorted(select(equal).rows) != list(range(12))


def test_the_state_comes_back_through_a_checkpoint() -> None:
    first = labelled(20, params={"refresh": 3})
    of = model()
    first.begin(of)
    told(first, range(30), np.linspace(0, 1, 30), step=2)
    first.directions(of, 3)
    told(first, range(30, 60), np.linspace(0, 9, 30), step=4)
    again = selector(params={"refresh": 3})
    again.load_state_dict(from_files(to_files(first.state_dict())))
    assert again._labels.directions.tolist() == [0] * 20 + [1] * 30 + [2] * 30
    mine, theirs = first.directions(of, 4), again.directions(of, 4)
    assert mine is not None and theirs is not None and mine.vectors.keys() == theirs.vectors.keys()
    assert all(torch.equal(mine.vectors[name], theirs.vectors[name]) for name in mine.vectors)
    np.testing.assert_array_equal(select(first).rows, select(again).rows)
    assert select(first).metrics.get("stage_influence") == select(again).metrics.get("stage_influence")


def exact_direction(of: Any, rows: Any) -> dict[str, torch.Tensor]:
    """Mean unit gradient, fp64, one row at a time."""
    exact = copy.deepcopy(of).double().eval()
    total: dict[str, torch.Tensor] = {}
    for row in rows:
        exact.zero_grad()
        exact(**collate([row])).loss.backward()
        grads = {name: value.grad for name, value in exact.named_parameters() if value.grad is not None}
        length = torch.sqrt(sum((grad**2).sum() for grad in grads.values()))
        for name, grad in grads.items():
            total[name] = total.get(name, 0) + grad.flatten() / length / len(rows)
    return total


def test_the_direction_is_the_mean_unit_gradient_of_rows_drawn_once() -> None:
    of, (_, targets) = model(), pool_and_targets()
    chooser = selector(params={"max_validation": 4})
    chooser.begin(of)
    drawn = chooser._aim._validation.state_dict()["validation/one"].tolist()
    assert len(set(drawn)) == 4
    found, expected = chooser.directions(of, 0), exact_direction(of, [targets["one"][row] for row in drawn])
    assert found is not None and found.vectors.keys() == expected.keys()
    for name, vectors in found.vectors.items():
        torch.testing.assert_close(vectors[0].double(), expected[name], rtol=1e-4, atol=1e-6)
    assert chooser.directions(of, 7) is found  # made once
    again = selector(params={"max_validation": 4}, seed=9)
    again.begin(of)
    assert again._aim._validation.state_dict()["validation/one"].tolist() != drawn


def test_the_denominator_is_that_of_the_moment_the_direction_is_made() -> None:
    of, (_, targets) = model(), pool_and_targets()
    optimizer = torch.optim.AdamW(
        [value for value in of.parameters() if value.requires_grad], betas=(0.8, 0.9), eps=1e-5
    )
    for start in (0, 4):
        of(**collate(rows_of(4, start))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    chooser = selector(params={"preconditioner": "linear", "refresh": 2}, optimizer=lambda: optimizer)
    chooser.begin(of)
    assert chooser.directions(of, 0) is None and chooser.directions(of, 1) is None
    found, expected = chooser.directions(of, 2), exact_direction(of, targets["one"])
    assert found is not None
    for name, value in of.named_parameters():
        if name in found.vectors:
            second = optimizer.state[value]["exp_avg_sq"].double().flatten() / (1 - 0.9**2)
            wanted = expected[name] / (second.sqrt() + 1e-5)
            torch.testing.assert_close(
                found.vectors[name][0].double(), wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max())
            )


def test_a_model_that_trains_no_linear_layer_is_refused() -> None:
    with pytest.raises(ComponentError, match="this model trains none that can be told apart by row"):
        selector().begin(model(frozen=True))


def test_a_pool_cannot_be_scored_without_labels() -> None:
    with pytest.raises(ComponentError, match="Score a checkpoint of a run with component_name: influence"):
        select(labelled(31, scores_only=True), num_samples=1)
    assert select(labelled(40, scores_only=True), num_samples=1).scores is not None


def test_more_rows_than_the_pool_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="draws 73 samples"):
        select(labelled(), num_samples=73)
    assert len(select(labelled(params={"passes": 2}), num_samples=144).rows) == 144


def test_a_pool_whose_rows_have_no_tokens_is_refused() -> None:
    pool = pool_and_targets()[0]
    pool = pool[:40] + [{"input_ids": [], "labels": []}] * 32
    chooser = selector(pool)
    told(chooser, range(40), np.arange(40.0))
    with pytest.raises(ComponentError, match="only 40 of the pool's 72 rows have a score and 41 are needed"):
        select(chooser, num_samples=41)


def test_labels_are_kept_up_to_a_number() -> None:
    chooser = selector(params={"max_labels": 33})
    told(chooser, range(20), np.zeros(20))
    told(chooser, range(20, 60), np.arange(40.0))
    assert chooser._labels.rows.tolist() == list(range(27, 60))


def test_features_do_not_depend_on_how_the_pool_is_stored() -> None:
    from datasets import Dataset

    pool = pool_and_targets()[0]
    rows = np.array([5, 70, 5, 0])
    params = InfluenceParams(buckets=64)
    plain, arrow = (Counts(params, selector(each).context).of(rows) for each in (pool, Dataset.from_list(pool)))
    np.testing.assert_array_equal(plain, arrow)
