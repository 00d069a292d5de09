from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from dataflex.cli.app import main
from dataflex.scoring.index_store import Index, IndexStore

KEYS = [24 * digit for digit in "abc"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One finished index, one that a kill left, one that is being made in a folder below, and things of the user's."""
    index = Index(np.arange(5), np.ones((5, 3), np.float16), np.zeros(3, np.float32), 2.5, 4.0)
    IndexStore(tmp_path, KEYS[0]).write(index, {"version": 1, "model": "run", "spec": {"layers": [-1]}})
    left = IndexStore(tmp_path, KEYS[1], seconds=1e-9)
    left.begin(np.zeros(3, np.float32))
    left.add(np.arange(2), np.ones((2, 3), np.float16))
    lock = tmp_path / f"embeddings-{KEYS[1]}.lock"
    lock.write_text("a process that was killed")
    os.utime(lock, (time.time() - 100, time.time() - 100))
    (tmp_path / "run" / "cache").mkdir(parents=True)
    (tmp_path / "run" / "cache" / f"embeddings-{KEYS[2]}.lock").write_text("held")
    (tmp_path / "embeddings-of-mine").mkdir()
    (tmp_path / f"embeddings-{KEYS[0]}.txt").write_text("mine")
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["cache", *arguments])
    return int(ended.value.code or 0)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_list_shows_what_there_is_and_what_it_took(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", str(folder), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(Path(each["path"]).name, each["finished"], each["held"]) for each in found] == [
        (f"embeddings-{KEYS[0]}", True, False),
        (f"embeddings-{KEYS[1]}", False, False),
        (f"embeddings-{KEYS[2]}", False, True),
    ]
    assert (found[0]["rows"], found[0]["width"], found[0]["seconds"], found[0]["cpu_seconds"]) == (5, 3, 2.5, 4.0)
    assert found[0]["bytes"] > 100
    assert run("list", str(folder)) == 0
    said = capsys.readouterr().out
    for word in ("2.5 s", "unfinished", "being made"):
        assert word in said


def test_clear_deletes_all_but_what_is_being_made_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("clear", str(folder)) == 0
    assert left_in(folder) == [f"embeddings-{KEYS[0]}.txt", "embeddings-of-mine", "run"]
    assert left_in(folder / "run" / "cache") == [f"embeddings-{KEYS[2]}.lock"]
    said = " ".join(capsys.readouterr().out.split())
    assert "Deleted 2 of 3 indexes" in said
    assert "is being made, and stays" in said


def test_unfinished_leaves_what_can_be_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("clear", str(folder), "--unfinished", "--json") == 0
    assert f"embeddings-{KEYS[0]}" in left_in(folder)
    assert not [name for name in left_in(folder) if KEYS[1] in name]
    said = json.loads(capsys.readouterr().out)
    assert (len(said["deleted"]), len(said["held"])) == (1, 1)


def test_scores_of_rows_are_listed_and_cleared_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"row-scores-{KEYS[0]}"
    path.mkdir()
    meta = {"rows": 7, "width": 2, "model": "a/model", "made": 0.0, "seconds": 1.5, "cpu_seconds": 2.0}
    (path / "meta.json").write_text(json.dumps({**meta, "spec": {"score": "ifd"}}))
    assert run("list", str(tmp_path)) == 0
    said = capsys.readouterr().out
    for word in ("a/model", "ifd", "1.5 s"):
        assert word in said
    assert run("clear", str(tmp_path)) == 0
    assert not path.exists()


def test_an_empty_folder_and_none_at_all_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", str(tmp_path)) == 0
    assert "No embeddings and no scores in" in capsys.readouterr().out
    assert run("list", str(tmp_path / "none")) == 2
