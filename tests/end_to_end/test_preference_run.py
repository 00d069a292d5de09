"""Selecting preferences: margin and loss under dpo, kto and rm, resumed from a checkpoint, and scored alone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from pyarrow import parquet
from stage_data import stage_data
from tiny_runs import NOTE_SELECT, weights_digest

from dataflex.cli.score import ScoreOptions, run_score

pytestmark = pytest.mark.slow

RUN = NOTE_SELECT | {"warmup_step": 1, "update_step": 2, "dataset": "pairs", "learning_rate": 0.01}
SAVES = {"save_strategy": "steps", "save_steps": 1}


def decisions(folder):
    found = map(json.loads, (folder / "decisions.jsonl").read_text().splitlines())
    return [(each["step"], np.load(folder / each["result_ref"]).tolist(), each["metrics"]) for each in found]


def scores(workshop, run_file, checkpoint=None):
    options = ScoreOptions(out=workshop.out / "scores", component=None, checkpoint=checkpoint, keep_top=None, keep=None)
    run_score(run_file, [], [], options)
    return parquet.read_table(workshop.out / "scores" / "scores.parquet")["score"].to_numpy()


@pytest.mark.parametrize(
    ("stage", "component", "finetuning_type"),
    [("dpo", "margin", "lora"), ("dpo", "loss", "full"), ("kto", "loss", "lora")],
)
def test_a_run_on_preferences_goes_on_from_a_checkpoint(workshop, train, stage, component, finetuning_type):
    data = stage_data(workshop.out / "data", stage)
    keys = {"stage": stage, "component_name": component, "dataset_dir": str(data), "finetuning_type": finetuning_type}
    run, out = workshop.run_file(**RUN | SAVES | keys), workshop.out / "run"
    train(run)
    first, second = decisions(out)
    assert (first[0], second[0]) == (1, 3)
    assert all(metrics["scored"] == 48 and metrics["non_finite"] == 0 for _, _, metrics in (first, second))
    assert all(len(set(rows)) == 8 for _, rows, _ in (first, second))
    low, *_, high = second[2]["score_quantiles"]
    assert low < high
    if component == "margin":
        scored = scores(workshop, workshop.run_file("scored", **RUN | keys), checkpoint=out / "checkpoint-1")
        assert np.quantile(scored, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx(first[2]["score_quantiles"], abs=1e-5)
        assert scored.std() > 1e-4
    digest = weights_digest(out)
    for step in (5, 4, 3):
        shutil.rmtree(out / f"checkpoint-{step}")
    train(run)
    assert weights_digest(out) == digest
    assert [each[:2] for each in decisions(out)] == [first[:2], second[:2]]


def test_a_reward_model_is_trained_and_scored_by_margin(workshop, train):
    data = stage_data(workshop.out / "data", "rm")
    keys = RUN | {"stage": "rm", "component_name": "margin", "dataset_dir": str(data)}
    train(workshop.run_file(**keys))
    found = decisions(workshop.out / "run")
    assert [step for step, _, _ in found] == [1, 3]
    assert all(metrics["in_band"] == 24 for _, _, metrics in found)

    scored = scores(workshop, workshop.run_file("scored", **keys))
    assert len(scored) == 48 and np.isfinite(scored).all() and scored.std() > 0
