"""``dataflex score`` with selectors that look back at a run, or at clusters of the pool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from tiny_runs import NOTE_SELECT

from dataflex.cli.score import ScoreOptions, run_score
from dataflex.errors import ConfigError

pytestmark = pytest.mark.slow

RUN = NOTE_SELECT | {"save_strategy": "steps", "save_steps": 2, "eval_dataset": "val"}


def scored(run_file: Path, out: Path, component: str, **options: object) -> np.ndarray:
    named = {"checkpoint": None, "keep_top": None, "keep": 5, **options}
    run_score(run_file, [], [], ScoreOptions(out=out, component=component, **named))
    kept = sum(len(path.read_text().splitlines()) for path in (out / "kept").glob("*.jsonl"))
    assert kept == 5
    return parquet.read_table(out / "scores.parquet")["score"].to_numpy()


def test_a_falling_loss_is_scored_from_a_checkpoint_that_has_its_first_losses(workshop, train):
    run_file = workshop.run_file(**RUN | {"component_name": "delta_loss"})
    with pytest.raises(ConfigError, match="Give a checkpoint of a run with delta_loss"):
        scored(run_file, workshop.out / "none", "delta_loss")
    train(run_file)
    scores = scored(run_file, workshop.out / "scores", "delta_loss", checkpoint=workshop.out / "run" / "checkpoint-4")
    assert np.isfinite(scores).all() and scores.any()


@pytest.mark.parametrize(
    ("component", "params"),
    [("coincide", {"cluster_rows": 4}), ("cluster_less", {"cluster_rows": 4, "preconditioner": "sgd"})],
)
def test_all_rows_of_a_cluster_have_one_score(component, params, workshop):
    run_file = workshop.run_file(**RUN | {"component_name": component, "component_params": params})
    scores = scored(run_file, workshop.out / "scores", component)
    assert np.isfinite(scores).all()
    assert 1 < len(np.unique(scores)) < len(scores)
    scored(run_file, workshop.out / "drawn", component, draw=True)
