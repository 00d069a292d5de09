"""``loss``, ``less``, ``near`` and ``rds`` on pictures: batches give each row the score it has alone; runs resume."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from picture_pools import PICTURES, TEXTS, picture_pool
from tiny_runs import NOTE_SELECT, weights_digest

from dataflex.data.scoring_loader import ScoringLoader
from dataflex.testing import make_context

pytestmark = pytest.mark.slow

RUN = NOTE_SELECT | {
    "model_name_or_path": "",
    "template": "qwen2_vl",
    "dataset": "pictures,other",
    "warmup_step": 1,
    "update_step": 2,
    "save_strategy": "steps",
    "save_steps": 1,
    "cutoff_len": 192,
}
AIMING = {"eval_dataset": "val"}
SGD = {"preconditioner": "sgd", "max_validation": 4}
BUDGETS = (300, None)  # two rows or so, and all at once


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return picture_pool(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def context(pool, tmp_path):
    def make():
        facts = {"eval_datasets": {"val": pool.eval_dataset}, "tokenizer": pool.tokenizer}
        return make_context(pool.dataset, pool.collator, stage="sft", cache_dir=tmp_path, **facts)

    return make


def test_rows_with_pictures_batch_by_the_tokens_that_their_pictures_take(pool):
    lengths = [len(row["input_ids"]) for row in pool.dataset]
    assert len(lengths) == PICTURES + TEXTS and len(set(lengths[:PICTURES])) > 4
    loader = ScoringLoader(pool.dataset, pool.collator, np.arange(PICTURES), token_budget=300)
    sizes = [(len(rows), batch["input_ids"].numel()) for rows, batch in loader]
    assert all(tokens <= 300 for _, tokens in sizes) and any(count > 1 for count, _ in sizes)


def test_losses_are_those_of_the_rows_alone(pool, context):
    rows = np.arange(len(pool.dataset))
    alone = context().losses(pool.model, rows, token_budget=1).means
    for budget in BUDGETS:
        np.testing.assert_allclose(context().losses(pool.model, rows, token_budget=budget).means, alone, atol=1e-5)
    pool.model.eval()
    with torch.no_grad():
        own = [float(pool.model(**pool.collator([dict(row)])).loss) for row in pool.dataset]
    pool.model.train()
    np.testing.assert_allclose(alone, own, atol=1e-5)


@pytest.mark.parametrize("name", ["near", "rds"])
def test_embeddings_are_those_of_the_rows_alone(pool, context, monkeypatch, tmp_path, name):
    from dataflex.scoring import embedding_pass
    from dataflex_selectors_near.params import NearParams, RdsParams
    from dataflex_selectors_near.selector import NearSelector

    def scores(budget):
        made = {"near": NearParams, "rds": RdsParams}[name]
        params = made(token_budget=budget, tokens=None)  # the first 32 are those of the template, in every row
        selector = NearSelector(params, dataclasses.replace(context(), cache_dir=tmp_path / str(budget)))
        seen.clear()
        selector.begin(pool.model)
        return selector.select(pool.model, 3, 4).scores, torch.cat(seen)

    def row_vectors(*args, **kwargs):
        seen.append(stock(*args, **kwargs))
        return seen[-1]

    seen, stock = [], embedding_pass.row_vectors
    monkeypatch.setattr(embedding_pass, "row_vectors", row_vectors)
    alone, vectors = scores(1)
    assert np.isfinite(alone).all() and alone.std() > 1e-3
    for budget in BUDGETS:
        found, own = scores(budget)  # by length, whatever the budget: the same rows in the same order
        torch.testing.assert_close(own, vectors, atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(found, alone, atol=3e-4)  # vectors are kept in fp16


def test_gradients_give_the_scores_of_the_rows_alone(pool, context):
    from dataflex_selectors_less.params import LessParams
    from dataflex_selectors_less.selector import LessSelector

    def scores(budget):
        selector = LessSelector(LessParams(**SGD, token_budget=budget), context())
        return selector.select(pool.model, 3, 4).scores

    alone = scores(1)
    assert np.isfinite(alone).all() and alone.std() > 1e-3
    for budget in BUDGETS:
        np.testing.assert_allclose(scores(budget), alone, atol=1e-5)


def decisions(folder):
    found = map(json.loads, (folder / "decisions.jsonl").read_text().splitlines())
    return [(each["step"], np.load(folder / each["result_ref"]).tolist()) for each in found]


@pytest.mark.parametrize(("component", "keys"), [("loss", {}), ("rds", AIMING), ("less", AIMING)])
def test_a_run_on_pictures_goes_on_from_a_checkpoint(workshop, tiny_models, train, component, keys):
    params = {"less": SGD, "rds": {"tokens": None}}.get(component, {})
    model = {"model_name_or_path": str(tiny_models / "vision"), "component_name": component}
    run, out = workshop.run_file(**RUN | model | keys, component_params=params), workshop.out / "run"
    train(run)
    whole, digest = decisions(out), weights_digest(out)
    assert [step for step, _ in whole] == [1, 3]
    for step in (5, 4, 3):
        shutil.rmtree(out / f"checkpoint-{step}")
    train(run)
    assert weights_digest(out) == digest
    assert decisions(out) == whole
