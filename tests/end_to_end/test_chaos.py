"""A run that is killed anywhere continues to the very same model.

The short form runs everywhere; ``nox -s chaos`` sets ``DATAFLEX_CHAOS_KILLS`` for the long one.
"""

from __future__ import annotations

import itertools
import os
import shutil

import pytest
from chaos import WARM_WEIGHTS, WATCHFUL_MIXER, WATCHFUL_WEIGHTER, run_to_the_end, train_command
from records import decisions_without_times, logged_without_times
from tiny_runs import NOTE_MIX, NOTE_SELECT, NOTE_WEIGHT, weights_digest

from dataflex.checkpoint.damage import run_id_of

pytestmark = pytest.mark.slow

LONG = "DATAFLEX_CHAOS_KILLS" in os.environ
KILLS = int(os.environ.get("DATAFLEX_CHAOS_KILLS", "1"))
COMPONENTS = {
    "select": (NOTE_SELECT | {"component_name": "weights"}, WARM_WEIGHTS),
    "mix": (NOTE_MIX | {"component_name": "watchful"}, WATCHFUL_MIXER),
    "weight": (NOTE_WEIGHT | {"component_name": "watchful", "train_step": 19}, WATCHFUL_WEIGHTER),
}
MODELS = {
    "model": {},
    "moe": {"model_name_or_path": "moe"},
    "vision": {
        "model_name_or_path": "vision",
        "template": "qwen2_vl",
        "freeze_vision_tower": False,
        "dataset": "pictures,other",
    },
}
"""transformers keeps the second and the third otherwise in memory than in files."""
CONVERTED = [("select", "full", 0, "moe"), ("mix", "full", 2, "vision")]
OVER_AN_OLD_RUN = ("select", "lora", 2, "model")
"""Begun anew where another run has left its only checkpoint."""
ASIDE = "earlier-runs/1"
"""Where its start puts that. A kill before leaves the old run, rightly: nothing of the new one is there."""
SHORT = [*CONVERTED, OVER_AN_OLD_RUN, ("weight", "lora", 0, "model")]
RUNS = [*itertools.product(COMPONENTS, ("full", "lora"), (0, 2), ("model",)), *CONVERTED] if LONG else SHORT
ANEW = ("resume_from_checkpoint=true", "resume_from_checkpoint=null", "overwrite_output_dir=true")
"""Of every start; where a kill leaves no checkpoint yet, the next one begins anew as well. And of the first alone."""
BEST = {
    "load_best_model_at_end": True,
    "metric_for_best_model": "eval_loss",
    "greater_is_better": True,  # an early checkpoint is the best one of a run that learns, and not the last
    "early_stopping_steps": 1000,  # on, but without an effect
    "eval_dataset": "val",
    "eval_strategy": "steps",
    "eval_steps": 2,
}


@pytest.mark.fault(
    "SIGKILL, at any moment", kept="the newest whole checkpoint; the resumed run ends in the same weights"
)
@pytest.mark.parametrize(("component", "finetuning_type", "workers", "model"), RUNS)
def test_a_run_killed_at_random_moments_ends_in_the_same_weights(
    workshop, tiny_models, component, finetuning_type, workers, model, seen
):
    component_keys, source = COMPONENTS[component]
    over = (component, finetuning_type, workers, model) == OVER_AN_OLD_RUN
    kills = 4 * KILLS if LONG and (over or model != "model") else KILLS
    model_keys = MODELS[model]
    if model_keys:
        model_keys = BEST | model_keys | {"model_name_or_path": str(tiny_models / model)}
    plugin = workshop.out / "component.py"
    plugin.write_text(source)
    keys = component_keys | {
        "warmup_step": 3,
        "update_step": 4,
        "update_times": 3 * kills,
        "finetuning_type": finetuning_type,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 1 if over else 2,
        "logging_steps": 3,
        "dataloader_num_workers": workers,
        "preprocessing_num_workers": None,
    }
    keys |= model_keys
    whole, killed = workshop.run_file("whole", **keys), workshop.run_file("killed", **keys)
    assert run_to_the_end(train_command(whole, plugin), workshop.out / "w", kills=0, seed="", span=1) == []
    seed, command, first = f"{component} {finetuning_type} {workers} {model}", train_command(killed, plugin), []
    aside = workshop.out / "killed" / ASIDE if over else None
    if over:
        shutil.copytree(workshop.out / "whole", workshop.out / "killed")  # of the same keys: only its name tells it
        command, first = [*command, ANEW[0]], list(ANEW[1:])
    # Each decision takes a second: no kill comes later than in the third since the last, and there are three for each.
    moments = run_to_the_end(command, workshop.out / "k", kills=kills, seed=seed, span=2.5, first=first, since=aside)
    assert len(moments) == kills
    seen("nothing: the process is gone. The same command goes on.")
    last = f"checkpoint-{3 + 4 * 3 * kills}" if component != "weight" else "checkpoint-19"
    for folder in ("", last):  # the first is the best one's, where a run ends with that
        assert weights_digest(workshop.out / "killed" / folder) == weights_digest(workshop.out / "whole" / folder)
    assert decisions_without_times(workshop.out / "killed") == decisions_without_times(workshop.out / "whole")
    assert logged_without_times(workshop.out / "killed") == logged_without_times(workshop.out / "whole")
    if aside is not None:
        (own,) = (workshop.out / "killed").glob("checkpoint-*")
        (kept,) = aside.glob("checkpoint-*")
        assert run_id_of(kept) == run_id_of(workshop.out / "whole" / last) != run_id_of(own)


@pytest.mark.skipif(not LONG, reason="a part of the long form; the short one begins a run over an old one above")
@pytest.mark.parametrize("component", COMPONENTS)
def test_a_run_begun_anew_over_an_old_one_and_killed_goes_on_from_its_own_checkpoint(workshop, component):
    component_keys, source = COMPONENTS[component]
    kills = 4 * KILLS
    plugin = workshop.out / "component.py"
    plugin.write_text(source)
    keys = component_keys | {"warmup_step": 3, "update_step": 4, "update_times": 3 * kills}
    keys |= {"train_step": 24 * kills} if component == "weight" else {}  # a weighted step takes a tenth of a second
    keys |= {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "logging_steps": 3}
    old = workshop.run_file("old", **keys, output_dir=str(workshop.out / "new"))
    new, whole = workshop.run_file("new", **keys, seed=9), workshop.run_file("whole", **keys, seed=9)
    run_to_the_end(train_command(old, plugin), workshop.out / "o", kills=0, seed="", span=1)
    run_to_the_end(train_command(whole, plugin), workshop.out / "w", kills=0, seed="", span=1)
    command = [*train_command(new, plugin), ANEW[0]]
    aside = workshop.out / "new" / ASIDE
    moments = run_to_the_end(
        command, workshop.out / "k", kills=kills, seed=component, span=2.5, first=ANEW[1:], since=aside
    )
    assert len(moments) == kills
    assert weights_digest(workshop.out / "new") == weights_digest(workshop.out / "whole")
    (kept,) = aside.glob("checkpoint-*")
    assert kept.is_dir()
