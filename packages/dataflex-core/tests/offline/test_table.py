"""The numbers the terminal shows are those of the scores."""

from __future__ import annotations

import numpy as np
from pyarrow import parquet
from rich.console import Console

from dataflex.pool_scores.scores import PoolScores
from dataflex.pool_scores.table import histogram, score_table

POOL = PoolScores(
    scores=np.array([1.0, 2.0, 3.0, np.nan, 31.0]),
    tokens=np.array([10, 20, 30, 40, 50]),
    names=("web", "code"),
    domains=np.array([0, 0, 1, 1, -1]),
)


def test_each_data_set_and_all_of_them_have_a_line():
    console = Console(width=120, record=True)
    console.print(score_table("Scores", POOL.summary(np.array([1, 2]))))
    cells = [line.replace("│", " ").split() for line in console.export_text().splitlines() if "│" in line]
    assert cells == [
        ["web", "2", "30", "2", "0", "1.5", "1.05", "1.5", "1.95", "1"],
        ["code", "2", "70", "1", "1", "3", "3", "3", "3", "1"],
        ["all", "5", "150", "4", "1", "9.25", "1.15", "2.5", "26.8", "2"],
    ]


def test_the_histogram_counts_every_score_that_is_finite():
    lines = list(histogram(POOL.summary(np.zeros(0, np.int64))["scores"], block="#"))
    assert len(lines) == 15 and [int(line.split()[-1]) for line in lines] == [2, 1, *[0] * 11, 0, 1]
    assert lines[0].count("#") == 40 and lines[1].count("#") == 20
    assert list(histogram({"finite": 0})) == []


def test_the_file_names_the_data_set_of_each_row_where_it_is_known(tmp_path):
    POOL.write(tmp_path / "scores.parquet")
    table = parquet.read_table(tmp_path / "scores.parquet").to_pydict()
    assert table["row"] == [0, 1, 2, 3, 4] and table["tokens"] == [10, 20, 30, 40, 50]
    assert table["domain"] == ["web", "web", "code", "code", None]
    assert table["score"][:3] == [1.0, 2.0, 3.0] and np.isnan(table["score"][3])
