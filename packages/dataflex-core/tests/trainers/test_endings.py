"""Runs that end before their last planned step: how long they are, what they leave, and what a repeated call does."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ExportableState

from dataflex.checkpoint.damage import why_damaged
from dataflex.errors import ConfigError
from dataflex.record.run import RunRecord
from dataflex.trainers import dynamic_trainer
from dataflex.trainers.stopping import Stopped

SELECT = {"train_type": "dynamic_select", "component_name": "random_rows"}
MIX = {"train_type": "dynamic_mix", "component_name": "keeps", "init_mixture_proportions": [0.5, 0.5]}
STEPS = {"warmup_step": 3, "update_step": 2, "update_times": 5}  # 13 steps
MINE = """
import json
from pathlib import Path
from dataflex import Mixer, Selector, hookimpl, register_mixer, register_selector

@register_selector("random_rows")
class Rows(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        if step_id == Rows.stop_at:
            raise RuntimeError("stopped on purpose")
        return self.context.rng(step_id).choice(len(self.dataset), num_samples, replace=False)
    stop_at = None

@register_mixer("keeps")
class Keeps(Mixer):
    def mix(self, model, step_id, **kwargs):
        return self.context.proportions
    def finished(self, step_id):
        (self.context.output_dir / "finished.json").write_text(str(step_id))

@hookimpl
def dataflex_run_finished(summary):
    told = [summary.steps, summary.ended_by]
    (Path(summary.plan.output_dir) / "told.json").write_text(json.dumps(told))
"""


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, input_ids, labels):
        return {"loss": (self.layer(input_ids) - labels).pow(2).mean()}


POOL = [{"input_ids": torch.tensor([float(row), 1.0]), "labels": torch.tensor([1.0])} for row in range(20)]


@pytest.fixture
def make(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)

    def make(*callbacks, name="out", base=Trainer, keys=SELECT, domains=None, patience=4, rate=0.0, **arguments):
        """A run that is evaluated at every step; with a learning rate of 0 the first evaluation is never beaten."""
        args = TrainingArguments(
            str(tmp_path / name), per_device_train_batch_size=2, use_cpu=True, report_to="none", learning_rate=rate,
            **{
                "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps",
                "save_steps": 1, "disable_tqdm": True, "load_best_model_at_end": True,
                "metric_for_best_model": "eval_loss", **arguments,
            },
        )  # fmt: skip
        stops = [EarlyStoppingCallback(patience)] if patience else []
        cls = dynamic_trainer(base, STEPS | keys, domains=domains, plugins=[tmp_path / "mine.py"])
        return cls(model=Line(), args=args, train_dataset=POOL, eval_dataset=POOL[:2], callbacks=[*stops, *callbacks])

    return make


class Stop(TrainerCallback):
    """Ends training from one of the events."""

    def __init__(self, event, step):
        def act(args, state, control, **kwargs):
            if state.global_step == step:
                control.should_training_stop = True

        setattr(self, event, act)


class Interrupts(Stop):
    dataflex_interrupts = True


class FewerSteps(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        state.max_steps = 4


def kill_at(step):
    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == step:
                raise KeyboardInterrupt

    return Kill()


def ending(folder):
    return RunRecord(folder).info().ending


def evaluated(trainer):
    return [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]


@pytest.mark.parametrize("restore", [False, True])
def test_patience_counts_on_after_a_resume(make, restore):
    whole = make(name="whole")
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        make(kill_at(3)).train()
    resumed = make(restore_callback_states_from_checkpoint=restore)
    resumed.train(resume_from_checkpoint=True)
    assert whole.state.global_step == resumed.state.global_step == 5  # step 1 is best, four more without a gain
    assert evaluated(whole) == evaluated(resumed) == [1, 2, 3, 4, 5]


@pytest.mark.fault("the same command after early stopping", kept="all of it: nothing is trained")
@pytest.mark.parametrize("by_path", [False, True])
def test_a_repeated_call_trains_nothing_and_says_why(make, tmp_path, caplog, by_path, seen):
    make().train()
    again = make()
    caplog.set_level(logging.INFO)
    given = str(tmp_path / "out" / "checkpoint-5") if by_path else True
    again.train(resume_from_checkpoint=given)
    assert again.state.global_step == 5 and evaluated(again) == [1, 2, 3, 4, 5]
    (told,) = [message for message in caplog.messages if "nothing is left" in message]
    assert seen(told) == f"{tmp_path / 'out'} ended early at step 5 by early stopping: nothing is left to train."
    assert (ending(tmp_path / "out").steps, ending(tmp_path / "out").ended_by) == (5, "early stopping")


def test_a_killed_end_is_still_an_end(make, tmp_path):
    class KillAtTheEnd(TrainerCallback):
        def on_train_end(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

        on_train_begin = TrainerCallback.on_train_begin

    with pytest.raises(KeyboardInterrupt):
        make(KillAtTheEnd()).train()  # the checkpoint of step 5 is whole, run.json says nothing
    assert ending(tmp_path / "out") is None
    resumed = make()
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 5
    assert ending(tmp_path / "out").ended_by == "early stopping"


def test_more_patience_goes_on_to_where_a_whole_run_with_it_ends(make):
    make().train()
    resumed = make(patience=7)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 8  # as with 7 from the start
    assert evaluated(resumed) == [*range(1, 9)]


def test_without_early_stopping_or_with_more_steps_the_run_goes_on(make):
    make().train()
    resumed = make(patience=None)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 13

    make(name="longer").train()
    longer = make(name="longer", keys=SELECT | {"update_times": 6})
    longer.train(resume_from_checkpoint=True)
    assert longer.state.global_step == 6  # its patience is spent: it ends at the next evaluation without a gain


@pytest.mark.parametrize(
    ("event", "step"), [("on_step_end", 4), ("on_evaluate", 4), ("on_log", 4), ("on_save", 3), ("on_epoch_end", 10)]
)
def test_any_callback_may_end_a_run_and_is_named(make, tmp_path, caplog, event, step):
    def stopping():
        return make(Stop(event, step), patience=None, save_steps=3, load_best_model_at_end=False)

    stopping().train()
    assert not why_damaged(tmp_path / "out" / f"checkpoint-{step}")  # as at the last planned step
    assert ending(tmp_path / "out").ended_by == "the callback Stop"
    caplog.set_level(logging.INFO)
    again = stopping()
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == step
    assert f"ended early at step {step} by the callback Stop" in caplog.text


def test_without_the_callback_that_ended_it_a_run_goes_on_exactly(make):
    keys = {"patience": None, "rate": 1e-3, "save_steps": 3, "load_best_model_at_end": False}
    make(Stop("on_step_end", 4), **keys).train()
    whole, resumed = make(name="whole", **keys), make(**keys)
    whole.train()
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 13
    assert torch.equal(resumed.model.layer.weight, whole.model.layer.weight)


def test_a_callback_that_lowers_max_steps_ends_the_run(make, tmp_path):
    make(FewerSteps(), patience=None).train()
    assert (ending(tmp_path / "out").steps, ending(tmp_path / "out").ended_by) == (
        4,
        "a callback that set max_steps to 4",
    )


def test_an_interruption_is_no_end(make, tmp_path):
    make(Interrupts("on_step_end", 4), patience=None, save_steps=3).train()
    assert ending(tmp_path / "out") is None
    resumed = make(Interrupts("on_step_end", 4), patience=None, save_steps=3)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 13


def test_sigterm_in_the_step_in_which_patience_ends_changes_nothing(make, tmp_path):
    class Terminate(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)

    make(Terminate()).train()
    assert ending(tmp_path / "out").ended_by == "early stopping"
    with pytest.raises(Stopped):
        make(Terminate(), name="patient", patience=9).train()
    assert ending(tmp_path / "patient") is None


def test_sigterm_loses_no_evaluation_where_only_better_ones_are_kept(make):
    class Terminate(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        make(Terminate(), save_strategy="best").train()
    resumed = make(save_strategy="best")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 5


def test_an_early_end_tells_mixer_and_plugins_and_records_what_was_trained(make, tmp_path):
    out = tmp_path / "out"
    make(keys=MIX, domains={"a": 10, "b": 10}).train()
    assert (out / "finished.json").read_text() == "5"
    assert json.loads((out / "told.json").read_text()) == [5, "early stopping"]


def test_the_closing_record_of_a_static_mix_counts_the_steps_that_were_made(make, tmp_path):
    keys = {"train_type": "static_mix", "init_mixture_proportions": [0.5, 0.5]}
    for _ in range(2):  # the repeated call leaves the same record
        make(keys=keys, domains={"a": 10, "b": 10}).train(resume_from_checkpoint=True)
        records = [json.loads(line) for line in (tmp_path / "out" / "decisions.jsonl").read_text().splitlines()]
        (record,) = records
        assert record["step"] == 5 and sum(record["metrics"]["samples"]) == 10  # 5 steps of 2


class Counts(TrainerCallback, ExportableState):
    def __init__(self, name=""):
        self.name, self.seen = name, 0

    def on_train_begin(self, args, state, control, **kwargs):
        self.seen = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.seen += 1

    def state(self):
        return {"args": {"name": self.name}, "attributes": {"seen": self.seen}}


def test_callbacks_that_export_their_state_get_it_back_each_its_own(make):
    first, second = Counts("a"), Counts("b")
    with pytest.raises(KeyboardInterrupt):
        make(first, second, kill_at(3), patience=None).train()
    again, other = Counts("c"), Counts("b")
    other.on_step_end = lambda *args, **kwargs: None
    resumed = make(again, other, patience=None)
    resumed.train(resume_from_checkpoint=True)
    assert (again.seen, again.name, other.seen) == (13, "c", 3)


def test_a_callback_with_a_state_may_be_added_on_resume(make):
    with pytest.raises(KeyboardInterrupt):
        make(kill_at(3), patience=None).train()
    resumed = make(patience=4)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 7  # four evaluations from step 4 on


class KeepsTheStart(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.start = model.layer.weight.detach().clone()
        Path(args.output_dir, "start.txt").write_text("stored")

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self.moved = model.layer.weight - self.start


@pytest.mark.fault("a resume with a callback that would lose what it stored", kept="everything; nothing is trained")
def test_a_callback_that_would_lose_what_it_stored_is_refused_before_it_stores_again(make, tmp_path, seen):
    with pytest.raises(KeyboardInterrupt):
        make(KeepsTheStart(), kill_at(3), patience=None).train()
    (tmp_path / "out" / "start.txt").unlink()
    with pytest.raises(ConfigError, match=r"from .*checkpoint-3 with the callback KeepsTheStart") as refused:
        make(KeepsTheStart(), patience=None).train(resume_from_checkpoint=True)
    seen(str(refused.value))
    assert not (tmp_path / "out" / "start.txt").exists()


def test_a_callback_that_ends_an_epoch_is_refused_by_name(make):
    class EndsEpoch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_epoch_stop = state.global_step == 2

    with pytest.raises(ConfigError, match="the callback EndsEpoch ended an epoch early at step 2"):
        make(EndsEpoch(), patience=None).train()


class AddsToItsLog(Trainer):
    """As TRL's trainers and LlamaFactory's for preferences do: the metric is in the log alone."""

    def log(self, logs, *args, **kwargs):
        if "eval_loss" in logs:
            logs["eval_accuracies"] = 0.5
        super().log(logs, *args, **kwargs)


def test_a_metric_that_a_trainer_adds_while_it_logs_may_be_the_one_that_counts(make):
    trainer = make(base=AddsToItsLog, metric_for_best_model="accuracies", patience=1)
    trainer.train()
    assert trainer.state.global_step == 2 and trainer.state.best_metric == 0.5
