"""Finished scores that several ranks find again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataflex.scoring import shards
from dataflex.scoring.shards import ShardStore

ROWS = np.arange(6)


def taken_up(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What each of two ranks takes up of what it finds in its folder."""
    both = threading.Barrier(2, timeout=30)
    said: dict[int, Any] = {}

    def exchange(item: Any, rank: int) -> list[Any]:
        said[rank] = item
        both.wait()
        return [said[0], said[1]]

    monkeypatch.setattr(shards, "all_gather", exchange)
    stores = [ShardStore(folder, 1, rank=rank) for rank, folder in enumerate(folders)]
    with ThreadPoolExecutor(2) as ranks:
        return [rows.tolist() for rows in ranks.map(lambda rank: stores[rank].resume(ROWS, rank), range(2))]


def written(folder: Path, rank: int, rows: list[int]) -> None:
    store = ShardStore(folder, 1, rank=rank)
    store.add(np.array(rows), np.zeros((len(rows), 1)))
    store.flush()


def test_ranks_that_share_a_folder_take_up_what_each_of_them_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, 0, [0, 2])
    written(tmp_path, 1, [1, 3])
    assert taken_up((tmp_path, tmp_path), monkeypatch) == [[0, 2, 1, 3]] * 2


@pytest.mark.parametrize("others", [[1, 3], [1], []])
def test_ranks_with_folders_of_their_own_take_up_nothing(
    others: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "a", 0, [0, 2])
    written(tmp_path / "b", 1, others) if others else None
    assert taken_up((tmp_path / "a", tmp_path / "b"), monkeypatch) == [[], []]
