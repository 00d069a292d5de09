"""train_type: static is LlamaFactory itself."""

from __future__ import annotations

import pytest
from tiny_runs import call, script, weights_digest

pytestmark = pytest.mark.slow


def test_a_static_run_gives_the_adapter_that_llamafactory_gives(workshop):
    ours = workshop.run_file("ours", train_type="static", warmup_step=2, max_steps=6)
    theirs = workshop.run_file("theirs", max_steps=6)
    ran = call(script("dataflex-cli"), "train", str(ours))
    assert ran.returncode == 0
    assert "these keys of ours.yaml are ignored: warmup_step" in " ".join(ran.stderr.split())
    assert call(script("llamafactory-cli"), "train", str(theirs)).returncode == 0
    assert weights_digest(workshop.out / "ours") == weights_digest(workshop.out / "theirs")
