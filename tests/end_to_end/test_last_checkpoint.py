"""With room for one checkpoint only, a run that is killed around its writing still has one to go on from."""

from __future__ import annotations

import pytest
import witness
from held_runs import kill_at, run_to_the_end, samples_of_steps
from records import decisions_without_times, logged_without_times
from tiny_runs import NOTE_SELECT, weights_digest

pytestmark = pytest.mark.slow


def test_the_only_checkpoint_survives_a_kill_while_the_next_is_written_and_after_the_old_is_gone(workshop):
    keys = NOTE_SELECT | {
        "component_name": "loss",
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 1,
        "logging_steps": 3,
    }
    whole, run = workshop.run_file("whole", **keys), workshop.run_file("killed", **keys)
    run_to_the_end(whole)
    killed = workshop.out / "killed"

    kill_at(witness.SAVING, 4, run, workshop.out)
    assert {path.name for path in killed.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    kill_at(witness.ROTATED, 6, run, workshop.out)
    assert {path.name for path in killed.glob("checkpoint-*")} == {"checkpoint-6"}
    run_to_the_end(run, samples=workshop.out / "samples")

    assert list(samples_of_steps(workshop.out / "samples")) == [6, 7]
    assert weights_digest(killed) == weights_digest(workshop.out / "whole")
    assert decisions_without_times(killed) == decisions_without_times(workshop.out / "whole")
    assert logged_without_times(killed) == logged_without_times(workshop.out / "whole")
