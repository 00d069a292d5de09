"""Runs in order from the run file to the record, through LlamaFactory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from held_runs import run_to_the_end
from tiny_runs import Workshop

from dataflex.decisions import DecisionLog
from dataflex.errors import ConfigError
from dataflex.record.plans import plan_name, result_name
from dataflex.testing.tiny import tiny_rows, write_dataset

pytestmark = pytest.mark.slow

QUALITY = [float(number) for number in np.random.default_rng(5).permutation(24)]
FOLDING = {"train_type": "dynamic_order", "component_name": "folding", "warmup_step": 0}


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Two data sets of 16 and 8 rows; a fifth of the first has no quality."""
    rows = tiny_rows(24)
    graded: list[dict[str, Any]] = [row | {"quality": score} for row, score in zip(rows, QUALITY, strict=True)]
    graded[3]["quality"] = None
    return str(write_dataset(tmp_path / "data", first=graded[:16], second=graded[16:], plain=rows))  # type: ignore[arg-type]


def served(folder: Path, *steps: int) -> list[int]:
    rows: list[int] = []
    for step in steps:
        name = plan_name(step) if (folder / plan_name(step)).is_file() else result_name(step)
        rows += np.load(folder / name).tolist()
    return rows


def test_a_column_of_the_data_orders_rows_of_two_data_sets(workshop: Workshop, train: Any, data: str) -> None:
    params = {"by": "column:quality", "layers": 1, "direction": "descending"}
    train(workshop.run_file(**FOLDING, dataset="first,second", dataset_dir=data, component_params=params, train_step=6))
    rows = served(workshop.out / "run", 0)
    assert sorted(rows) == list(range(24))
    scores = np.array(QUALITY)
    scores[3] = np.nan
    known = np.argsort(-scores)[:23].tolist()
    expected = [*known[:11], 3, *known[11:]]  # the row without a score in the middle
    batches = [set(rows[start : start + 4]) for start in range(0, 24, 4)]
    assert batches == [set(expected[start : start + 4]) for start in range(0, 24, 4)]
    (decision,) = DecisionLog(workshop.out / "run")
    assert decision.metrics["domains"] == ["first", "second"] and decision.metrics["unscored"] == 1
    assert decision.metrics["rank_correlation"] == pytest.approx(-1)


def test_a_column_that_one_data_set_lacks_is_refused_before_the_model_loads(
    workshop: Workshop, train: Any, data: str
) -> None:
    run = workshop.run_file(
        **FOLDING, dataset="first,plain", dataset_dir=data, component_params={"by": "column:quality"}, train_step=2
    )
    with pytest.raises(ConfigError, match=r"column:quality: the data set plain has no such column\. It has: .*output"):
        train(run)
    run = workshop.run_file(**FOLDING, packing=True, component_params={"by": "column:quality"}, train_step=2)
    with pytest.raises(ConfigError, match="is not known of packed rows"):
        train(run)


@pytest.mark.parametrize("ranks", [2])
def test_two_ranks_serve_the_order_of_one(workshop: Workshop, train: Any, ranks: int) -> None:
    keys = FOLDING | {
        "component_params": {"by": "loss", "token_budget": 512},
        "warmup_step": 1,
        "update_step": 2,
        "train_step": 5,
        "learning_rate": 0.0,
    }
    train(workshop.run_file("one", **keys))
    run_to_the_end(workshop.run_file("two", **keys | {"gradient_accumulation_steps": 1}), ranks=ranks)
    one, two = (served(workshop.out / name, 0, 1, 3) for name in ("one", "two"))
    assert [set(one[start : start + 4]) for start in range(0, 20, 4)] == [
        set(two[start : start + 4]) for start in range(0, 20, 4)
    ]
