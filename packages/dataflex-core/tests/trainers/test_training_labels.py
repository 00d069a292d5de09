"""Labels of each step's rows from the step's own backward: what they are, and that training stays what it was."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks

from dataflex.errors import ComponentError
from dataflex.gradients.coverage import Scope, cover


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import label_runs

    return label_runs


def label_of(model: Any, row: dict[str, list[int]], number: int) -> list[float]:
    """``<g, U> / |g|`` of one row alone, in fp64 and by torch's autograd."""
    exact = copy.deepcopy(model).double().eval()
    parameters = cover(exact, Scope.LINEAR).parameters
    exact.zero_grad()
    exact(**{name: torch.tensor([value]) for name, value in row.items()}).loss.backward()
    generator = torch.Generator().manual_seed(number)
    directions = [torch.randn(2, value.numel(), generator=generator).double() for value in parameters.values()]
    grad = torch.cat([value.grad.flatten() for value in parameters.values()])
    return (torch.cat(directions, dim=1) @ grad / grad.norm()).tolist()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_labels_are_those_of_each_row_alone_before_the_update(runs, tmp_path, accumulation) -> None:
    made = runs.trainer(
        "labelled", tmp_path, double=True, gradient_accumulation_steps=accumulation, per_device_train_batch_size=2
    )
    states: list[Any] = []

    class Keep(runs.TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            states.append(copy.deepcopy(made.model))

    made.add_callback(Keep())
    made.train()
    rows = made.train_dataset
    assert [one[0] for one in made.component.seen] == list(range(1, 7))
    assert made.component.asked == list(range(6))
    masked = 0
    for step, told, labels in made.component.seen:
        if step == 1:
            assert labels is None
            continue
        for row, label in zip(told, labels, strict=True):
            if row == 8:  # no target
                assert all(math.isnan(value) for value in label)
                masked += 1
                continue
            expected = label_of(states[step - 1], rows[row], 1 if step - 1 < 4 else 2)
            assert label == pytest.approx(expected, abs=1e-4)
    assert masked


def seen(made: Any) -> list[list[Any]]:
    """By step and row, the labels."""
    return [
        [step, *sorted((row, *label) for row, label in zip(rows, labels, strict=True))]
        for step, rows, labels in made.component.seen
        if labels is not None
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("labelled", {"lora": True}),
        ("labelled", {"lora": True, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}),
        ("labelled", {"lora": True, "gradient_checkpointing": True}),
        ("exactly_labelled", {}),
        ("exactly_labelled", {"gradient_checkpointing": True}),
    ],
)
def test_weights_are_bit_equal_to_those_of_a_run_without_labels(runs, tmp_path, name, options) -> None:
    ends = []
    for each in (name, "plain"):
        made = runs.trainer(each, tmp_path / each, **options)
        made.train()
        ends.append(runs.weights(made))
    assert torch.equal(*ends)


def test_summed_gradients_leave_the_weights_what_they_are_to_rounding(runs, tmp_path) -> None:
    ends = []
    for name in ("labelled", "plain"):
        made = runs.trainer(name, tmp_path / name)
        made.train()
        ends.append(runs.weights(made))
    assert not torch.equal(*ends)
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-5)


def test_a_run_that_goes_on_is_told_the_same_labels(runs, tmp_path) -> None:
    whole = runs.trainer("labelled", tmp_path / "whole", lora=True)
    whole.train()
    saves = {"save_strategy": "steps", "save_steps": 1, "lora": True}
    first = runs.trainer("labelled", tmp_path / "again", **saves)
    first.add_callback(runs.StopAt(3))
    first.train()
    again = runs.trainer("labelled", tmp_path / "again", **saves)
    again.train(resume_from_checkpoint=True)
    np.testing.assert_equal(again.component.seen, whole.component.seen)
    assert torch.equal(runs.weights(again), runs.weights(whole))


def test_directions_of_another_type_are_refused(runs, tmp_path) -> None:
    with pytest.raises(ComponentError, match=r"directions\(\) returned dict; it must return LabelDirections or None"):
        runs.trainer("wrongly_labelled", tmp_path).train()


def test_two_ranks_are_told_what_one_is(runs, tmp_path) -> None:
    run_on_two_ranks(runs.train_rank, tmp_path)
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    for mine in told:
        assert mine["lora equal"] and mine["full off"] < 1e-12
        np.testing.assert_equal(mine["lora"], told[0]["lora"])
        np.testing.assert_equal(mine["full"], told[0]["full"])
    alone = runs.trainer(
        "labelled", tmp_path / "alone", double=True, gradient_accumulation_steps=4, per_device_train_batch_size=1
    )
    alone.train()
    for mine, one in zip(told[0]["full"], alone.component.seen, strict=True):
        assert mine[:2] == one[:2]
        if one[2] is not None:
            np.testing.assert_allclose(mine[2], one[2], atol=1e-6)
