"""The loss of several components in one run: weights by domain, one cross entropy, the same however a step is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from dataflex.math.weighting import domain_normalisers, token_mean_weight

HALVES = {"init_mixture_proportions": [0.5, 0.5]}


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import composed_runs

    return composed_runs


def trained(runs: Any, folder: Path, keys: dict[str, Any], **more: Any) -> Any:
    return runs.trained(folder, keys, **more)


WORKED = [np.exp(-1.0), np.exp(-4.5)]  # .3679 and .0111: weights of two domains at mean losses of 1 and 4.5


def test_one_normaliser_would_take_the_mixers_shares_back() -> None:
    tokens, weights = np.full(4, 10.0), np.repeat(WORKED, 2)
    one = token_mean_weight(weights, tokens)
    mass = weights / one
    assert one == pytest.approx(0.1895, abs=5e-5)
    assert mass[2:].sum() / mass.sum() == pytest.approx(0.0293, abs=5e-5)  # of the half that was asked for
    windows = [np.stack([np.full(32, weight), np.full(32, 10.0)], axis=1) for weight in WORKED]
    own = weights / np.repeat(domain_normalisers(windows, least=32), 2)
    assert own.tolist() == pytest.approx([1, 1, 1, 1]) and own[2:].sum() / own.sum() == pytest.approx(0.5)


def test_a_domain_borrows_the_mean_of_all_until_it_has_shown_enough() -> None:
    windows = [np.stack([np.full(n, weight), np.full(n, 10.0)], 1) for n, weight in ((32, 0.5), (31, 0.1))]
    everywhere = (32 * 0.5 + 31 * 0.1) / 63
    assert domain_normalisers(windows, least=32).tolist() == pytest.approx([0.5, everywhere])
    assert domain_normalisers([windows[0][:0], windows[1][:0]], least=32).tolist() == [1.0, 1.0]


def test_windows_of_all_domains_together_decide_when_weights_act(runs, tmp_path) -> None:
    keys = {"components": {"mixer": "halves", "weighter": "easy"}, **HALVES, "update_times": 9}
    made = trained(runs, tmp_path, keys, warmup_steps=0)
    seam, state = made.loss_shaper._weighing.seam, made.loss_shaper.state_dict()["weighter"]
    assert {name: sum(window["lengths"]) for name, window in state["windows"].items()} == {"a": 32, "b": 32}
    for number, window in enumerate(state["windows"].values()):
        weights, tokens = np.array(window["values"]).T
        assert seam.normalisers[number] == pytest.approx(float(weights @ tokens / tokens.sum()), rel=1e-12)
    acts = [entry["step"] for entry in made.state.log_history if entry.get("dataflex/weight_ess", 1.0) < 1.0]
    assert acts[0] == 10  # the warm-up's step, 32 samples (its window is that small) in steps 2 to 9, then this one


def test_equal_weights_leave_the_mixers_own_loss_bit_for_bit(runs, tmp_path) -> None:
    keys = {**HALVES, "update_times": 4}
    mixer = trained(runs, tmp_path, {"components": {"mixer": "halves"}, **keys}, out="mixer")
    both = trained(runs, tmp_path, {"components": {"mixer": "halves", "weighter": "equal"}, **keys}, out="both")
    assert any("dataflex/weight_mean" in entry for entry in both.state.log_history)
    assert torch.equal(runs.weights(mixer), runs.weights(both))


def test_the_mixer_is_shown_losses_as_nobody_has_weighed_them(runs, tmp_path) -> None:
    """The weighter checks that it is shown each sample's row and its domain."""
    components = {"mixer": "halves", "selector": "pruned", "weighter": "counts"}
    made = trained(runs, tmp_path, {"components": components, **HALVES, "update_times": 4})
    assert any(entry.get("dataflex/weight_ess", 1.0) < 1.0 for entry in made.state.log_history)
    mixer, weighter = (made.parts.opened[name].component for name in ("mixer", "weighter"))
    assert mixer.seen == pytest.approx(weighter.losses, rel=1e-5)


FOUR = {
    **HALVES,
    "components": {
        "mixer": "halves",
        "selector": "first",
        "orderer": {"name": "folds", "params": {"by": "length"}},
        "weighter": "easy",
    },
}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_four_parts_make_one_cross_entropy_a_micro_batch(runs, tmp_path, monkeypatch, accumulation) -> None:
    """Where the mixer's objective acts; in the warm-up's one step it is shown the losses beside the model's own."""
    made, original = [], functional.cross_entropy
    monkeypatch.setattr(
        functional, "cross_entropy", lambda *args, **kwargs: made.append(1) or original(*args, **kwargs)
    )
    batch = {"per_device_train_batch_size": 4 // accumulation, "gradient_accumulation_steps": accumulation}
    trained(runs, tmp_path, FOUR, **batch)
    assert len(made) == (2 + 6) * accumulation


def test_a_step_that_is_cut_into_micro_batches_makes_the_same_update(runs, tmp_path) -> None:
    """dataflex 1.1.0 makes an update four times too large for four micro-batches (.0455 for .0114)."""
    keys = {**FOUR, "update_times": 5}  # 11 steps: weights act from step 10 on
    whole = trained(runs, tmp_path, keys, out="whole")
    parts = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    cut = trained(runs, tmp_path, keys, out="cut", **parts)
    assert any(entry.get("dataflex/weight_ess", 1.0) < 1.0 for entry in cut.state.log_history)
    torch.testing.assert_close(runs.weights(whole), runs.weights(cut), rtol=0, atol=1e-5)


def test_evaluation_is_that_of_the_stock_trainer(runs, tmp_path) -> None:
    made = trained(runs, tmp_path, {**FOUR, "update_times": 5})
    rows = runs.pool(6)
    with torch.no_grad():
        loss = made.model(**runs.collate(rows)).loss
    assert made.evaluate(rows)["eval_loss"] == pytest.approx(float(loss), rel=1e-6)
