"""An order by the losses of the model in training: boundaries score what is left, and go on with the pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import Trainer, TrainerCallback, TrainingArguments

from dataflex.decisions import DecisionLog
from dataflex.errors import ComponentError
from dataflex.record.plans import plan_name, result_name
from dataflex.trainers import dynamic_trainer

ORDERERS = """
from dataflex import Pattern, register_orderer

@register_orderer("folds")
class Folds(Pattern):
    def __init__(self, by: str = "loss", layers: int = 1, max_candidates: int | None = None):
        self.layers = layers
    def ranks(self, n, rng):
        return [rank for first in range(self.layers) for rank in range(first, n, self.layers)]
"""
STEPS = 6  # of 4 rows: the pool of 24 rows once


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            control.should_training_stop = True


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from weight_runs import collate, model, pool

    (tmp_path / "plug.py").write_text(ORDERERS)

    def make(name: str = "out", *, params: dict[str, Any] | None = None, rate: float = 0.2, **keys: Any) -> Any:
        arguments = {key: keys.pop(key) for key in ("save_strategy", "save_steps") if key in keys}
        config = {"train_type": "dynamic_order", "component_name": "folds", "component_params": params or {}}
        config |= {"warmup_step": 1, "update_step": 2, "train_step": STEPS} | keys
        args = TrainingArguments(
            str(tmp_path / name), optim="sgd", learning_rate=rate, lr_scheduler_type="constant",
            per_device_train_batch_size=4, use_cpu=True, report_to="none", disable_tqdm=True,
            remove_unused_columns=False, **{"save_strategy": "no", **arguments},
        )  # fmt: skip
        trainer = dynamic_trainer(Trainer, config, plugins=[tmp_path / "plug.py"])
        return trainer(model=model(), args=args, train_dataset=pool(), data_collator=collate)

    return make


def served(folder: Path, bounds: tuple[int, ...] = (0, 1, 3, 5)) -> list[list[int]]:
    """Rows of each step, in any order."""
    rows: list[int] = []
    for step in bounds:
        name = plan_name(step) if (folder / plan_name(step)).is_file() else result_name(step)
        rows += np.load(folder / name).tolist()
    return [sorted(rows[start : start + 4]) for start in range(0, len(rows), 4)]


def test_what_is_left_is_in_the_order_of_its_present_losses(make: Any, tmp_path: Path) -> None:
    trainer = make()
    trainer.train()
    steps = served(tmp_path / "out")
    assert steps[0] == [0, 1, 2, 3]  # the first places, by place, until there are scores
    assert sorted(row for step in steps for row in step) == list(range(24))
    decisions = list(DecisionLog(tmp_path / "out"))
    assert [(each.step, each.metrics["ordered"]) for each in decisions] == [(1, 20), (3, 12), (5, 4)]
    assert all(each.metrics["rank_correlation"] == pytest.approx(1) for each in decisions)
    lowest = [each.scores["quantiles"][0] for each in decisions]
    assert lowest == sorted(lowest, reverse=True) or len(set(lowest)) == 3  # scored anew at each


def test_losses_that_do_not_change_give_one_order_whatever_the_boundaries(make: Any, tmp_path: Path) -> None:
    for name, update in (("often", 1), ("once", 5)):
        make(name, rate=0.0, update_step=update, params={"layers": 3}).train()
    assert served(tmp_path / "often", (0, 1, 2, 3, 4, 5)) == served(tmp_path / "once", (0, 1))


def test_update_times_says_how_often_losses_are_measured(make: Any, tmp_path: Path) -> None:
    make(update_times=1).train()
    assert [each.step for each in DecisionLog(tmp_path / "out")] == [1]
    assert sorted(row for step in served(tmp_path / "out") for row in step) == list(range(24))


@pytest.mark.parametrize("stop", [2, 4])
def test_a_resumed_run_goes_on_with_the_pass(make: Any, tmp_path: Path, stop: int) -> None:
    keys: dict[str, Any] = {"params": {"layers": 2, "max_candidates": 8}, "save_strategy": "steps", "save_steps": 1}
    make("whole", **keys).train()
    first = make(**keys)
    first.add_callback(StopAt(stop))
    first.train()
    make(**keys).train(resume_from_checkpoint=True)
    assert served(tmp_path / "out") == served(tmp_path / "whole")


def test_rows_beyond_the_candidates_keep_their_last_score(make: Any, tmp_path: Path) -> None:
    trainer = make(params={"max_candidates": 8})
    trainer.train()
    known = [each.scores["finite"] for each in DecisionLog(tmp_path / "out")]
    assert known[0] == 8 and known[1] > 8
    assert sorted(row for step in served(tmp_path / "out") for row in step) == list(range(24))


def test_a_row_without_a_target_has_no_loss_and_stands_in_the_middle(make: Any, tmp_path: Path) -> None:
    """dataflex 1.1.0 gives it loss 0, the easiest of all."""
    trainer = make(warmup_step=0, update_step=6)
    row = trainer.train_dataset[7]
    row["labels"] = [-100] * len(row["labels"])
    trainer.train()
    (decision,) = DecisionLog(tmp_path / "out")
    assert decision.metrics["unscored"] == 1 and decision.scores["finite"] == 23
    assert 7 in served(tmp_path / "out", (0,))[2]  # after floor(23 / 2) of the others


def test_rows_are_not_ordered_by_losses_that_are_no_numbers(make: Any) -> None:
    trainer = make(rate=1e38)
    with pytest.raises(ComponentError, match=r"none of the losses of \d+ rows is a number\. Lower the learning rate"):
        trainer.train()
    assert trainer.state.global_step < STEPS
