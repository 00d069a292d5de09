from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import dataflex.scoring.kept_folder as folder_module
from dataflex.scoring.index_store import Index, IndexStore
from dataflex.scoring.writer_lock import WriterLock

INDEX = Index(np.arange(3), np.eye(3, dtype=np.float16), np.zeros(3, np.float32), 2.5, 4.0)


def test_one_of_two_writers_makes_the_index_and_the_other_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_ASK_AGAIN", 0.01)
    first, second = IndexStore(tmp_path, "k"), IndexStore(tmp_path, "k")
    assert first.claim()
    said: list[bool] = []
    waiting = threading.Thread(target=lambda: said.append(second.claim()))
    waiting.start()
    time.sleep(0.1)
    assert not said
    first.write(INDEX, {})
    waiting.join(5)
    assert said == [False]
    found = second.read()
    assert found is not None
    assert np.array_equal(found.values, INDEX.values)
    assert (found.seconds, found.cpu_seconds) == (2.5, 4.0)
    first.release()
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings-k"]


def test_a_writer_that_gives_up_leaves_it_to_the_next(tmp_path: Path) -> None:
    first, second = IndexStore(tmp_path, "k"), IndexStore(tmp_path, "k")
    assert first.claim()
    first.release()
    assert second.claim()


def test_a_lock_that_nobody_touches_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"host": "another machine", "pid": 1, "id": "x"}))
    lock = WriterLock(path, stale=0.3)
    assert lock.holder() == "process 1 on another machine"
    assert not lock.acquire()
    time.sleep(0.15)
    os.utime(path)  # its heart beats
    assert not lock.acquire()
    time.sleep(0.2)
    assert not lock.acquire()  # 0.2 s since
    time.sleep(0.2)
    assert lock.acquire()
    lock.release()
    assert not path.exists()


def test_a_lock_that_is_held_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder, other = WriterLock(path, stale=0.4), WriterLock(path, stale=0.4)
    assert holder.acquire()
    ends = time.monotonic() + 1.2
    while time.monotonic() < ends:
        assert not other.acquire()
        time.sleep(0.05)
    holder.release()
    assert other.acquire()


def test_the_lock_of_a_process_that_died_here_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "from dataflex.scoring.writer_lock import WriterLock; from pathlib import Path\n"
        f"WriterLock(Path({str(path)!r})).acquire()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert path.exists()
    assert WriterLock(path).acquire()


def test_a_lock_that_came_in_place_of_the_stale_one_is_put_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("old")
    lock = WriterLock(path, stale=0.0)
    assert lock._holder_is_gone()
    path.write_text("new")  # another waiter was quicker
    lock._take_away()
    assert path.read_text() == "new"


def test_a_folder_that_cannot_be_written_to_costs_the_index_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    store = IndexStore(tmp_path / "file", "k", seconds=1e-9)
    assert store.claim()
    store.begin(np.zeros(3, np.float32))
    store.add(np.arange(3), np.eye(3, dtype=np.float16))
    store.write(INDEX, {})
    store.release()
    assert store.read() is None
    assert "cannot be kept" in caplog.text


def test_parts_count_their_cost_and_damaged_ones_are_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = IndexStore(tmp_path, "k", seconds=1e-9)
    store.begin(np.ones(3, np.float32))
    for row in range(3):
        time.sleep(0.01)
        store.add(np.asarray([row]), np.full((1, 3), row, np.float16))
    parts = sorted((tmp_path / "embeddings-k.parts").glob("*.npz"))
    parts[1].write_bytes(b"torn")
    again = IndexStore(tmp_path, "k", seconds=1e-9)
    found, origin = again.resume(np.asarray([0, 1]))
    assert origin is not None
    assert origin.tolist() == [1, 1, 1]
    assert [(rows.tolist(), values.tolist()) for rows, values in found] == [([0], [[0, 0, 0]]), ([], [])]
    assert "is damaged" in caplog.text
    assert 0.02 < again.earlier[0] < 5
    again.begin(np.zeros(3, np.float32))  # another mean: what was kept is none of it
    assert IndexStore(tmp_path, "k").resume(np.arange(3))[0] == []
