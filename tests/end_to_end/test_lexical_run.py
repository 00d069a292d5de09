"""``lexical`` in a run: its first boundary at step 0, a resumed run, and ``dataflex score``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pyarrow import parquet
from tiny_runs import NOTE_SELECT, weights_digest

from dataflex.cli.score import ScoreOptions, run_score

pytestmark = pytest.mark.slow

RUN = NOTE_SELECT | {
    "component_name": "lexical",
    "component_params": {"passes": 2, "share": 0.5},
    "warmup_step": 0,
    "update_step": 2,
    "eval_dataset": "val",
    "save_strategy": "steps",
    "save_steps": 2,
}


def decisions(folder):
    lines = (folder / "decisions.jsonl").read_text().splitlines()
    return [(each["step"], each["rows"], each["metrics"]) for each in map(json.loads, lines)]


def test_a_run_chooses_at_step_0_goes_on_from_a_checkpoint_and_is_scored_alike(workshop, train):
    train(workshop.run_file(**RUN))
    whole = workshop.out / "run"
    first, second = decisions(whole)
    assert (first[0], second[0]) == (0, 2)
    assert first[2]["scored"] == 64 and "separation" in first[2]

    train(workshop.run_file("part", **RUN))
    part = workshop.out / "part"
    train(
        workshop.run_file("part", **RUN, resume_from_checkpoint=str(part / "checkpoint-2"), overwrite_output_dir=False)
    )
    assert [each[:2] for each in decisions(part)] == [each[:2] for each in (first, second)]
    assert weights_digest(part) == weights_digest(whole)

    out = workshop.out / "scores"
    options = ScoreOptions(out=out, component=None, checkpoint=None, keep_top=None, keep=None)
    run_score(workshop.run_file("scored", **RUN), [], [], options)
    scores = parquet.read_table(out / "scores.parquet")["score"].to_numpy()
    assert len(scores) == 64 and np.isfinite(scores).all()
    assert first[2]["score_quantiles"][-1] == pytest.approx(scores.max())
