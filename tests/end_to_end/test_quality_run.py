"""The selectors by quality through LlamaFactory: the template's header, a column of the data, ``dataflex score``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from tiny_runs import NOTE_SELECT, Workshop

from dataflex.cli.score import ScoreOptions, run_score
from dataflex.errors import ConfigError
from dataflex.scoring.index_cache import cached_indexes
from dataflex.testing.tiny import tiny_rows, write_dataset

pytestmark = pytest.mark.slow
RUN = NOTE_SELECT | {"warmup_step": 1, "update_step": 2}
QUALITY = [float(number) for number in np.random.default_rng(5).permutation(24)]


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Two data sets of 16 and 8 rows with a quality, which one row lacks."""
    graded: list[dict[str, Any]] = [row | {"quality": q} for row, q in zip(tiny_rows(24), QUALITY, strict=True)]
    graded[3]["quality"] = None
    return str(write_dataset(tmp_path / "data", first=graded[:16], second=graded[16:]))  # type: ignore[arg-type]


def scored(run_file: Path, out: Path, **options: Any) -> Any:
    fixed = {"component": None, "checkpoint": None, "keep_top": None, "keep": None}
    run_score(run_file, [], [], ScoreOptions(out=out, **fixed | options))
    return parquet.read_table(out / "scores.parquet")


def test_ifd_puts_the_templates_header_before_an_answer_and_its_scores_keep_rows(
    workshop: Workshop, train: Any
) -> None:
    from transformers import AutoTokenizer

    keys = {"component_name": "ifd", "component_params": {"scores_dir": str(workshop.out / "shared")}}
    train(workshop.run_file("run", **RUN | keys))
    (index,) = cached_indexes(workshop.out / "shared")
    tokenizer = AutoTokenizer.from_pretrained(workshop.folder / "model")
    assert index.spec is not None
    assert tokenizer.decode(index.spec["header"]) == "<|im_start|>assistant\n"
    (first, _) = map(json.loads, (workshop.out / "run" / "decisions.jsonl").read_text().splitlines())
    table = scored(workshop.run_file("scored", **RUN | keys), workshop.out / "scores", keep=4)
    scores = table["score"].to_numpy()
    assert first["metrics"]["scored"] == np.isfinite(scores).sum() > 4
    finite = scores[np.isfinite(scores)]
    assert finite.max() <= 1
    assert np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]) == pytest.approx(first["metrics"]["score_quantiles"])
    assert len(cached_indexes(workshop.out)) == 1  # found, not made again
    kept = (workshop.out / "scores" / "kept" / "tiny.jsonl").read_text().splitlines()
    assert len(kept) == 4


def test_a_column_of_the_data_selects_rows_of_two_data_sets(workshop: Workshop, train: Any, data: str) -> None:
    keys = RUN | {"component_name": "column", "dataset": "first,second", "dataset_dir": data}
    by = {"component_params": {"by": "column:quality"}}
    train(workshop.run_file("run", **keys, **by))
    decisions = [json.loads(line) for line in (workshop.out / "run" / "decisions.jsonl").read_text().splitlines()]
    known = [row for row in np.argsort([-quality for quality in QUALITY]).tolist() if row != 3]
    rows = [sorted(np.load(workshop.out / "run" / each["result_ref"]).tolist()) for each in decisions]
    assert rows == [sorted(known[:8]), sorted(known[8:16])]
    assert decisions[0]["metrics"]["without_score"] == 1

    table = scored(workshop.run_file("scored", **keys, **by), workshop.out / "scores", keep=5)
    assert table["score"].to_numpy() == pytest.approx([*QUALITY[:3], np.nan, *QUALITY[4:]], nan_ok=True)
    lines = [
        json.loads(line)
        for file in (workshop.out / "scores" / "kept").glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert sorted(line["quality"] for line in lines) == sorted(QUALITY[row] for row in known[:5])

    file = {"component_params": {"by": f"file:{workshop.out / 'scores' / 'scores.parquet'}"}}
    train(workshop.run_file("by_file", **keys, **file))
    again = [json.loads(line) for line in (workshop.out / "by_file" / "decisions.jsonl").read_text().splitlines()]
    assert [sorted(np.load(workshop.out / "by_file" / each["result_ref"]).tolist()) for each in again] == rows


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"component_name": "column", "packing": True}, "not known of packed rows: packing: true"),
        ({"component_name": "column", "component_params": {"by": "column:beauty"}}, "tiny has no such column"),
        ({"component_name": "column", "component_params": {"by": "rank"}}, "write length, file:PATH or column:NAME"),
        ({"component_name": "column", "component_params": {"by": "loss"}}, "by: loss .* is no number of a row"),
        ({"component_name": "ifd", "neat_packing": True}, "packed rows hold several: neat_packing: true"),
        ({"component_name": "ifd", "train_on_prompt": True}, "train_on_prompt .* labels do not tell them apart"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_model_loads(
    keys: dict[str, Any], message: str, workshop: Workshop, train: Any
) -> None:
    params = {"component_params": {"by": "column:quality"}} if keys["component_name"] == "column" else {}
    with pytest.raises(ConfigError, match=message):
        train(workshop.run_file(**RUN | params | keys))
