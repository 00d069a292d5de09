"""What a Trainer, its loader, callbacks and checkpoint raise keeps its type; nobody is named in vain."""

from __future__ import annotations

import multiprocessing
import os
import signal

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from dataflex.errors import OneRankError
from dataflex.failures.foreign import is_foreign
from dataflex.failures.telling import tell
from dataflex.trainers import dynamic_trainer

STEPS = {"warmup_step": 2, "update_step": 3, "update_times": 1}
KEYS = {"train_type": "dynamic_select", "component_name": "random", **STEPS}


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, input_ids, labels):
        return {"loss": (self.layer(input_ids) - labels).pow(2).mean()}


class Pool(torch.utils.data.Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, row):
        return {"input_ids": torch.tensor([float(row), 1.0]), "labels": torch.tensor([1.0])}


@pytest.fixture
def make(tmp_path):
    def make(*callbacks, base=Trainer, collator=None, evals=None, **arguments):
        args = TrainingArguments(
            str(tmp_path / "out"), per_device_train_batch_size=2, use_cpu=True, report_to="none",
            **{"save_strategy": "no", "disable_tqdm": True, **arguments},
        )  # fmt: skip
        cls = dynamic_trainer(base, KEYS)
        return cls(
            model=Line(), args=args, train_dataset=Pool(), data_collator=collator, callbacks=list(callbacks),
            eval_dataset=evals,
        )  # fmt: skip

    return make


class Collator:
    """Fails for a batch that holds a row, or for every batch of more than one."""

    def __init__(self, row=None):
        self.row = row

    def __call__(self, features):
        rows = [int(feature["input_ids"][0]) for feature in features]
        if self.row in rows or (self.row is None and len(rows) > 1):
            raise TypeError("cannot be padded")
        return {name: torch.stack([feature[name] for feature in features]) for name in features[0]}


def test_a_row_that_the_collator_fails_at_is_named(make):
    trainer = make(collator=Collator(7))
    with pytest.raises(OneRankError, match=r"^row 7 of the pool could not be collated at step \d+: TypeError: cannot"):
        trainer.train()


def test_no_row_is_named_where_each_goes_well_alone(make):
    with pytest.raises(OneRankError) as error:
        make(collator=Collator()).train()
    assert str(error.value).startswith("a batch could not be made, though each of its rows can be at step 0: TypeError")
    assert "row 0" not in str(error.value) and "[" not in str(error.value)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_cannot_be_started_are_told_and_no_row(make, method):
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    collator = Collator(-1)
    collator.made_here = lambda: None  # cannot be pickled, as LlamaFactory's model inside its collator
    try:
        with pytest.raises(OneRankError) as error:
            make(collator=collator, dataloader_num_workers=2).train()
    finally:
        multiprocessing.set_start_method(before, force=True)
    message = str(error.value)
    assert message.startswith("the loader's worker processes could not be started at step 0: ")
    assert "dataloader_num_workers: 0" in message and "set_start_method('fork')" in message
    assert "could not be read" not in message and "[" not in message


def test_a_worker_that_was_killed_is_told_and_no_row(make):
    class Deadly(Collator):
        def __call__(self, features):
            if torch.utils.data.get_worker_info() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(features)

    with pytest.raises(OneRankError) as error:
        make(collator=Deadly(-1), dataloader_num_workers=1).train()
    message = str(error.value)
    assert message.startswith("a worker process of the loader was lost at step 0: RuntimeError: DataLoader worker")
    assert "Lower dataloader_num_workers" in message


class Fails(TrainerCallback):
    def __init__(self, event):
        setattr(self, event, self.fail)

    def fail(self, args, state, control, **kwargs):
        if state.global_step in (0, 4):
            raise LookupError("no such service")


@pytest.mark.parametrize("event", ["on_train_begin", "on_step_end", "on_log", "on_evaluate", "on_save"])
def test_an_error_of_a_callback_keeps_its_type_and_names_the_callback(make, event):
    every = {"logging_steps": 4, "eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 4}
    trainer = make(Fails(event), evals=Pool(), **every)
    with pytest.raises(LookupError, match="no such service") as error:
        trainer.train()
    step = 0 if event == "on_train_begin" else 4
    assert tell(error.value).sentence.startswith(f"the callback Fails failed in {event} at step {step}: LookupError: ")


def test_a_row_of_an_eval_set_that_the_collator_fails_at_is_named(make):
    class Evals(Pool):
        def __getitem__(self, row):
            return {**super().__getitem__(row), "input_ids": torch.tensor([float(row + 100), 1.0])}

    trainer = make(collator=Collator(103), evals={"val": Evals()}, eval_strategy="steps", eval_steps=4)
    with pytest.raises(TypeError) as error:
        trainer.train()
    sentence = tell(error.value).sentence
    assert sentence == (
        "the evaluation on val failed at step 4: row 3 could not be collated: TypeError: cannot be padded."
    )


def test_an_optimizer_that_fails_is_named(make):
    class Odd(torch.optim.SGD):
        def step(self, closure=None):
            raise ArithmeticError("no such number")

    class Own(Trainer):
        def create_optimizer(self, *args, **kwargs):
            self.optimizer = Odd(self.model.parameters(), lr=0.1)
            return self.optimizer

    with pytest.raises(ArithmeticError) as error:
        make(base=Own).train()
    assert tell(error.value).sentence.startswith("the step of the optimizer ")
    assert "at step 0: ArithmeticError: no such number" in tell(error.value).sentence


def test_an_error_inside_the_engine_is_ours(make, monkeypatch):
    trainer = make()
    monkeypatch.setattr("dataflex.trainers.engine.engine.Engine._check_position", lambda *args: {}["position"])
    with pytest.raises(KeyError) as error:
        trainer.train()
    assert not is_foreign(error.value) and tell(error.value).is_bug


def test_a_checkpoint_that_cannot_be_written_for_another_reason_than_room_gets_no_advice_about_room(make, tmp_path):
    class Shared(Trainer):
        def _save(self, *args, **kwargs):
            if self.state.global_step == 4:
                raise RuntimeError("Some tensors share memory, this will lead to duplicate memory on disk.")
            super()._save(*args, **kwargs)

    for first, whole in ((4, False), (2, True)):
        with pytest.raises(OneRankError) as error:
            make(base=Shared, save_strategy="steps", save_steps=first).train()
        message = str(error.value)
        assert f"{PREFIX_CHECKPOINT_DIR}-4 was not written: RuntimeError: Some tensors share memory" in message
        assert "room" not in message and "free" not in message
        last = f"resume from {tmp_path / 'out' / 'checkpoint-2'}, the last whole one."
        assert message.endswith(last if whole else "There is no whole one yet.")
