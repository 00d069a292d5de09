"""A run that is killed anywhere continues to the very same model.

The short form runs everywhere; ``nox -s chaos`` sets ``DATAFLEX_CHAOS_KILLS`` for the long one.
"""

from __future__ import annotations

import os

import pytest
from chaos import WARM_WEIGHTS, run_to_the_end, train_command
from records import decisions_without_times, logged_without_times
from tiny_runs import NOTE_SELECT, weights_digest

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("DATAFLEX_CHAOS_KILLS", "1"))
RUNS = [
    pytest.param("full", 0, id="full-0-workers"),
    pytest.param("lora", 2, id="lora-2-workers"),
]


@pytest.mark.parametrize(("finetuning_type", "workers"), RUNS)
def test_a_select_run_killed_at_random_moments_ends_in_the_same_weights(workshop, finetuning_type, workers):
    plugin = workshop.out / "weights.py"
    plugin.write_text(WARM_WEIGHTS)
    keys = NOTE_SELECT | {
        "component_name": "weights",
        "warmup_step": 3,
        "update_step": 4,
        "update_times": 4,
        "finetuning_type": finetuning_type,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 2,
        "logging_steps": 3,
        "dataloader_num_workers": workers,
        "preprocessing_num_workers": None,
    }
    whole, killed = workshop.run_file("whole", **keys), workshop.run_file("killed", **keys)
    assert run_to_the_end(train_command(whole, plugin), workshop.out / "w", kills=0, seed=0, span=1) == []
    seed = 17 + workers
    moments = run_to_the_end(train_command(killed, plugin), workshop.out / "k", kills=KILLS, seed=seed, span=2.0)
    assert len(moments) == KILLS
    assert weights_digest(workshop.out / "killed") == weights_digest(workshop.out / "whole")
    assert decisions_without_times(workshop.out / "killed") == decisions_without_times(workshop.out / "whole")
    assert logged_without_times(workshop.out / "killed") == logged_without_times(workshop.out / "whole")
