from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset

from dataflex.data.scoring_loader import ScoringLoader
from dataflex.data.unevenness import item_counts


def rows_of(lengths: list[int], images: list[int]) -> list[dict[str, Any]]:
    return [
        {"input_ids": [1] * length, "labels": [1] * length, "images": ["path.png"] * count, "system": "words"}
        for length, count in zip(lengths, images, strict=True)
    ]


@pytest.mark.parametrize("make", [list, Dataset.from_list], ids=["list", "arrow"])
def test_items_are_counted_in_columns_that_hold_no_tokens(make: Any) -> None:
    data = make(rows_of([5, 6, 7], [1, 0, 2]))
    found = item_counts(data, [2, 0, 1], np.array([7, 5, 6]))
    assert {name: counts.tolist() for name, counts in found.items()} == {"images": [2, 1, 0]}
    assert item_counts(make(rows_of([5, 6], [1, 1])), [0, 1], np.array([5, 6])) == {}  # no rows differ in it


class Batch:
    def __call__(self, features: Any) -> dict[str, torch.Tensor]:
        return {"size": torch.tensor([len(feature["input_ids"]) for feature in features])}


def test_the_most_uneven_batches_come_right_after_the_first_and_show_their_extremes() -> None:
    lengths = [10] * 4 + [9, 9, 9, 8] + [6, 6, 6, 2] + [2] * 5
    images = [1] * 4 + [0, 3, 1, 1] + [1] * 9
    loader = ScoringLoader(rows_of(lengths, images), Batch(), range(17), max_batch=4, uneven_first=True)
    batches = list(loader)
    assert [rows.tolist() for rows, _ in batches[:3]] == [[0, 1, 2, 3], [8, 9, 10, 11], [4, 5, 6, 7]]
    assert sorted(np.concatenate([rows for rows, _ in batches]).tolist()) == list(range(17))
    alone = loader.alone(batches[1][0])
    assert {place: make()["size"].tolist() for place, make in alone.items()} == {0: [6], 1: [6], 2: [6], 3: [2]}
    assert loader.alone(batches[3][0]) == {}


def test_of_a_large_batch_four_rows_are_looked_at_the_extremes_among_them() -> None:
    lengths, images = [20] * 9 + [11], [1, 1, 1, 4, 1, 1, 0, 1, 1, 1]
    loader = ScoringLoader(rows_of(lengths, images), Batch(), range(10), token_budget=1000, uneven_first=True)
    ((rows, _),) = loader
    assert rows.tolist() == list(range(10))
    assert len(loader.alone(rows)) == 4 and {3, 6, 9} <= set(loader.alone(rows))


def test_rows_of_one_length_each_share_a_batch_where_that_is_asked_for() -> None:
    loader = ScoringLoader(rows_of([7, 5, 7, 8, 5, 5], [0] * 6), Batch(), range(6), same_length=True)
    assert [batch["size"].tolist() for _, batch in loader] == [[8], [7, 7], [5, 5, 5]]
