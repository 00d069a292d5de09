"""Reports of real runs through LlamaFactory, a static one beside them."""

from __future__ import annotations

import pytest
from tiny_runs import NOTE_MIX, NOTE_SELECT, NOTE_WEIGHT

from dataflex.report.page import write_report
from dataflex.report.read import read_run

pytestmark = pytest.mark.slow


def test_real_runs_of_every_kind_have_a_report(workshop, train):
    kinds = {
        "select": NOTE_SELECT | {"component_name": "loss"},
        "mix": NOTE_MIX,
        "weight": NOTE_WEIGHT,
        "static": {"train_type": "static", "max_steps": 3},
    }
    for name, keys in kinds.items():
        train(workshop.run_file(name, **keys))
    folders = [workshop.out / name for name in kinds]
    runs = {folder.name: read_run(folder, folder.name) for folder in folders}
    assert [runs[name].state for name in ("select", "mix", "weight")] == [
        "ended after 8 steps",
        "ended after 10 steps",
        "ended after 3 steps",
    ]
    assert runs["select"].usage.rows_by_times.sum() == 64
    assert (runs["select"].usage.rows_by_times @ range(10)) == 8 * 4  # steps x samples, no row more than 9 times
    assert "<|im_start|>user" in runs["select"].samples[0].text and runs["select"].samples[0].score > 0
    assert runs["mix"].over_domains("proportions")[1].shape == (2, 2)
    assert {"weight_ess", "weighted_loss"} <= runs["weight"].series.keys()
    assert runs["weight"].usage.rows_by_times[:2].tolist() == [64 - 3 * 4, 3 * 4]  # three steps of the first epoch
    assert runs["weight"].weights.counts.sum(axis=1).tolist() == [4, 4]  # a step each, past the warm-up
    assert runs["static"].series["loss"].steps.tolist() == [1, 2, 3]
    (page,) = write_report(folders, workshop.out / "report.html")
    text = page.read_text()
    for title in (
        "Scores of the pool over time",
        "Proportions asked for",
        "Effective sample size",
        "Weights over time",
        "How often rows",
    ):
        assert f"<h3>{title}" in text
