"""Places of the plan of several components: what each weighs, who hears of it, how a longer run goes on with them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dataflex.errors import ComponentError
from dataflex.record.plans import plan_name

HALVES = {"init_mixture_proportions": [0.5, 0.5]}
SAVES = {"save_strategy": "steps", "save_steps": 1}


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import composed_runs

    return composed_runs


def rows_from(folder: Path, steps: tuple[int, ...]) -> list[int]:
    return np.concatenate([np.load(folder / plan_name(step)) for step in steps]).tolist()


@pytest.mark.parametrize("orderer", [None, "folds"])
def test_a_row_that_is_chosen_several_times_weighs_at_each_place_what_it_was_given_there(
    runs, tmp_path, orderer
) -> None:
    components = {"mixer": "static", "selector": "doubly", "orderer": orderer}
    keys = {"components": components, **HALVES, "update_step": 2, "update_times": 1}
    runs.trained(tmp_path, keys, **SAVES)
    plan = np.load(tmp_path / "out" / plan_name(1))
    weights = np.load(tmp_path / "out" / "checkpoint-2" / "dataflex" / "plan_weights.npy")
    for first in (0, 12):
        assert sorted(weights[plan == first]) == [1, 2, 3, 4]


def test_rows_of_whole_passes_were_given_no_weight(runs, tmp_path) -> None:
    components = {"mixer": "static", "selector": "doubly"}
    keys = {"components": components, **HALVES, "update_step": 7, "update_times": 1}
    runs.trained(tmp_path, keys, domains={"a": 6, "b": 26}, **SAVES)
    plan = np.load(tmp_path / "out" / plan_name(1))
    weights = np.load(tmp_path / "out" / "checkpoint-2" / "dataflex" / "plan_weights.npy")
    assert sorted(weights[plan < 6]) == [1] * 12 + [1, 2]  # two passes over six rows, and the two chosen


def test_a_run_whose_ordered_passes_were_thinned_goes_on_with_the_rows_left_out(runs, tmp_path) -> None:
    keys = {"components": {"mixer": "static", "orderer": {"name": "folds", "params": {"by": "length"}}}, **HALVES}
    same = {"domains": {"a": 12, "b": 12}, **SAVES}
    runs.trained(tmp_path, {**keys, "train_step": 2}, **same)
    assert max(Counter(rows_from(tmp_path / "out", (0, 1))).values()) == 1
    longer = runs.trainer(tmp_path, {**keys, "train_step": 6}, **same)
    longer.train(resume_from_checkpoint=True)
    assert sorted(rows_from(tmp_path / "out", (0, 1, 2, 3, 5))) == list(range(24))


def test_a_longer_run_asks_a_selector_that_keeps_a_share_when_it_is_due_and_not_before(runs, tmp_path) -> None:
    components = {"mixer": "static", "selector": {"name": "draws", "keep": 0.5, "every": 3}}
    keys = {"components": components, **HALVES}
    runs.trained(tmp_path, {**keys, "update_times": 2}, **SAVES)
    runs.trainer(tmp_path, {**keys, "update_times": 4}, domains=runs.DOMAINS).train(resume_from_checkpoint=True)
    asked = [each["step"] for each in runs.decisions(tmp_path / "out") if each["kind"] == "selector"]
    assert asked == [1, 7]  # boundaries 0 and 3


def test_a_pass_is_thinned_by_the_shares_that_a_mixer_knows_in_advance(runs, tmp_path) -> None:
    orderer = {"name": "folds", "params": {"by": "length"}}
    keys = {"components": {"mixer": "slides", "orderer": orderer}, **HALVES, "update_times": 2}
    runs.trained(tmp_path, keys, domains={"a": 12, "b": 12})
    # 2 + 2 + 6 rows of a, 2 + 6 + 2 of b: of twelve ranks floor((2p + 1) 12 / 20) for ten places leaves out 2 and 8.
    # Lengths are 4 to 9 and 4 to 9 again, so by rank the rows are 0 6 1 7 2 8 3 9 4 10 5 11.
    left_out = {1, 4, 12 + 1, 12 + 4}
    assert sorted(rows_from(tmp_path / "out", (0, 1, 3))) == [row for row in range(24) if row not in left_out]


def test_where_shares_may_move_it_is_said_how_far_the_present_ones_reach(runs, tmp_path, caplog) -> None:
    orderer = {"name": "folds", "params": {"by": "length"}}
    with caplog.at_level("INFO", logger="dataflex"):
        runs.trained(tmp_path, {"components": {"mixer": "tilts", "orderer": orderer}, **HALVES})
    said = [message for message in caplog.messages if "no pass is thinned" in message]
    assert len(said) == 1  # 28 rows, half of each: 14 of 12, and 14 of 20
    assert said[0].endswith("at the present ones the run reaches a 117%, b 70% of a pass.")


HEARING = {"components": {"mixer": "halves", "selector": "hears", "weighter": "easy"}, **HALVES}


def test_each_domain_hears_of_its_own_rows_and_once_though_one_of_them_failed(runs, tmp_path) -> None:
    whole = runs.trained(tmp_path, HEARING, out="whole")
    heard = {name: asking.state_dict() for name, asking in whole.parts.opened.items() if "@" in name}
    served = np.bincount(rows_from(tmp_path / "whole", (0, 1, 3, 5)), minlength=32).tolist()
    assert heard["selector@a"]["times"] == served[:12] and heard["selector@b"]["times"] == served[12:]
    assert heard["selector@a"]["losses"] > 0
    (tmp_path / "broken").write_text("on_rows 4 b")  # a has been told of the step by then
    with pytest.raises(ComponentError, match=r"domain b\) failed in on_rows\(\) at step 4"):
        runs.trained(tmp_path, HEARING)
    (tmp_path / "broken").unlink()
    repaired = runs.trainer(tmp_path, HEARING, domains=runs.DOMAINS)
    repaired.train(resume_from_checkpoint=True)
    assert {name: repaired.parts.opened[name].state_dict() for name in heard} == heard
    assert torch.equal(runs.weights(whole), runs.weights(repaired))


@pytest.mark.parametrize("orderer", [None, {"name": "folds", "params": {"by": "length"}}], ids=["as chosen", "ordered"])
def test_shares_of_tokens_are_met_whatever_rows_are_chosen(runs, tmp_path, orderer) -> None:
    components = {"mixer": "tilts", "selector": "draws", "orderer": orderer}
    runs.trained(tmp_path, {"components": components, "mixture_unit": "tokens", **HALVES})
    targets = np.array([3 + row % 6 for row in range(32)])  # of rows of 4 to 9 tokens, the first without a label
    owed = np.zeros(2)
    for step, share in ((0, 0.5), (1, 0.4), (3, 0.3), (5, 0.2)):
        plan = np.load(tmp_path / "out" / plan_name(step))
        given = np.array([targets[plan[plan < 12]].sum(), targets[plan[plan >= 12]].sum()])
        owed += given.sum() * np.array([share, 1 - share]) - given
        assert np.abs(owed).max() <= 8  # one row


@pytest.mark.parametrize("selector", [None, {"name": "first", "keep": 0.5, "every": 2}])
def test_a_mixer_that_foresees_shares_of_more_than_the_whole_is_named_not_its_orderer(runs, tmp_path, selector) -> None:
    components = {"mixer": "overfills", "selector": selector, "orderer": {"name": "folds", "params": {"by": "length"}}}
    with pytest.raises(ComponentError, match=r"^mixer 'overfills' of \S+ failed in planned\(\) at step \d.*1\.5"):
        runs.trained(tmp_path, {"components": components, **HALVES})


@pytest.mark.parametrize("mixer", [None, "static"])
def test_a_window_within_two_batches_is_warned_of_where_one_queue_fills_them(runs, tmp_path, caplog, mixer) -> None:
    orderer = {"name": "lays", "params": {"by": "length", "window": 4}}
    components = {"mixer": mixer, "selector": "first", "orderer": orderer}
    runs.trainer(tmp_path, {"components": components, **(HALVES if mixer else {})}, domains=runs.DOMAINS).train()
    said = "window=4 is below two global batches of 4" in caplog.text
    assert said == (mixer is None)  # with a mixer, four rows of a domain lie in more than one batch
