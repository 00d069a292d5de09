"""What is kept of a pool on disk is known by every row; where a sample does, it says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets

from dataflex.data import fingerprint as module
from dataflex.data.fingerprint import content_fingerprint, fingerprint

SIZE = 1000
ROWS = {
    "input_ids": [[row, row % 7, 3][: 1 + row % 3] for row in range(SIZE)],
    "labels": [[row] for row in range(SIZE)],
}


def edited(row: int) -> dict[str, Any]:
    ids = [list(each) for each in ROWS["input_ids"]]
    ids[row] = [token + 1 for token in ids[row]]
    return {**ROWS, "input_ids": ids}


def test_an_edit_of_any_row_is_seen_that_a_sample_does_not_see() -> None:
    sampled = set(np.linspace(0, SIZE - 1, num=module.SAMPLED_ROWS, dtype=np.int64).tolist())
    row = next(row for row in range(SIZE) if row not in sampled)
    before, after = Dataset.from_dict(ROWS), Dataset.from_dict(edited(row))
    assert fingerprint(before) == fingerprint(after)
    assert content_fingerprint(before) != content_fingerprint(after)


def test_the_same_rows_are_the_same_however_they_are_stored() -> None:
    whole = Dataset.from_dict(ROWS)
    parts = [Dataset.from_dict({name: values[start:end] for name, values in ROWS.items()}) for start, end in
             ((0, 3), (3, 640), (640, SIZE))]  # fmt: skip
    shuffled = whole.select(list(reversed(range(SIZE)))).select(list(reversed(range(SIZE))))
    columns = Dataset.from_dict(dict(reversed(ROWS.items())))
    same = {content_fingerprint(each) for each in (whole, concatenate_datasets(parts), shuffled, columns)}
    assert same == {content_fingerprint(whole.with_format("torch"))}
    assert len(same) == 1 and content_fingerprint(whole.select(range(SIZE - 1))) not in same


@pytest.mark.parametrize("most", [SIZE, SIZE - 1])
def test_rows_of_another_kind_are_read_one_by_one_up_to_a_number(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", most)
    rows = [{"input_ids": ids} for ids in ROWS["input_ids"]]
    other = [{"input_ids": ids} for ids in edited(2)["input_ids"]]
    assert (content_fingerprint(rows) != content_fingerprint(other)) is (most == SIZE)


def test_a_lack_of_memory_is_no_fault_of_a_row() -> None:
    class Large(list[Any]):
        def __getitem__(self, row: Any) -> Any:
            raise MemoryError

    with pytest.raises(MemoryError):
        fingerprint(Large(range(4)))
