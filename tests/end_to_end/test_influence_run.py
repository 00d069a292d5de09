"""``influence`` under LlamaFactory: labels of a LoRA run, a run that goes on, and the score of its checkpoint."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from pyarrow import parquet
from tiny_runs import NOTE_SELECT, weights_digest

from dataflex.cli.score import ScoreOptions, run_score
from dataflex.errors import DataFlexError

pytestmark = pytest.mark.slow

RUN = NOTE_SELECT | {
    "component_name": "influence",
    "component_params": {"max_validation": 4, "buckets": 64},
    "finetuning_type": "lora",
    "per_device_train_batch_size": 8,
    "warmup_step": 4,
    "update_step": 1,
    "update_times": 2,
    "eval_dataset": "val",
    "save_strategy": "steps",
    "save_steps": 1,
}


def decisions(folder):
    found = map(json.loads, (folder / "decisions.jsonl").read_text().splitlines())
    return [(each["step"], np.load(folder / each["result_ref"]).tolist(), each["metrics"]) for each in found]


def test_labels_of_a_run_choose_survive_a_kill_and_score_its_pool(workshop, train):
    train(workshop.run_file("whole", **RUN))
    first, second = decisions(workshop.out / "whole")
    batch = len(first[1])
    assert (first[2]["labels"], second[2]["labels"]) == (4 * batch, 5 * batch)
    assert "at_random" not in first[2] and first[2]["scored"] == 64

    again = workshop.run_file("again", **RUN)
    train(again)
    for step in (6, 5, 4, 3):  # leave checkpoint-2, in the middle of the warm-up
        shutil.rmtree(workshop.out / "again" / f"checkpoint-{step}")
    train(again)
    assert weights_digest(workshop.out / "again") == weights_digest(workshop.out / "whole")
    assert decisions(workshop.out / "again")[1][1] == second[1]

    def score(checkpoint):
        options = ScoreOptions(
            out=workshop.out / "scores", component=None, checkpoint=checkpoint, keep_top=None, keep=None
        )
        run_score(workshop.run_file("scored", **RUN), [], [], options)

    score(workshop.out / "whole" / "checkpoint-5")
    scores = parquet.read_table(workshop.out / "scores" / "scores.parquet")["score"].to_numpy()
    assert set(np.argsort(-scores, kind="stable")[:batch]) == set(second[1])
    shutil.rmtree(workshop.out / "scores")
    with pytest.raises((DataFlexError, SystemExit)):
        score(None)
