"""``dataflex score --draw``: the rows that are kept are those that a run would draw, and a column for each target."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from tiny_runs import NOTE_SELECT

from dataflex.cli.score import ScoreOptions, run_score
from dataflex.errors import ConfigError
from dataflex.pool_scores.job import ScoringJob

pytestmark = pytest.mark.slow

RUN = NOTE_SELECT | {"save_strategy": "steps", "save_steps": 2, "eval_dataset": "val"}


@pytest.fixture
def score():
    """Run ``dataflex score`` in this process."""

    def score(run_file, out, *overrides, plugins=(), **options):
        named = {"component": None, "checkpoint": None, "keep_top": None, "keep": None, **options}
        run_score(run_file, list(overrides), [str(file) for file in plugins], ScoreOptions(out=out, **named))

    return score


def kept_rows(out: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in (out / "kept").glob("*.jsonl"))


@pytest.mark.parametrize("component", ["loss", "less"])
def test_the_rows_that_a_runs_boundary_draws_are_kept(component, workshop, train, score, monkeypatch):
    run_file = workshop.run_file(**RUN | {"component_name": component, "component_params": {"mode": "sample"}})
    train(run_file)
    drawn = np.load(workshop.out / "run" / "decisions" / "step-00000002.npy")
    out = workshop.out / "scores"
    as_top = {"less": "top_k", "loss": "top"}[component]
    options = {"checkpoint": workshop.out / "run" / "checkpoint-2", "keep": len(drawn), "draw": True}
    score(run_file, out, f"component_params.mode={as_top}", "component_params.passes=2", **options)
    table = parquet.read_table(out / "scores.parquet")
    assert np.repeat(np.arange(len(table)), table["drawn"].to_numpy()).tolist() == sorted(drawn.tolist())
    best = np.argsort(-table["score"].to_numpy())[: len(drawn)]
    assert set(best) != set(drawn)
    assert kept_rows(out) == len(drawn)
    request = json.loads((out / "request.json").read_text())
    assert request["params"]["mode"] == "sample" and request["draw"] == {"rows": len(drawn), "share": None}
    if component == "less":
        assert table.column_names == ["row", "domain", "score", "tokens", "score_eval", "drawn"]
        np.testing.assert_array_equal(table["score"].to_numpy(), table["score_eval"].to_numpy())

    def stop(job, scored):
        raise AssertionError("scored again")

    monkeypatch.setattr("dataflex.trainers.scoring.ScoringMixin._score", stop)
    (out / "kept").rename(out.with_name("before"))
    score(run_file, out, f"component_params.mode={as_top}", "component_params.passes=2", **options)
    assert kept_rows(out) == len(drawn)
    with pytest.raises(ConfigError, match=r"holds scores of another request: draw\.rows"):
        score(run_file, out, f"component_params.mode={as_top}", "component_params.passes=2", **options | {"keep": 3})


@pytest.mark.parametrize(
    ("component", "params"), [("tsds", {}), ("near", {}), ("icons", {"mode": "sample"}), ("dsir", {}), ("prune", {})]
)
def test_selectors_of_every_kind_draw_what_they_draw_in_a_run(component, params, workshop, train, score):
    """``tsds`` by its probabilities, a row as often as they say; ``near`` and ``prune`` as at any boundary."""
    run_file = workshop.run_file(**RUN | {"component_name": component, "component_params": params})
    train(run_file)
    drawn = np.load(workshop.out / "run" / "decisions" / "step-00000002.npy")
    out = workshop.out / "scores"
    score(run_file, out, checkpoint=workshop.out / "run" / "checkpoint-2", keep=len(drawn), draw=True)
    table = parquet.read_table(out / "scores.parquet")
    assert np.repeat(np.arange(len(table)), table["drawn"].to_numpy()).tolist() == sorted(drawn.tolist())
    assert np.isfinite(table["score"].to_numpy()).any()


@pytest.mark.parametrize(
    ("component", "overrides", "options", "said"),
    [
        ("loss", (), {"draw": True}, "Say how many: --keep N or --keep-top SHARE"),
        ("less", ("component_params.aggregate=round_robin",), {"keep": 4, "draw": True}, "--draw asks for mode"),
    ],
)
def test_a_draw_that_cannot_be_is_refused_before_anything_loads(
    component, overrides, options, said, workshop, score, monkeypatch
):
    def run(job, rank):
        raise AssertionError("the job has begun")

    monkeypatch.setattr(ScoringJob, "run", run)
    run_file = workshop.run_file(**RUN | {"component_name": component})
    with pytest.raises(ConfigError, match=said):
        score(run_file, workshop.out / "scores", *overrides, **options)


STILL = """
import numpy as np
from dataflex import Selection, Selector, register_selector

@register_selector("still", gives_scores=True)
class Still(Selector):
    def select(self, model, step_id, num_samples, **kwargs):
        return Selection(np.arange(num_samples), scores=np.arange(float(len(self.dataset))))
"""


def test_a_selector_that_draws_nothing_has_no_draw(workshop, score):
    plugin = workshop.out / "still.py"
    plugin.parent.mkdir(parents=True, exist_ok=True)
    plugin.write_text(STILL)
    run_file = workshop.run_file(**RUN | {"component_name": "still"})
    with pytest.raises(ConfigError, match="selector 'still' has no mode: sample and draws nothing"):
        score(run_file, workshop.out / "scores", plugins=[plugin], keep=3, draw=True)


def test_a_screened_pool_is_scored_where_the_screen_leaves_rows(workshop, score):
    plugin = workshop.out / "still.py"
    plugin.parent.mkdir(parents=True, exist_ok=True)
    plugin.write_text(STILL)
    screen = {"name": "still", "survivors": 10, "agreement": 0}
    run_file = workshop.run_file(**RUN | {"component_name": "loss", "component_params": {"screen": screen}})
    out = workshop.out / "scores"
    score(run_file, out, plugins=[plugin])
    scores = parquet.read_table(out / "scores.parquet")["score"].to_numpy()
    assert np.flatnonzero(np.isfinite(scores)).tolist() == list(range(len(scores) - 10, len(scores)))
    with pytest.raises(ConfigError, match=r"screen\.survivors=10 leaves fewer to be scored"):
        score(run_file, workshop.out / "more", plugins=[plugin], keep=11)
    with pytest.raises(ConfigError, match="survivors: auto is what a training run can pay for"):
        auto = ["component_params.screen.survivors=auto", "component_params.screen.worth=2"]
        score(run_file, workshop.out / "auto", *auto, plugins=[plugin])
