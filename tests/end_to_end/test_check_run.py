"""``dataflex check-run``: everything that shows before a model or data is loaded, for several files at once."""

from __future__ import annotations

import pytest
from tiny_runs import NOTE_MIX

from dataflex.cli.check_run import check_runs
from dataflex.errors import ConfigError


def test_files_that_can_start_pass_and_write_nothing(workshop):
    files = [workshop.run_file("mix", **NOTE_MIX), workshop.run_file("plain")]
    check_runs(files, [])
    assert not list(workshop.out.glob("*/"))


def test_all_that_is_wrong_is_said_at_once_with_the_file_it_is_in(workshop):
    files = [
        workshop.run_file("steps", **NOTE_MIX, max_steps=3),
        workshop.run_file("shares", **NOTE_MIX | {"init_mixture_proportions": [0.5, 0.4, 0.1]}),
        workshop.run_file("data", **NOTE_MIX | {"dataset": "tiny,nowhere"}),
        workshop.run_file("key", lerning_rate=1.0),
    ]
    with pytest.raises(ConfigError) as caught:
        check_runs(files, [])
    first, second, third, fourth = str(caught.value).splitlines()
    assert first.startswith("steps.yaml: max_steps=3 differs from the 10 steps")
    assert second.startswith("shares.yaml: init_mixture_proportions (from shares.yaml) has 3 values for 2 domains")
    assert third.startswith("data.yaml: LlamaFactory cannot find dataset: tiny, nowhere") and "nowhere" in third
    assert fourth.startswith("key.yaml: unknown key lerning_rate")
