"""Runs of LlamaFactory that end early or are repeated, and what is told of their evaluation before anything loads."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from tiny_runs import NOTE_SELECT, NOTE_WEIGHT, weights_digest

from dataflex.cli.check_run import check_runs
from dataflex.errors import ComponentError, ConfigError
from dataflex.record.run import RunRecord

PATIENCE = {
    "learning_rate": 0.0,  # the first evaluation is never beaten
    "eval_dataset": "val",
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "early_stopping_steps": 2,
    "update_times": 4,  # 14 steps
}
STOPPER = """
from pathlib import Path
from dataflex import Selector, register_selector

@register_selector("stopper")
class Stopper(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        if step_id == 5 and not Path(__file__).with_name("mended").exists():
            raise RuntimeError("stopped on purpose")
        return self.context.rng(step_id).choice(len(self.dataset), num_samples, replace=False)
"""
BY_SET = {
    "eval_dataset": "val,other",
    "eval_on_each_dataset": True,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "save_strategy": "steps",
    "save_steps": 4,
}
CONTRADICTIONS = {
    "best": ({"load_best_model_at_end": True}, "load_best_model_at_end: true"),
    "schedule": ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type: reduce_lr_on_plateau"),
    "patience": ({"early_stopping_steps": 2}, "early_stopping_steps: 2"),
    "name": (
        {"load_best_model_at_end": True, "metric_for_best_model": "eval_vall_loss"},
        "Did you mean 'eval_val_loss'",
    ),
}


def steps(folder: Path) -> int:
    return int(json.loads((folder / "trainer_state.json").read_text())["global_step"])


def test_the_same_command_on_a_run_that_ended_early_loads_nothing_and_more_patience_goes_on(
    workshop, train, monkeypatch, capfd
):
    run, out = workshop.run_file("early", **NOTE_SELECT | PATIENCE), workshop.out / "early"
    train(run)
    assert steps(out) == 3
    ending = RunRecord(out).info().ending
    assert (ending.steps, ending.ended_by, ending.written) == (3, "early stopping", True)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}

    from llamafactory.train.sft import workflow

    with monkeypatch.context() as patched:
        patched.setattr(workflow, "load_model", lambda *args, **kwargs: pytest.fail("a model was loaded"))
        with pytest.raises(SystemExit) as ended:
            train(run)
    assert ended.value.code == 0
    assert "ended early at step 3 by early stopping" in " ".join(capfd.readouterr().err.split())
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before

    train(run, "early_stopping_steps=4")
    assert steps(out) == 5


def test_a_converted_adapter_is_that_of_a_run_that_was_never_stopped(workshop, train):
    mine = workshop.out / "stopper.py"
    mine.write_text(STOPPER)
    keys = NOTE_SELECT | {"component_name": "stopper", "pissa_init": True, "pissa_convert": True}
    run, out = workshop.run_file("stopped", **keys), workshop.out / "stopped"
    with pytest.raises(ComponentError, match="stopped on purpose"):
        train(run, plugins=(str(mine),))
    stored = (out / "pissa_init" / "adapter_model.safetensors").read_bytes()
    (out / "pissa_init").rename(out / "elsewhere")
    mine.with_name("mended").touch()
    with pytest.raises(ConfigError, match=r"the callback PissaConvertCallback: .*pissa_init, the adapter .* missing"):
        train(run, plugins=(str(mine),))
    (out / "elsewhere").rename(out / "pissa_init")

    train(run, plugins=(str(mine),))
    train(workshop.run_file("whole", **keys), plugins=(str(mine),))
    assert (out / "pissa_init" / "adapter_model.safetensors").read_bytes() == stored
    whole, resumed = (
        load_file(folder / "pissa_converted" / "adapter_model.safetensors") for folder in (workshop.out / "whole", out)
    )
    assert whole.keys() == resumed.keys() and all((whole[name] == resumed[name]).all() for name in whole)
    assert weights_digest(out) == weights_digest(workshop.out / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGABRT ends a process there")
def test_llamaboards_abort_ends_a_decision_at_once_and_the_same_command_goes_on(workshop, train, monkeypatch):
    mine, before = workshop.out / "stopper.py", signal.getsignal(signal.SIGABRT)
    mine.write_text(STOPPER.replace("raise RuntimeError", "os.kill(os.getpid(), signal.SIGABRT); raise RuntimeError"))
    mine.write_text("import os, signal" + mine.read_text())
    keys = NOTE_SELECT | {"component_name": "stopper"}
    run, out = workshop.run_file("aborted", **keys), workshop.out / "aborted"
    with monkeypatch.context() as patched:
        patched.setenv("LLAMABOARD_ENABLED", "1")
        patched.setenv("LLAMABOARD_WORKDIR", str(workshop.out))
        try:
            with pytest.raises(ComponentError, match="at step 5: it was aborted in LlamaBoard"):
                train(run, plugins=(str(mine),))
        finally:
            signal.signal(signal.SIGABRT, before)  # LlamaFactory's handler is its process's own
    assert (out / "checkpoint-5" / "dataflex" / "COMPLETE").is_file()

    mine.with_name("mended").touch()
    train(run, plugins=(str(mine),))
    train(workshop.run_file("whole", **keys), plugins=(str(mine),))
    assert weights_digest(out) == weights_digest(workshop.out / "whole")


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_check_run_and_train_say_alike_which_metrics_there_will_be(workshop, train, what):
    changes, part = CONTRADICTIONS[what]
    for name, keys in {"select": NOTE_SELECT, "weight": NOTE_WEIGHT, "static": {"train_type": "static"}}.items():
        run = workshop.run_file(name, **keys, **BY_SET, **changes)
        with pytest.raises(ConfigError) as trained:
            train(run)
        with pytest.raises(ConfigError) as checked:
            check_runs([run], [])
        assert str(checked.value) == f"{name}.yaml: {trained.value}"
        assert part in str(trained.value) and "eval_val_loss, eval_other_loss" in str(trained.value)
        assert not (workshop.out / name).exists()
