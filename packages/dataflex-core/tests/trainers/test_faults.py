"""What a run leaves when it is told to stop, when its disk is full, when its component hangs or its data is broken."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import threading
import time

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from dataflex.checkpoint import folders as checkpoints
from dataflex.checkpoint import state
from dataflex.checkpoint.damage import why_damaged
from dataflex.errors import ComponentError, ConfigError, OneRankError
from dataflex.scoring.shards import ShardStore
from dataflex.trainers import dynamic_trainer, stopping
from dataflex.trainers.stopping import StopAtSignal, Stopped

KEYS = {"train_type": "dynamic_select", "component_name": "slow", "warmup_step": 2, "update_step": 3, "update_times": 3}
MINE = """
import time
from dataflex import Selector, register_selector

@register_selector("slow")
class Slow(Selector):
    seconds = 0.0

    def select(self, model, step_id, num_samples, **kwargs):
        end = time.monotonic() + Slow.seconds * (step_id >= 5)
        while time.monotonic() < end:
            time.sleep(0.01)
        return self.context.rng(step_id).permutation(len(self.dataset))[:num_samples]
"""


class Line(torch.nn.Module):
    def __init__(self, width=2):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(width, 1)
        self.ballast = torch.nn.Parameter(torch.zeros(4000))

    def forward(self, input_ids, labels):
        return {"loss": (self.layer(input_ids) + self.ballast.sum() - labels).pow(2).mean()}


class Pool(torch.utils.data.Dataset):
    """Twenty rows; one may be unreadable."""

    broken = -1

    def __len__(self):
        return 20

    def __getitem__(self, row):
        if row == self.broken:
            raise OSError(errno.EIO, "Input/output error", "shard-00003.arrow")
        return {"input_ids": torch.tensor([float(row), 1.0]), "labels": torch.tensor([1.0])}


class At(TrainerCallback):
    """Does something at the end of a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


@pytest.fixture
def make(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)

    def make(*callbacks, name="out", pool=None, evals=None, keys=(), **arguments):
        args = TrainingArguments(
            str(tmp_path / name), per_device_train_batch_size=2, use_cpu=True, report_to="none", learning_rate=1e-3,
            **{"save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, **arguments},
        )  # fmt: skip
        cls = dynamic_trainer(Trainer, KEYS | dict(keys), plugins=[tmp_path / "mine.py"])
        return cls(model=Line(), args=args, train_dataset=pool or Pool(), eval_dataset=evals, callbacks=list(callbacks))

    return make


def decisions(folder):
    return [json.loads(line) for line in (folder / "decisions.jsonl").read_text().splitlines()]


def weights(trainer):
    return trainer.model.layer.weight.detach().clone()


@pytest.mark.fault("SIGTERM", kept="a checkpoint of the step it came in; the exit code is 0")
def test_sigterm_ends_the_run_after_a_whole_step_and_the_resumed_run_is_the_whole_one(make, caplog, seen):
    whole = make(name="whole")
    whole.train()

    trainer = make(At(4, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stop:
        trainer.train()

    assert stop.value.code == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert stop.value.checkpoint.name == "checkpoint-4"
    assert not why_damaged(stop.value.checkpoint)
    seen(caplog.records[-1].getMessage())
    assert "resume_from_checkpoint=" in caplog.text and "stopped by SIGTERM after step 4 of 11" in caplog.text

    resumed = make()
    resumed.train(resume_from_checkpoint=str(stop.value.checkpoint))
    assert torch.equal(weights(resumed), weights(whole))


def test_sigterm_keeps_its_checkpoint_beside_the_best_one_where_only_one_may_be_kept(make, tmp_path):
    trainer = make(
        At(7, lambda: os.kill(os.getpid(), signal.SIGTERM)),
        evals=[Pool()[0]], eval_strategy="steps", save_strategy="steps", eval_steps=3, save_steps=3,
        load_best_model_at_end=True, metric_for_best_model="loss", greater_is_better=True, save_total_limit=1,
    )  # fmt: skip
    with pytest.raises(Stopped) as stop:
        trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "out" / "checkpoint-3")  # as the loss falls
    assert stop.value.checkpoint.name == "checkpoint-7"
    assert not why_damaged(stop.value.checkpoint)
    assert trainer.args.save_total_limit == 1


def test_sigterm_leaves_a_checkpoint_where_only_better_ones_are_kept(make):
    trainer = make(
        At(6, lambda: os.kill(os.getpid(), signal.SIGTERM)),
        evals=[Pool()[0]], eval_strategy="steps", eval_steps=3, save_strategy="best",
        metric_for_best_model="loss", greater_is_better=True,
    )  # fmt: skip
    with pytest.raises(Stopped) as stop:
        trainer.train()
    assert stop.value.checkpoint.name == "checkpoint-6"
    assert not why_damaged(stop.value.checkpoint)


def test_another_sigterm_ends_the_process_at_once_unless_it_comes_with_the_first(make, monkeypatch):
    ended = []
    monkeypatch.setattr(stopping.os, "kill", lambda pid, number: ended.append(number))
    stop = StopAtSignal(make().accelerator)
    with stop.listening():
        handler = signal.getsignal(signal.SIGTERM)
        handler(signal.SIGTERM, None)
        handler(signal.SIGTERM, None)
        assert ended == []
        monkeypatch.setattr(stopping, "SAME_SECONDS", 0.0)
        handler(signal.SIGTERM, None)
    assert ended == [signal.SIGTERM]


def test_no_signal_is_taken_in_another_thread(make):
    stop, seen = StopAtSignal(make().accelerator), []

    def listen():
        with stop.listening():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


def test_two_trainers_never_write_to_one_output_directory_at_once(make):
    refused = []

    def second():
        with pytest.raises(ConfigError, match=r"another run writes to output_dir: .*out \(process"):
            make().train()
        refused.append(True)

    first = make(At(4, second))
    first.train()
    assert refused and first.state.global_step == 11
    make().train()


@pytest.mark.fault("the disk is full while a checkpoint is written", kept="the checkpoints before it")
def test_a_checkpoint_that_cannot_be_written_is_named_and_the_one_before_it_resumes(make, tmp_path, seen):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    small = At(5, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1])))
    trainer = make(small, save_strategy="steps", save_steps=3)
    try:
        with pytest.raises(OneRankError) as error:
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    message = seen(str(error.value))
    assert "checkpoint-6 was not written" in message
    assert "MiB are free there" in message
    assert f"resume from {tmp_path / 'out' / 'checkpoint-3'}, the last whole one" in message
    assert checkpoints.latest_valid(tmp_path / "out")[0] == tmp_path / "out" / "checkpoint-3"
    resumed = make(save_strategy="steps", save_steps=3)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 11


