"""``begin`` and ``on_rows``: what a selector sees of training, on one rank and two, across a kill."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo import run_on_two_ranks

from dataflex.errors import ComponentError
from dataflex.record.plans import plan_name, result_name


@pytest.fixture(autouse=True)
def runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import row_runs

    return row_runs


def row_loss(model: Any, row: dict[str, list[int]]) -> float:
    """Mean token loss of one row alone, by torch's own cross entropy."""
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    keep = labels[1:] != -100
    if not keep.any():
        return math.nan
    return float(torch.nn.functional.cross_entropy(logits[:-1][keep], labels[1:][keep]))


def plan_of(folder: Path) -> list[int]:
    """Rows of the whole run, from the plans on disk."""
    parts = [np.load(folder / "out" / name) for name in (plan_name(0), result_name(2), result_name(5))]
    return np.concatenate(parts).tolist()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_every_step_is_told_with_its_rows_and_their_losses_before_the_update(runs, tmp_path, accumulation) -> None:
    from weight_runs import model, pool

    rows = pool(masked=(3, 10))
    made = runs.trainer("sees_losses", tmp_path, rows=rows, gradient_accumulation_steps=accumulation)
    before = [row_loss(model(torch.float64), row) for row in rows]
    states: list[list[float]] = []

    class Keep(runs.TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            made.model.eval()
            states.append([row_loss(made.model, row) for row in rows])
            made.model.train()

    made.add_callback(Keep())
    made.train()
    plan, size = plan_of(tmp_path), 2 * accumulation
    assert [one[0] for one in made.component.seen] == list(range(1, 9))
    for step, told, losses in made.component.seen:
        assert told == plan[(step - 1) * size : step * size]
        assert losses == pytest.approx([states[step - 1][row] for row in told], abs=1e-5, nan_ok=True)
    first = made.component.seen[0]
    assert first[2] == pytest.approx([before[row] for row in first[1]], abs=1e-5, nan_ok=True)
    assert any(math.isnan(loss) for _, _, losses in made.component.seen for loss in losses)


def test_the_model_is_shown_once_as_training_begins_quiet_and_without_a_trace(runs, tmp_path) -> None:
    from weight_runs import model

    made, stock = runs.trainer("sees_nothing", tmp_path / "a"), runs.trainer("plain", tmp_path / "b")
    made.train()
    stock.train()
    first = float(next(model(torch.float64).parameters()).detach().sum())
    assert made.component.begun == [[pytest.approx(first), False, 0]]
    assert made.component.seen == []
    warm_up = [np.load(folder / "out" / plan_name(0)) for folder in (tmp_path / "a", tmp_path / "b")]
    assert warm_up[0].tolist() == warm_up[1].tolist()


def test_without_a_warm_up_the_model_is_shown_before_the_first_boundary(runs, tmp_path) -> None:
    made = runs.trainer("sees_rows", tmp_path, steps={"warmup_step": 0, "update_step": 2, "update_times": 1})
    made.train()
    assert len(made.component.begun) == 1
    assert made.component.seen == [[1, [7, 12]], [2, [17, 22]]]  # chosen by a selector that had begun


def test_whoever_is_told_changes_no_number_of_the_run(runs, tmp_path) -> None:
    steps = {"warmup_step": 8, "update_step": 1, "update_times": 1}  # they choose alike in the warm-up alone
    told, plain = (runs.trainer(name, tmp_path / name, steps=steps) for name in ("sees_losses", "plain"))
    for made in (told, plain):
        made.add_callback(runs.StopAt(8))
        made.train()
    assert torch.equal(runs.parameters(told), runs.parameters(plain))


@pytest.mark.parametrize("name", ["sees_losses", "sees_rows"])
@pytest.mark.parametrize("step", [1, 4, 5])
def test_a_run_that_goes_on_is_told_what_one_that_was_not_stopped_is(runs, tmp_path, name, step) -> None:
    whole = runs.trainer(name, tmp_path / "whole")
    whole.train()
    again = runs.stopped_and_resumed(name, tmp_path / "again", step)
    assert again.component.seen == whole.component.seen and again.component.begun == whole.component.begun
    assert torch.equal(runs.parameters(again), runs.parameters(whole))


def test_a_step_that_could_not_be_told_is_told_by_the_repaired_run(runs, tmp_path) -> None:
    whole = runs.trainer("sees_losses", tmp_path / "whole")
    whole.train()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "broken.txt").touch()
    with pytest.raises(ComponentError, match=r"failed in on_rows\(\) at step 5: ZeroDivisionError") as told:
        runs.trainer("sees_losses", tmp_path / "again").train()
    (tmp_path / "again" / "broken.txt").unlink()
    checkpoint = re.search(r"resume from (\S+checkpoint-5)", str(told.value))
    assert checkpoint is not None
    again = runs.trainer("sees_losses", tmp_path / "again")
    again.train(resume_from_checkpoint=checkpoint.group(1))
    assert again.component.seen == whole.component.seen
    assert torch.equal(runs.parameters(again), runs.parameters(whole))


def test_only_a_selector_that_wants_to_hear_is_told(runs, tmp_path) -> None:
    from dataflex.trainers.losses.row_seam import RowTelling

    told = []
    for name in ("plain", "sees_nothing", "sees_rows"):
        made = runs.trainer(name, tmp_path / name)
        made.train()
        told.append(isinstance(made.loss_shaper, RowTelling))
    assert told == [False, False, True]


def test_two_ranks_are_told_the_same_as_one(runs, tmp_path) -> None:
    run_on_two_ranks(runs.train_rank, tmp_path)
    accumulates = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    for name in ("sees_losses", "sees_rows"):
        alone = runs.trainer(name, tmp_path / f"{name}-alone", **accumulates)
        alone.train()
        told = [json.loads((tmp_path / f"{name}-{rank}.json").read_text()) for rank in range(2)]
        for rank, mine in enumerate(told):
            assert mine["equal"] and mine["resumed"] == mine["seen"] == told[0]["seen"]
            assert mine["begun"] == [[pytest.approx(alone.component.begun[0][0]), False, rank]]
            assert len(mine["begun_resumed"]) == 1
        for mine, whole in zip(told[0]["seen"], alone.component.seen, strict=True):
            assert mine[:2] == whole[:2]
            if name == "sees_losses":
                assert mine[2] == pytest.approx(whole[2], abs=1e-6)
