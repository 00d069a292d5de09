"""``lexical`` in a run: its first boundary at step 0, a resumed run, and ``dataflex score``."""

from __future__ import annotations

import json
import shutil

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
    "save_steps": 1,
}


def decisions(folder):
    found = map(json.loads, (folder / "decisions.jsonl").read_text().splitlines())
    return [(each["step"], np.load(folder / each["result_ref"]).tolist(), each["metrics"]) for each in found]


def test_a_run_chooses_at_step_0_goes_on_from_a_checkpoint_and_is_scored_alike(workshop, train):
    train(workshop.run_file("whole", **RUN))
    first, second = decisions(workshop.out / "whole")
    assert (first[0], second[0]) == (0, 2)
    assert all(len(rows) == 8 and len(set(rows)) == 4 for _, rows, _ in (first, second))
    assert first[2]["scored"] == 64 and "separation" in first[2]

    again = workshop.run_file("again", **RUN)
    train(again)
    for step in (4, 3, 2):  # leave checkpoint-1, in the middle of the stage that began at step 0
        shutil.rmtree(workshop.out / "again" / f"checkpoint-{step}")
    train(again)
    assert weights_digest(workshop.out / "again") == weights_digest(workshop.out / "whole")
    assert [each[:2] for each in decisions(workshop.out / "again")] == [first[:2], second[:2]]

    options = ScoreOptions(out=workshop.out / "scores", component=None, checkpoint=None, keep_top=None, keep=None)
    run_score(workshop.run_file("scored", **RUN), [], [], options)
    scores = parquet.read_table(workshop.out / "scores" / "scores.parquet")["score"].to_numpy()
    assert len(scores) == 64 and np.isfinite(scores).all()
    assert np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx(first[2]["score_quantiles"])