@pytest.mark.fault("the disk is full while a decision is written", kept="the checkpoints before it")
def test_a_decision_that_cannot_be_written_ends_the_run_and_the_checkpoint_before_it_resumes(
    make, tmp_path, monkeypatch, seen
):
    whole = make(name="whole", save_strategy="steps", save_steps=3)
    whole.train()

    def full(path, *args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    trainer = make(At(4, lambda: monkeypatch.setattr(np, "save", full)), save_strategy="steps", save_steps=3)
    with pytest.raises(OneRankError) as error:
        trainer.train()
    monkeypatch.undo()

    message = seen(str(error.value))
    assert message.startswith(f"the plan of step 5 could not be written to {tmp_path / 'out'}: OSError: [Errno 28]")
    resumed = make(save_strategy="steps", save_steps=3)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(weights(resumed), weights(whole))
    assert [record["step"] for record in decisions(tmp_path / "out")] == [2, 5, 8]


def test_scores_that_cannot_be_kept_are_told_and_leave_no_file(tmp_path, caplog):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = ShardStore(tmp_path / "scores", 1, rank=0, seconds=60)
    store.add(np.arange(4), np.ones((4, 1)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        store.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caplog.messages[-1].startswith(f"scores could not be kept in {tmp_path / 'scores'}: [Errno 27]")
    assert len(store.load()[0]) == 0
    assert not list((tmp_path / "scores").glob("*.npy"))


@pytest.mark.fault("a component hangs, with component_timeout", kept="a checkpoint of the step it was asked at")
def test_a_component_that_hangs_is_ended_with_a_checkpoint_and_its_place(make, tmp_path, seen):
    (tmp_path / "mine.py").write_text(MINE.replace("seconds = 0.0", "seconds = 60.0"))
    trainer = make(keys={"component_timeout": 0.5}, name="hangs")
    began = time.monotonic()
    with pytest.raises(ComponentError) as error:
        trainer.train()

    assert time.monotonic() - began < 30
    message = seen(str(error.value))
    assert "it took longer than component_timeout: 0.5 seconds" in message
    assert "mine.py" in message and "in select" in message
    assert f"resume from {tmp_path / 'hangs' / 'checkpoint-5'}" in message
    assert not why_damaged(tmp_path / "hangs" / "checkpoint-5")
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_component_that_tries_again_after_every_error_is_ended_too(make, tmp_path):
    stubborn = MINE.replace(
        "            time.sleep(0.01)",
        """            try:
                time.sleep(0.01)
            except Exception:
                pass""",
    ).replace("seconds = 0.0", "seconds = 60.0")
    (tmp_path / "mine.py").write_text(stubborn)
    with pytest.raises(ComponentError, match=r"it took longer than component_timeout: 0\.5 seconds"):
        make(keys={"component_timeout": 0.5}).train()


def test_a_component_that_hangs_in_its_warmup_is_ended(make, tmp_path):
    hangs = "\n    def warmup(self, num_samples, replacement):\n        time.sleep(60)\n"
    (tmp_path / "mine.py").write_text(MINE + hangs)
    message = r"failed in warmup\(\) at the warm-up: it took longer than component_timeout"
    with pytest.raises(ComponentError, match=message):
        make(keys={"component_timeout": 0.5}).train()


def test_a_component_that_is_quick_enough_is_left_alone(make):
    before = signal.getsignal(signal.SIGALRM)
    trainer = make(keys={"component_timeout": 30})
    trainer.train()
    assert trainer.state.global_step == 11
    assert signal.getsignal(signal.SIGALRM) is before


@pytest.mark.parametrize("value", [0, -1, "soon", True, float("nan"), float("inf"), 1e300])
def test_a_limit_that_is_no_number_of_seconds_is_refused(make, value):
    with pytest.raises(ConfigError, match=r"component_timeout: .* must be a number of seconds above 0"):
        make(keys={"component_timeout": value})


@pytest.mark.fault("a row of the pool cannot be read", kept="a checkpoint of the step before it, on one process")
def test_a_row_that_cannot_be_read_is_named_and_the_mended_run_is_the_whole_one(make, tmp_path, seen):
    whole = make(name="whole")
    whole.train()
    pool = Pool()
    trainer = make(pool=pool)
    trainer.add_callback(At(3, lambda: setattr(pool, "broken", int(trainer.engine.plan[2 * 3 - 1]))))
    with pytest.raises(OneRankError) as error:
        trainer.train()

    message = seen(str(error.value))
    assert message.startswith(f"row {pool.broken} of the pool could not be read at step 3: OSError: [Errno 5]")
    assert "shard-00003.arrow" in message
    kept = tmp_path / "out" / "checkpoint-3"
    assert message.endswith(f"Once it is fixed, resume from {kept}.")
    resumed = make()
    resumed.train(resume_from_checkpoint=str(kept))
    assert torch.equal(weights(resumed), weights(whole))


def test_a_row_that_cannot_be_read_before_training_begins_is_named(make):
    pool = Pool()
    pool.broken = 7
    with pytest.raises(ConfigError, match=r"row 7 of the pool could not be read: OSError: .*shard-00003\.arrow"):
        make(pool=pool).train()


def test_a_row_that_a_worker_cannot_read_is_named_too(make, tmp_path):
    class OnDisk(Pool):
        """Breaks in worker processes too."""

        def __getitem__(self, row):
            gone = tmp_path / "gone"
            self.broken = int(gone.read_text()) if gone.exists() else -1
            return super().__getitem__(row)

    pool = OnDisk()
    make(name="whole", pool=pool).train()
    row = int(np.load(tmp_path / "whole" / "decisions" / "step-00000002.npy")[3])
    trainer = make(At(2, lambda: (tmp_path / "gone").write_text(str(row))), pool=pool, dataloader_num_workers=2)
    with pytest.raises(OneRankError, match=rf"row {row} of the pool could not be read at step 2: OSError") as error:
        trainer.train()
    assert "checkpoint-2" in str(error.value)


def breaks(pool, trainer):
    """Make a row unreadable that step 4 trains on."""
    return lambda: setattr(pool, "broken", int(trainer.engine.plan[2 * 3 - 1]))


def sigterm(make, tmp_path, monkeypatch):
    with pytest.raises(Stopped):
        make(At(4, lambda: os.kill(os.getpid(), signal.SIGTERM)), save_only_model=True).train()


def hanging(make, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE.replace("seconds = 0.0", "seconds = 60.0"))
    make(keys={"component_timeout": 0.3}, save_only_model=True).train()


def raising(make, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE.replace("seconds = 0.0", "seconds = property()"))
    make(save_only_model=True).train()


def unreadable(make, tmp_path, monkeypatch):
    pool = Pool()
    trainer = make(pool=pool, save_only_model=True)
    trainer.add_callback(At(3, breaks(pool, trainer)))
    trainer.train()


def no_room_for_a_checkpoint(make, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full_disk = At(5, lambda: monkeypatch.setattr(Trainer, "save_model", full))
    make(full_disk, save_only_model=True, save_strategy="steps", save_steps=3).train()


def no_room_for_a_plan(make, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full_disk = At(4, lambda: monkeypatch.setattr(np, "save", full))
    make(full_disk, save_only_model=True, save_strategy="steps", save_steps=3).train()


@pytest.mark.parametrize("fault", [sigterm, hanging, raising, unreadable, no_room_for_a_checkpoint, no_room_for_a_plan])
def test_no_resume_is_promised_where_checkpoints_keep_no_optimizer_state(make, tmp_path, monkeypatch, caplog, fault):
    try:
        fault(make, tmp_path, monkeypatch)
        told = caplog.records[-1].getMessage()
    except ComponentError as error:
        told = str(error)
    assert "save_only_model: true (from the configuration) keeps no optimizer state" in told
    assert not re.search("resume|othing is lost|once it is|are whole", told.replace(str(tmp_path), "")), told
    assert "a run that is stopped cannot be resumed" in caplog.text  # at its start

    monkeypatch.undo()
    (tmp_path / "mine.py").write_text(MINE)
    with pytest.raises(ConfigError, match=r"cannot resume from .* holds no optimizer state.*Start anew"):
        make().train(resume_from_checkpoint=True)


def test_files_that_a_callback_writes_into_a_checkpoint_are_a_part_of_it(make, tmp_path):
    class Processor(TrainerCallback):
        """As LlamaFactory saves the processor of a vision model."""

        def on_save(self, args, state, control, **kwargs):
            folder = tmp_path / "out" / f"checkpoint-{state.global_step}"
            assert not (folder / "dataflex" / "COMPLETE").exists()
            (folder / "training_args.bin").write_bytes(b"other")
            (folder / "processor.json").write_text("{}")

    make(Processor(), save_strategy="steps", save_steps=4, save_total_limit=1).train()
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    assert checkpoint.name == "checkpoint-11" and not why_damaged(checkpoint)
    (checkpoint / "processor.json").unlink()
    assert "processor.json is missing" in why_damaged(checkpoint)


def test_what_a_component_keeps_is_taken_before_the_trainer_writes(make, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        MINE + "\n    kept = [1]\n\n    def state_dict(self):\n        return {'kept': self.kept}\n"
    )
    trainer = make(save_strategy="steps", save_steps=11)
    save = Trainer.save_model
    monkeypatch.setattr(
        Trainer, "save_model", lambda self, *args, **kw: (trainer.component.kept.append(2), save(self, *args, **kw))[1]
    )
    trainer.train()
    assert state.load(tmp_path / "out" / "checkpoint-11").component == {"kept": [1]}


def test_a_checkpoint_is_resumed_under_another_name(make, tmp_path):
    whole = make(name="whole", save_strategy="steps", save_steps=4)
    whole.train()
    moved = (tmp_path / "whole" / "checkpoint-4").rename(tmp_path / "kept for later")
    resumed = make()
    resumed.train(resume_from_checkpoint=str(moved))
    assert torch.equal(weights(resumed), weights(whole))
    assert [record["step"] for record in decisions(tmp_path / "out")] == [5, 8]


class AtEnd(TrainerCallback):
    """Fails when training has ended."""

    def on_train_end(self, args, state, control, **kwargs):
        raise RuntimeError("no such server")


def fails(*args, **kwargs):
    raise RuntimeError("no such server")


@pytest.mark.parametrize("where", ["a callback", "the component", "the record", "the last evaluation"])
def test_the_final_model_is_written_before_an_error_after_the_last_step(make, tmp_path, monkeypatch, caplog, where):
    late = {"eval_strategy": "steps", "eval_steps": 11} if where == "the last evaluation" else {}
    trainer = make(*([AtEnd()] if where == "a callback" else []), evals=Pool(), **late)
    if where == "the component":
        monkeypatch.setattr("dataflex.trainers.planners.planner.ComponentPlanner.finish", fails)
    elif where == "the record":
        monkeypatch.setattr("dataflex.trainers.recording.recorder.Recorder.end", fails)
    elif where == "the last evaluation":
        monkeypatch.setattr(trainer, "evaluate", fails)
    with pytest.raises(RuntimeError, match="no such server"):
        trainer.train()
    assert trainer.state.global_step == trainer.state.max_steps == 11
    saved = safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(saved["layer.weight"], weights(trainer))
    assert f"the final model was written to {tmp_path / 'out'}" in caplog.text


def test_an_error_before_the_last_step_leaves_no_final_model(make, tmp_path):
    trainer = make(At(9, fails))
    with pytest.raises(RuntimeError, match="no such server"):
        trainer.train()
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_checkpoint_in_a_home_folder_is_found(make, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    whole = make(name="whole", save_strategy="steps", save_steps=4)
    whole.train()
    resumed = make(name="resumed")
    resumed.train("~/whole/checkpoint-8")
    assert torch.equal(weights(resumed), weights(whole))
