"""``Selection.weights``: one weight a chosen place, in the loss of the whole step, kept with the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks

from dataflex.checkpoint import state
from dataflex.errors import ComponentError, ConfigError
from dataflex.record.plans import result_name


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import place_runs

    return place_runs


def by_hand(runs: Any, folder: Path, weights: Any, *, batch: int, rate: float = 0.2) -> torch.Tensor:
    """Plain SGD over the plan on disk, a row at a time: ``sum w_i S_i / N`` of each step."""
    from weight_runs import model, pool

    trained, rows = model(torch.float64), pool()
    plans = [np.load(folder / "out" / result_name(step)) for step in (0, 2)]
    factors = [weights(step, 2 * batch) for step in (0, 2)]
    places = list(zip(np.concatenate(plans).tolist(), np.concatenate(factors).tolist(), strict=True))
    for start in range(0, len(places), batch):
        total, tokens = torch.zeros((), dtype=torch.float64), 0
        for row, weight in places[start : start + batch]:
            ids, labels = torch.tensor([rows[row]["input_ids"]]), torch.tensor(rows[row]["labels"])[1:]
            logits, keep = trained(input_ids=ids).logits[0, :-1], labels != -100
            loss = torch.nn.functional.cross_entropy(logits[keep], labels[keep], reduction="sum")
            total, tokens = total + weight * loss, tokens + int(keep.sum())
        trained.zero_grad()
        (total / tokens).backward()
        with torch.no_grad():
            for parameter in trained.parameters():
                parameter -= rate * parameter.grad
    return torch.cat([parameter.detach().flatten() for parameter in trained.parameters()])


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_step_is_the_weighted_sum_of_its_rows_over_its_target_tokens(runs, tmp_path, accumulation) -> None:
    found = runs.trained("weighs", tmp_path, gradient_accumulation_steps=accumulation)
    expected = by_hand(runs, tmp_path, runs.weights_at, batch=2 * accumulation)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    plain = by_hand(runs, tmp_path, lambda step, count: np.ones(count), batch=2 * accumulation)
    assert (found - plain).abs().max() > 1e-3


def test_ones_train_as_no_weights_do(runs, tmp_path) -> None:
    ones, none = (runs.trained(name, tmp_path / name, gradient_accumulation_steps=2) for name in ("ones", "none"))
    torch.testing.assert_close(ones, none, rtol=0, atol=1e-4)  # transformers makes the stock loss in fp32


def test_weights_are_kept_with_the_plan_and_only_where_there_are_some(runs, tmp_path) -> None:
    saves = {"save_strategy": "steps", "save_steps": 1}
    runs.trained("every_other", tmp_path, **saves)
    kept = {step: state.load(tmp_path / "out" / f"checkpoint-{step}").weights for step in range(1, 5)}
    assert [step for step, weights in kept.items() if weights is not None] == [1, 2]
    assert kept[1] is not None and kept[1].tolist() == [1, 2, 1, 2]
    names = {path.name for path in (tmp_path / "out" / "checkpoint-3" / "dataflex").iterdir()}
    assert "plan_weights.npy" not in names


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_run_that_is_stopped_within_a_weighted_stage_ends_as_one_that_is_not(runs, tmp_path, step) -> None:
    whole = runs.trained("weighs", tmp_path / "whole", gradient_accumulation_steps=2)
    again = runs.stopped_and_resumed("weighs", tmp_path / "again", step, gradient_accumulation_steps=2)
    assert torch.equal(whole, again)


def test_two_ranks_train_as_one_and_must_agree_on_the_weights(runs, tmp_path) -> None:
    run_on_two_ranks(runs.train_rank, tmp_path)
    alone = runs.trained("weighs", tmp_path / "alone", gradient_accumulation_steps=2)
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in range(2)]
    for mine in told:
        assert mine["equal"]
        torch.testing.assert_close(torch.tensor(mine["parameters"]).double(), alone, rtol=0, atol=1e-6)
        assert "the plan made at step 0 on rank 1 differs from rank 0's" in mine["differs"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("short", r"weights of shape \[3\]; there must be one for each of the 4 rows that it chose"),
        ("negative", r"returned the weight -0\.5 at position 3; weights are finite and not negative"),
        ("unknown", r"returned the weight nan at position 2"),
        ("worded", "returned weights that are no numbers"),
    ],
)
def test_weights_that_cannot_be_are_refused_by_name(runs, tmp_path, name, said) -> None:
    with pytest.raises(ComponentError, match=rf"failed in select\(\) at step 0: .*{said}"):
        runs.trained(name, tmp_path)


def test_a_trainer_with_a_loss_function_of_its_own_cannot_be_weighed(runs, tmp_path) -> None:
    def own(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        return outputs.logits.square().mean()

    with pytest.raises(ComponentError, match="the Trainer has a compute_loss_func of its own"):
        runs.trained("weighs", tmp_path / "weighs", compute_loss_func=own)
    runs.trained("none", tmp_path / "none", compute_loss_func=own)  # whoever gives none is not refused


def test_one_that_says_it_gives_weights_is_refused_before_anything_trains(runs, tmp_path) -> None:
    from dataflex.trainers.losses.place_weights import PlaceWeights
    from dataflex.trainers.losses.shaper import PlainLoss

    made = runs.trainer("weighs", tmp_path, compute_loss_func=lambda *args, **kwargs: None)
    PlaceWeights(PlainLoss(), made, declared=False)
    with pytest.raises(ConfigError, match="Use one of the two"):
        PlaceWeights(PlainLoss(), made, declared=True)


def test_with_a_weighter_the_weights_multiply_and_only_the_weighters_are_normalised(runs, tmp_path) -> None:
    single, triple = (
        runs.trained(name, tmp_path / name, weighter="long_ones", gradient_accumulation_steps=2)
        for name in ("none", "threes")
    )
    assert (single - triple).abs().max() > 1e-3
    weighed = by_hand_weighed(runs, tmp_path / "threes", factor=3.0)
    torch.testing.assert_close(triple, weighed, rtol=0, atol=1e-6)
    torch.testing.assert_close(single, by_hand_weighed(runs, tmp_path / "none", factor=1.0), rtol=0, atol=1e-6)


def by_hand_weighed(runs: Any, folder: Path, *, factor: float) -> torch.Tensor:
    """The weighter's rule (1, or 3 from four targets on), divided by its token-weighted mean over the step."""
    from weight_runs import pool

    targets = np.array([sum(label != -100 for label in row["labels"][1:]) for row in pool()], float)
    own = 1.0 + 2.0 * (targets >= 4)

    def weights(step: int, count: int) -> np.ndarray:
        rows = np.load(folder / "out" / result_name(step)).reshape(-1, 4)
        mean = (own[rows] * targets[rows]).sum(1) / targets[rows].sum(1)
        return (factor * own[rows] / mean[:, None]).ravel()

    return by_hand(runs, folder, weights, batch=4)


@pytest.mark.parametrize("weighter", ["summing", "owning"])
def test_weighters_of_other_styles_are_multiplied_too(runs, tmp_path, weighter) -> None:
    """Of one row a micro-batch, the mean is the row: three times the loss is three times the learning rate."""
    single = {"per_device_train_batch_size": 1, "weighter": weighter}
    found = runs.trained("threes", tmp_path, **single)
    expected = by_hand(runs, tmp_path, lambda step, count: np.full(count, 3.0), batch=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
