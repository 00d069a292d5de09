"""The selector rds in a run: resumed from a checkpoint, scored, and a second run that finds its index."""

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
    "component_name": "rds",
    "warmup_step": 1,
    "update_step": 2,
    "eval_dataset": "val",
    "save_strategy": "steps",
    "save_steps": 1,
}


def decisions(folder):
    found = map(json.loads, (folder / "decisions.jsonl").read_text().splitlines())
    return [(each["step"], np.load(folder / each["result_ref"]).tolist(), each["metrics"]) for each in found]


def test_a_run_resumes_with_the_embeddings_it_began_with_and_another_run_finds_them(workshop, train):
    params = {"component_params": {"embeddings_dir": str(workshop.out / "shared"), "aggregate": "round_robin"}}
    again = workshop.run_file("again", **RUN, **params)
    train(again)
    first, second = decisions(workshop.out / "again")
    assert first[2]["scored"] == 64 and "index_seconds_saved" not in first[2]
    assert not set(first[1]) & set(second[1])
    digest = weights_digest(workshop.out / "again")
    for step in (5, 4, 3):
        shutil.rmtree(workshop.out / "again" / f"checkpoint-{step}")
    train(again)
    assert weights_digest(workshop.out / "again") == digest
    assert [each[:2] for each in decisions(workshop.out / "again")] == [first[:2], second[:2]]

    other = workshop.run_file("other", **RUN, **params)
    train(other)
    found = decisions(workshop.out / "other")
    assert [each[:2] for each in found] == [first[:2], second[:2]]
    assert found[0][2]["index_seconds_saved"] == pytest.approx(first[2]["embedding_seconds"])
    assert found[0][2]["index_cpu_seconds_saved"] > 0 and "index_seconds_saved" not in found[1][2]

    options = ScoreOptions(out=workshop.out / "scores", component=None, checkpoint=None, keep_top=None, keep=None)
    run_score(workshop.run_file("scored", **RUN, **params), [], [], options)
    scores = parquet.read_table(workshop.out / "scores" / "scores.parquet")["score"].to_numpy()
    assert np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx(first[2]["score_quantiles"])
