"""A run that is killed anywhere continues to the very same model.

The short form runs everywhere; ``nox -s chaos`` sets ``DATAFLEX_CHAOS_KILLS`` for the long one.
"""

from __future__ import annotations

import itertools
import os

import pytest
from chaos import WARM_WEIGHTS, WATCHFUL_MIXER, WATCHFUL_WEIGHTER, run_to_the_end, train_command
from records import decisions_without_times, logged_without_times
from tiny_runs import NOTE_MIX, NOTE_SELECT, NOTE_WEIGHT, weights_digest

pytestmark = pytest.mark.slow

LONG = "DATAFLEX_CHAOS_KILLS" in os.environ
KILLS = int(os.environ.get("DATAFLEX_CHAOS_KILLS", "1"))
COMPONENTS = {
    "select": (NOTE_SELECT | {"component_name": "weights"}, WARM_WEIGHTS),
    "mix": (NOTE_MIX | {"component_name": "watchful"}, WATCHFUL_MIXER),
    "weight": (NOTE_WEIGHT | {"component_name": "watchful", "train_step": 19}, WATCHFUL_WEIGHTER),
}
SHORT = [("select", "full", 0), ("select", "lora", 2), ("mix", "full", 2), ("weight", "lora", 0)]
RUNS = list(itertools.product(COMPONENTS, ("full", "lora"), (0, 2))) if LONG else SHORT


@pytest.mark.fault(
    "SIGKILL, at any moment", kept="the newest whole checkpoint; the resumed run ends in the same weights"
)
@pytest.mark.parametrize(("component", "finetuning_type", "workers"), RUNS)
def test_a_run_killed_at_random_moments_ends_in_the_same_weights(workshop, component, finetuning_type, workers, seen):
    component_keys, source = COMPONENTS[component]
    plugin = workshop.out / "component.py"
    plugin.write_text(source)
    keys = component_keys | {
        "warmup_step": 3,
        "update_step": 4,
        "update_times": 3 * KILLS,
        "finetuning_type": finetuning_type,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 2,
        "logging_steps": 3,
        "dataloader_num_workers": workers,
        "preprocessing_num_workers": None,
    }
    whole, killed = workshop.run_file("whole", **keys), workshop.run_file("killed", **keys)
    assert run_to_the_end(train_command(whole, plugin), workshop.out / "w", kills=0, seed="", span=1) == []
    seed = f"{component} {finetuning_type} {workers}"
    # Each decision takes a second: no kill comes later than in the third since the last, and there are three for each.
    moments = run_to_the_end(train_command(killed, plugin), workshop.out / "k", kills=KILLS, seed=seed, span=2.5)
    assert len(moments) == KILLS
    seen("nothing: the process is gone. The same command goes on.")
    assert weights_digest(workshop.out / "killed") == weights_digest(workshop.out / "whole")
    assert decisions_without_times(workshop.out / "killed") == decisions_without_times(workshop.out / "whole")
    assert logged_without_times(workshop.out / "killed") == logged_without_times(workshop.out / "whole")
