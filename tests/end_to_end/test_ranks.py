"""Two ranks: killed anywhere they end in the same model, and another number of ranks sees the same samples."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import witness
from chaos import WATCHFUL_MIXER
from held_runs import kill_at, run_to_the_end, samples_of_steps
from records import decisions_without_times, logged_without_times
from tiny_runs import NOTE_MIX, NOTE_SELECT, Workshop, weights_digest

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
RUNS = {"select": SELECT | KEYS, "mix": MIX | KEYS}


@dataclass(frozen=True)
class Whole:
    """A run that nobody killed."""

    name: str
    folder: Path

    @property
    def output_dir(self) -> Path:
        return self.folder / "whole"

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    @property
    def plugins(self) -> list[Path]:
        return sorted(self.folder.glob("*.py"))


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in RUNS])
def whole(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A finished run on two ranks, with every checkpoint it wrote."""
    workshop = Workshop(tiny_folder, tmp_path_factory.mktemp("whole"))
    if request.param == "mix":
        (workshop.out / "watchful.py").write_text(WATCHFUL_MIXER)
    whole = Whole(request.param, workshop.out)
    run = workshop.run_file("whole", **RUNS[whole.name])
    run_to_the_end(run, ranks=2, plugins=whole.plugins, samples=whole.samples)
    return whole


def test_two_ranks_killed_in_a_step_in_scoring_and_in_saving_end_in_the_same_weights(whole, workshop):
    if whole.name == "mix" and not LONG:
        pytest.skip("in the long form: nox -s chaos")
    run = workshop.run_file("killed", **RUNS[whole.name])
    kill_at(witness.TRAINING, 5, run, workshop.out, ranks=2, plugins=whole.plugins)
    kill_at(witness.SCORING, 7, run, workshop.out, ranks=2, plugins=whole.plugins)
    kill_at(witness.SAVING, 10, run, workshop.out, ranks=2, plugins=whole.plugins)
    said = run_to_the_end(run, ranks=2, plugins=whole.plugins, samples=workshop.out / "samples")
    assert "checkpoint-10/dataflex/COMPLETE is missing" in " ".join(said.split())
    killed, untouched = workshop.out / "killed", whole.output_dir
    assert weights_digest(killed) == weights_digest(untouched)
    assert decisions_without_times(killed) == decisions_without_times(untouched)
    assert logged_without_times(killed) == logged_without_times(untouched)
    seen = samples_of_steps(workshop.out / "samples")
    assert list(seen) == [8, 9, 10]  # nothing before the last whole checkpoint was done again
    assert seen.items() <= samples_of_steps(whole.samples).items()


def test_each_step_sees_the_same_samples_when_two_ranks_become_one_and_two_again(whole, workshop):
    expected = samples_of_steps(whole.samples)
    assert list(expected) == list(range(11)) and all(len(rows) == 4 for rows in expected.values())

    one = workshop.run_file("one", **RUNS[whole.name] | {"per_device_train_batch_size": 2})
    shutil.copytree(whole.output_dir / "checkpoint-4", workshop.out / "one" / "checkpoint-4")
    run_to_the_end(one, plugins=whole.plugins, samples=workshop.out / "one-samples")
    assert samples_of_steps(workshop.out / "one-samples") == {step: expected[step] for step in range(4, 11)}

    two = workshop.run_file("two", **RUNS[whole.name])
    shutil.copytree(workshop.out / "one" / "checkpoint-6", workshop.out / "two" / "checkpoint-6")
    run_to_the_end(two, ranks=2, plugins=whole.plugins, samples=workshop.out / "two-samples")
    assert samples_of_steps(workshop.out / "two-samples") == {step: expected[step] for step in range(6, 11)}
