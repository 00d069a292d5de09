"""Two ranks: killed anywhere they end in the same model, and another number of ranks sees the same samples."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import witness
from chaos import WATCHFUL_MIXER
from held_runs import kill_at, run_to_the_end, samples_of_steps
from records import decisions_without_times, logged_without_times
from tiny_runs import NOTE_MIX, NOTE_SELECT, NOTE_WEIGHT, Workshop, weights_digest

pytestmark = pytest.mark.slow

LONG = "DATAFLEX_CHAOS_KILLS" in os.environ

SELECT = NOTE_SELECT | {"component_name": "loss", "component_params": {"token_budget": 512}}
KEYS = {
    "warmup_step": 3,
    "update_step": 4,
    "update_times": 2,
    "per_device_train_batch_size": 1,
    "save_strategy": "steps",
    "save_steps": 2,
    "logging_steps": 3,
}
"""Boundaries at steps 3 and 7 of 11; four samples a step on two ranks."""

MIX = NOTE_MIX | {"component_name": "watchful"}
LINUPPER = {"strategy": "linupper", "window": 8}
WEIGHT = NOTE_WEIGHT | {"component_name": "loss", "component_params": LINUPPER, "train_step": 11}
RUNS = {"select": SELECT | KEYS, "mix": MIX | KEYS, "weight": KEYS | WEIGHT | {"warmup_step": 3}}


def prepare(name: str, workshop: Workshop) -> tuple[dict[str, object], list[Path]]:
    """The keys of a run, and the files it takes components from."""
    plugin = workshop.out / "watchful.py"
    plugin.write_text(WATCHFUL_MIXER)
    return RUNS[name], [plugin] if name == "mix" else []


@pytest.mark.parametrize("name", RUNS if LONG else ["select"])
def test_two_ranks_killed_in_a_step_in_scoring_and_in_saving_end_in_the_same_weights(name, workshop):
    keys, plugins = prepare(name, workshop)
    samples, killed_samples = workshop.out / "samples", workshop.out / "killed-samples"
    run_to_the_end(workshop.run_file("whole", **keys), ranks=2, plugins=plugins, samples=samples)

    run = workshop.run_file("killed", **keys)
    kill_at(witness.TRAINING, 5, run, workshop.out, ranks=2, plugins=plugins)
    if name != "weight":  # it has no scoring pass
        kill_at(witness.SCORING, 7, run, workshop.out, ranks=2, plugins=plugins)
    kill_at(witness.SAVING, 10, run, workshop.out, ranks=2, plugins=plugins)
    said = run_to_the_end(run, ranks=2, plugins=plugins, samples=killed_samples)

    told = " ".join(said.split())
    assert "checkpoint-10/dataflex/COMPLETE is missing" in told and told.count("not resuming from") == 1
    seen = samples_of_steps(killed_samples)
    assert list(seen) == [8, 9, 10]  # nothing before the last whole checkpoint was done again
    assert seen.items() <= samples_of_steps(samples).items()
    whole, killed = workshop.out / "whole", workshop.out / "killed"
    assert weights_digest(killed) == weights_digest(whole)
    assert decisions_without_times(killed) == decisions_without_times(whole)
    assert logged_without_times(killed) == logged_without_times(whole)


@pytest.mark.parametrize("name", RUNS)
def test_each_step_sees_the_same_samples_when_one_rank_becomes_two_and_one_again(name, workshop):
    keys, plugins = prepare(name, workshop)
    one_rank = keys | {"per_device_train_batch_size": 2}
    seen = {}
    for run, run_keys, ranks, before in (
        ("one", one_rank, 1, None),
        ("two", keys, 2, "one/checkpoint-4"),
        ("again", one_rank, 1, "two/checkpoint-6"),
    ):
        run_file = workshop.run_file(run, **run_keys)
        if before is not None:
            shutil.copytree(workshop.out / before, workshop.out / run / Path(before).name)
        run_to_the_end(run_file, ranks=ranks, plugins=plugins, samples=workshop.out / "samples" / run)
        seen[run] = samples_of_steps(workshop.out / "samples" / run)
    assert list(seen["one"]) == list(range(11)) and all(len(rows) == 4 for rows in seen["one"].values())
    assert seen["two"] == {step: seen["one"][step] for step in range(4, 11)}
    assert seen["again"] == {step: seen["two"][step] for step in range(6, 11)}
