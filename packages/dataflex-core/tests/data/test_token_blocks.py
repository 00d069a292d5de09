from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest

from dataflex.data.token_blocks import Part, TokenBlock, token_blocks
from dataflex.errors import ComponentError

IGNORED = -100


def kept_texts(rows: Any, part: Part = "all", size: int = 200_000) -> list[list[list[int]]]:
    """By row: the runs of neighbouring tokens that count, samples of a packed row apart."""
    found: list[list[list[int]]] = []
    for block in token_blocks(rows, 0, len(rows), part=part, size=size):
        assert block.start == len(found)
        place = 0
        for length in block.lengths.tolist():
            runs: list[list[int]] = []
            apart = True
            for token in range(place, place + length):
                counts = block.kept is None or bool(block.kept[token])
                if counts and (apart or block.begins[token]):
                    runs.append([])
                if counts:
                    runs[-1].append(int(block.ids[token]))
                apart = not counts
            found.append(runs)
            place += length
    return found


def both_ways(rows: list[dict[str, Any]], part: Part = "all") -> list[list[list[int]]]:
    """As a list of dictionaries and as an Arrow table: the same."""
    listed = kept_texts(rows, part)
    assert kept_texts(datasets.Dataset.from_list(rows), part) == listed
    return listed


def test_rows_come_in_their_order_whatever_the_size_of_a_block() -> None:
    rng = np.random.default_rng(0)
    rows = [{"input_ids": rng.integers(0, 99, length).tolist()} for length in rng.integers(0, 40, 300)]
    wanted = [[row["input_ids"]] if row["input_ids"] else [] for row in rows]
    table = datasets.Dataset.from_list(rows)
    assert kept_texts(rows) == kept_texts(table) == kept_texts(table, size=50) == kept_texts(rows, size=1) == wanted
    shuffled = table.select(range(299, -1, -1))
    assert kept_texts(shuffled) == wanted[::-1]
    only: list[TokenBlock] = list(token_blocks(table, 7, 9))
    assert [(block.start, block.stop) for block in only] == [(7, 9)]
    assert list(token_blocks(table, 5, 5)) == []


def test_padding_never_counts_on_either_side() -> None:
    rows = [
        {"input_ids": [7, 8, 0, 0], "attention_mask": [1, 1, 0, 0]},
        {"input_ids": [0, 0, 7, 8], "attention_mask": [0, 0, 1, 1]},
        {"input_ids": [7, 0, 8, 0], "attention_mask": [1, 1, 1, 1]},
    ]
    assert both_ways(rows) == [[[7, 8]], [[7, 8]], [[7, 0, 8, 0]]]


def test_parts_are_told_by_the_labels() -> None:
    rows = [{"input_ids": [1, 2, 3, 4, 5], "labels": [IGNORED, IGNORED, 3, IGNORED, 5]}]
    assert both_ways(rows, "answer") == [[[3], [5]]]
    assert both_ways(rows, "prompt") == [[[1, 2], [4]]]
    assert both_ways(rows) == [[[1, 2, 3, 4, 5]]]
    plain = [{"input_ids": [1, 2]}]
    assert both_ways(plain, "answer") == [[[1, 2]]]
    assert both_ways(plain, "prompt") == [[]]


def test_samples_that_the_mask_numbers_are_apart() -> None:
    rows = [{"input_ids": [1, 2, 3, 4, 0], "attention_mask": [1, 1, 2, 2, 0], "position_ids": [0, 1, 0, 1, 0]}]
    assert both_ways(rows) == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(("pads", "wanted"), [(1, [[1, 2], [3, 4]]), (3, [[1, 2], [3, 4]])])
def test_packing_without_a_mask_is_told_by_positions_and_its_padding_by_what_is_not_learnt(
    pads: int, wanted: list[list[int]]
) -> None:
    row = {  # as LlamaFactory packs without neat_packing: the padding has a mask of 1
        "input_ids": [1, 2, 3, 4, *[0] * pads],
        "attention_mask": [1] * (4 + pads),
        "position_ids": [0, 1, 0, 1, *[0] * pads],
        "labels": [IGNORED, 2, IGNORED, 4, *[IGNORED] * pads],
    }
    assert both_ways([row]) == [wanted]
    assert both_ways([row], "answer") == [[[2], [4]]]
    assert both_ways([row], "prompt") == [[[1], [3]]]


def test_a_sample_of_one_learnt_token_that_ends_a_packed_row_is_no_padding() -> None:
    row = {"input_ids": [1, 2, 3], "position_ids": [0, 1, 0], "labels": [IGNORED, 2, 3]}
    assert both_ways([row]) == [[[1, 2], [3]]]


def test_positions_that_are_all_zero_tell_nothing_and_planes_of_them_are_read_by_the_first() -> None:
    assert both_ways([{"input_ids": [1, 2], "position_ids": [0, 0]}]) == [[[1, 2]]]
    planes = [[0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert both_ways([{"input_ids": [1, 2, 3, 4], "position_ids": planes}]) == [[[1, 2], [3, 4]]]


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(ComponentError, match=r"have no input_ids \(they have: chosen_input_ids\)"):
        kept_texts([{"chosen_input_ids": [1]}])
    with pytest.raises(ComponentError, match="row 1 has 2 input_ids and 1 attention_mask"):
        kept_texts([{"input_ids": [1], "attention_mask": [1]}, {"input_ids": [1, 2], "attention_mask": [1]}])

    class Broken(list[Any]):
        def __getitem__(self, row: Any) -> Any:
            if row == 3:
                raise OSError("the disk is gone")
            return super().__getitem__(row)

    with pytest.raises(ComponentError, match="row 3 of the pool could not be read"):
        kept_texts(Broken([{"input_ids": [1]}] * 5))
