"""The engine under a plain ``transformers.Trainer``: the right weights at a boundary, the right rows after it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from dataflex.errors import ConfigError
from dataflex.schedule import Schedule
from dataflex.trainers import dynamic_trainer
from dataflex.trainers.losses.shaper import PlainLoss
from dataflex.trainers.slots import Slots

POOL = 40
SCHEDULE = Schedule(warmup=2, update=3, total=8)


class Pool(torch.utils.data.Dataset):
    """Row i is the vector (i, 1): a batch says which rows it holds."""

    def __len__(self):
        return POOL

    def __getitem__(self, row):
        return {"x": torch.tensor([float(row), 1.0]), "labels": torch.tensor([float(row) / POOL])}


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[0.1, 0.2]]))

    def forward(self, x, labels):
        return {"loss": ((x / POOL) @ self.weight.T - labels).pow(2).mean()}


def digest(model):
    return hashlib.sha256(model.weight.detach().numpy().tobytes()).hexdigest()


class Recorder(TrainerCallback):
    def __init__(self):
        self.weights = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.weights.append(digest(model))


class RecordingPlanner:
    """Plans fixed, recognisable rows and remembers the weights it saw."""

    domains: Sequence[str] = ()
    epoch_samples: int | None = None
    weighs_places = False
    weights: npt.NDArray[np.float64] | None = None

    def __init__(self) -> None:
        self.seen: dict[int, str] = {}
        self.trainer: Any = None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass

    def finish(self, step: int, stage: int) -> None:
        pass

    def log_values(self) -> Mapping[str, float]:
        return {}

    def plan(self, stage: int, step: int, num_samples: int) -> npt.NDArray[np.int64]:
        self.seen[step] = digest(self.trainer.accelerator.unwrap_model(self.trainer.model))
        torch.rand(3)  # a selector that draws from the global generator disturbs nobody
        return np.arange(stage * 10, stage * 10 + num_samples) % POOL


SELECTOR = """
from dataflex import Selector, register_selector

@register_selector("never_asked")
class NeverAsked(Selector):
    pass
