"""What choosing by embeddings costs a run, as its first decision says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from embedded_pools import pool, tiny_qwen
from near_cases import selector

from dataflex import Selector
from dataflex.components.asking import Asking
from dataflex.components.screen import Frame
from dataflex.math.selection_cost import Budget
from dataflex.trainers.planners.selection_cost import SelectionCost
from dataflex_selectors_near.params import NearParams, RdsParams

BLOCK = 32 * 32 + 32 + 2 * (32 * 16 + 16) + 32 * 32 + 3 * 32 * 64 + 2 * 32
WHOLE = 2 * BLOCK + 60 * 32
BUDGET = Budget(steps=110, boundaries=3, batch=8, beta=2.0)


@pytest.mark.parametrize(
    ("params", "more", "passes", "said"),
    [
        (NearParams, {}, 3 * 67 * 2 * BLOCK, "3 boundaries, 67 rows scored at each"),
        (NearParams, {"max_candidates": 20}, 3 * 27 * 2 * BLOCK, "3 boundaries, 27 rows"),
        (NearParams, {"embedding_layers": 1}, 3 * 67 * BLOCK, "3 boundaries, 67 rows"),
        (RdsParams, {"tokens": None}, 67 * 2 * BLOCK, "67 rows passed over once"),
        (RdsParams, {"tokens": None, "max_candidates": 20}, 67 * 2 * BLOCK, "67 rows passed over once"),
        (RdsParams, {"tokens": None, "embedding_model": "run"}, 3 * 67 * 2 * BLOCK, "3 boundaries, 67 rows"),
    ],
)
def test_the_cost_is_a_pass_at_each_boundary_or_once(
    params: Any, more: dict[str, Any], passes: int, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asking = Asking(selector(tmp_path, params, **more), Selector, "selector near", name="near")
    frame = Frame(budget=BUDGET, stage_rows=240, model=tiny_qwen())
    with caplog.at_level(logging.INFO, "dataflex"):
        found = SelectionCost(asking, None, frame, 60).metrics({"scored": 5.0}, log=True)
    assert found["selection_steps"] == pytest.approx(passes / WHOLE / 3 / 8)
    assert found["selection_worth"] == pytest.approx(1 + passes / WHOLE / 3 / 8 / 110)
    assert said in caplog.text


def test_few_tokens_cost_less(tmp_path: Path) -> None:
    lengths = [len(row["input_ids"]) for row in pool()]
    share = sum(min(length, 10) for length in lengths) / sum(lengths)
    found = selector(tmp_path, RdsParams, tokens=10).scoring_cost(tiny_qwen())
    assert found.forward == pytest.approx(share * 2 * BLOCK / WHOLE)
    assert share < 0.7
