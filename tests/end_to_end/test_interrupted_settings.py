"""Optimizers, stages and savers of LlamaFactory's, interrupted in the middle: the resumed run is the whole one."""

from __future__ import annotations

import shutil

import pytest
from stage_data import stage_data
from tiny_runs import NOTE_SELECT, NOTE_WEIGHT, weights_digest

from dataflex.errors import ComponentError

pytestmark = pytest.mark.slow

STOPPER = """
from pathlib import Path
from dataflex import Selector, register_selector

@register_selector("stopper")
class Stopper(Selector):
    "Random rows; fails at step 5 of the run called stopped until that is repaired."

    def select(self, model, step_id, num_samples, **kwargs):
        here = self.context.output_dir
        if step_id == 5 and here.name == "stopped" and not (here / "repaired").exists():
            raise RuntimeError("stopped on purpose")
        return self.context.rng(step_id).choice(len(self.dataset), num_samples, replace=False)
"""
FULL = {"finetuning_type": "full", "lora_target": None}
SETTINGS = {
    "muon": FULL | {"use_muon": True},
    "adafactor": FULL | {"optim": "adafactor"},
    "orpo": {"stage": "dpo", "pref_loss": "orpo", "dataset": "pairs"},
    "best": {
        "save_strategy": "best", "save_total_limit": 1, "metric_for_best_model": "eval_loss", "eval_dataset": "val",
        "eval_strategy": "steps", "eval_steps": 1, "include_num_input_tokens_seen": True,
    },
    "compiled": FULL | {"torch_compile": True, "torch_compile_backend": "eager"},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_that_was_interrupted_ends_in_the_weights_of_the_whole_one(workshop, train, name):
    plugin = workshop.out / "stopper.py"
    plugin.write_text(STOPPER)
    keys = NOTE_SELECT | {"component_name": "stopper", "save_strategy": "steps", "save_steps": 4} | SETTINGS[name]
    if name == "orpo":
        keys |= {"dataset_dir": str(stage_data(workshop.out / "data", "dpo"))}
    whole, stopped = workshop.run_file("whole", **keys), workshop.run_file("stopped", **keys)
    train(whole, plugins=(str(plugin),))
    with pytest.raises(ComponentError, match="stopped on purpose"):
        train(stopped, plugins=(str(plugin),))
    (workshop.out / "stopped" / "repaired").touch()
    train(stopped, plugins=(str(plugin),))
    assert weights_digest(workshop.out / "stopped") == weights_digest(workshop.out / "whole")


def test_frozen_layers_under_less_go_on_as_they_would_have(workshop, train):
    keys = NOTE_SELECT | FULL | {"finetuning_type": "freeze", "freeze_trainable_layers": 1, "component_name": "less"}
    keys |= {"eval_dataset": "val", "save_strategy": "steps", "save_steps": 4}
    train(workshop.run_file("whole", **keys))
    shutil.copytree(workshop.out / "whole" / "checkpoint-4", workshop.out / "half" / "checkpoint-4")
    train(workshop.run_file("half", **keys))
    assert weights_digest(workshop.out / "half") == weights_digest(workshop.out / "whole")


COMPILED = {"torch_compile": True, "torch_compile_backend": "eager"}
COMPONENTS = {
    "loss": NOTE_SELECT | {"component_name": "loss"},
    "less": NOTE_SELECT | {"component_name": "less", "eval_dataset": "val"},
    "weights": NOTE_WEIGHT | {"component_params": {"window": 4}, "train_step": 5},
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_compiled_model_decides_and_trains_as_the_plain_one(workshop, train, name):
    for run, more in {"plain": {}, "compiled": COMPILED}.items():
        # Over several micro-batches, torch.compile gives a stock run other last digits as well.
        train(workshop.run_file(run, **COMPONENTS[name] | FULL | {"gradient_accumulation_steps": 1} | more))
    plain, compiled = (workshop.out / run for run in ("plain", "compiled"))
    assert weights_digest(compiled) == weights_digest(plain)
    for plan in (plain / "decisions").glob("*.npy"):
        assert (compiled / "decisions" / plan.name).read_bytes() == plan.read_bytes()