"""


def make(tmp_path, *, workers=0, accumulation=2, schedule=SCHEDULE, output="out", **arguments):
    rows = []
    planner = RecordingPlanner()
    (tmp_path / "never_asked.py").write_text(SELECTOR)
    keys = {"warmup_step": schedule.warmup, "update_step": schedule.update, "train_step": schedule.total}
    config = {"train_type": "dynamic_select", "component_name": "never_asked", "update_times": -1, **keys}

    base: Any = dynamic_trainer(Trainer, config, plugins=[tmp_path / "never_asked.py"])

    class Dynamic(base):
        def _fill_slots(self, schedule, context):
            planner.trainer = self
            return Slots(planner, PlainLoss())

        def training_step(self, model, inputs, *args, **kwargs):
            rows.append((self.state.global_step, inputs["x"][:, 0].int().tolist()))
            return super().training_step(model, inputs, *args, **kwargs)

    args = TrainingArguments(
        output_dir=str(tmp_path / output),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=accumulation,
        learning_rate=0.1,
        optim="sgd",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,
        **arguments,
    )
    recorder = Recorder()
    trainer = Dynamic(model=Line(), args=args, train_dataset=Pool(), callbacks=[recorder])
    return trainer, planner, recorder, rows


@pytest.mark.parametrize("workers", [0, 2])
def test_a_boundary_sees_the_last_steps_weights_and_the_next_batch_is_of_the_new_plan(tmp_path, workers):
    trainer, planner, recorder, rows = make(tmp_path, workers=workers)
    trainer.train()
    assert planner.seen[2] == recorder.weights[1] != recorder.weights[0]
    assert planner.seen[5] == recorder.weights[4] != recorder.weights[3]
    served = [row for _, batch in rows for row in batch]
    assert served == [*range(8), *range(10, 22), *range(20, 32)]  # 2, 3 and 3 steps of 2 x 2 samples
    assert [step for step, _ in rows] == sorted([*range(8)] * 2)


def test_without_warmup_the_first_plan_is_made_from_the_initial_weights(tmp_path):
    trainer, planner, _, rows = make(tmp_path, schedule=Schedule(warmup=0, update=4, total=6))
    initial = digest(trainer.model)
    trainer.train()
    assert planner.seen[0] == initial
    assert [row for _, batch in rows for row in batch] == [*range(10, 26), *range(20, 28)]


def test_planning_and_loading_leave_the_training_runs_generators_alone(tmp_path):
    states = []
    for draws in (0, 100):
        trainer, planner, _, _ = make(tmp_path)
        original = planner.plan
        planner.plan = lambda *args, draws=draws, original=original: (torch.rand(draws), original(*args))[1]
        torch.manual_seed(5)
        trainer.train()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize("stop", [1, 2, 4, 5, 7, 8])
def test_a_resumed_run_has_the_same_weights_and_rows(tmp_path, stop):
    whole, _, recorder, rows = make(tmp_path, save_steps=1)
    whole.args.save_strategy = "steps"
    whole.train()
    again, _, resumed, later = make(tmp_path)
    again.train(str(tmp_path / "out" / f"checkpoint-{stop}"))
    assert later == [(step, batch) for step, batch in rows if step >= stop]
    assert resumed.weights == recorder.weights[stop:]
    assert digest(again.model) == digest(whole.model)


def test_a_longer_schedule_extends_a_finished_run_and_replans_its_short_last_stage(tmp_path):
    short, *_ = make(tmp_path, schedule=Schedule(2, 3, 6), save_steps=6)
    short.args.save_strategy = "steps"
    short.train()
    longer, planner, _, rows = make(tmp_path, schedule=Schedule(2, 3, 10))
    longer.train(str(tmp_path / "out" / "checkpoint-6"))
    assert sorted(planner.seen) == [6, 8]
    assert [step for step, _ in rows] == sorted([*range(6, 10)] * 2)


def test_a_finished_run_goes_on_with_a_decision_where_it_ended(tmp_path):
    short, *_ = make(tmp_path, save_steps=8)
    short.args.save_strategy = "steps"
    short.train()
    longer, planner, _, rows = make(tmp_path, schedule=Schedule(2, 3, 11))
    longer.train(str(tmp_path / "out" / "checkpoint-8"))
    assert planner.seen == {8: digest(short.model)}
    assert [row for _, batch in rows for row in batch] == [*range(30, 40), 0, 1]


@pytest.mark.fault("the run file was edited between two runs", kept="everything; nothing is resumed otherwise")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 9}, "seed was 42 and is now 9"),
        ({"accumulation": 1}, "global_batch was 4 and is now 2"),
        (
            {"schedule": Schedule(2, 2, 8)},
            "its boundaries were at step 2 and every 3 steps, of 8 in all, and are now at step 2 and every 2 ",
        ),
    ],
)
def test_a_changed_run_is_not_resumed(tmp_path, change, message, seen):
    first, *_ = make(tmp_path, save_steps=5)
    first.args.save_strategy = "steps"
    first.train()
    changed, *_ = make(tmp_path, **change)
    with pytest.raises(ConfigError, match=rf"(?s)cannot resume from .*checkpoint-5: .*{message}") as error:
        changed.train(str(tmp_path / "out" / "checkpoint-5"))
    seen(str(error.value))


def test_a_damaged_plan_is_named(tmp_path):
    first, *_ = make(tmp_path, save_steps=5)
    first.args.save_strategy = "steps"
    first.train()
    path = tmp_path / "out" / "checkpoint-5" / "dataflex" / "plan.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    again, *_ = make(tmp_path)
    with pytest.raises(ConfigError, match=r"plan.npy is damaged"):
        again.train(str(tmp_path / "out" / "checkpoint-5"))


def test_a_checkpoint_of_another_program_is_not_resumed(tmp_path):
    (tmp_path / "out" / "checkpoint-5").mkdir(parents=True)
    again, *_ = make(tmp_path)
    with pytest.raises(ConfigError, match=r"engine.json is missing .was it written by DataFlex"):
        again.train(str(tmp_path / "out" / "checkpoint-5"))


def test_a_loop_that_reads_ahead_is_stopped(tmp_path):
    trainer, *_ = make(tmp_path)
    trainer.engine = trainer._make_engine()
    with trainer._training():
        batches = iter(trainer.get_train_dataloader())
        next(batches), next(batches)  # the micro-batches of step 0
        with pytest.raises(RuntimeError, match="reads ahead in a way DataFlex does not know"):
            next(batches)


def history(trainer):
    return [
        {k: v for k, v in row.items() if "runtime" not in k and "per_second" not in k}
        for row in trainer.state.log_history
    ]


@pytest.mark.parametrize("stop", [2, 3, 5, 7])
def test_a_resumed_run_logs_the_same_numbers_where_logs_and_checkpoints_do_not_meet(tmp_path, stop):
    whole, *_ = make(tmp_path, save_steps=1, logging_steps=3)
    whole.args.save_strategy = "steps"
    whole.train()
    again, *_ = make(tmp_path, logging_steps=3, save_steps=1)
    again.train(str(tmp_path / "out" / f"checkpoint-{stop}"))
    assert history(again) == history(whole)


def test_rotation_leaves_the_newest_complete_checkpoint(tmp_path):
    trainer, *_ = make(tmp_path, save_steps=1, save_total_limit=1)
    trainer.args.save_strategy = "steps"
    trainer.train()
    assert [path.name for path in (tmp_path / "out").glob("checkpoint-*")] == ["checkpoint-8"]
