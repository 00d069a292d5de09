"""Checkpoints: whole or named as damaged, and one is always left to resume from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dataflex import checkpoints, state
from dataflex.errors import ComponentError, ConfigError

COMPONENT = {"window": np.arange(3.0), "total": torch.tensor([1.5, 2.5]), "count": 7, "names": ["a", "b"]}


def engine(step: int) -> state.EngineState:
    return state.EngineState(
        step=step,
        stage=1,
        plan_start=2,
        warmup=2,
        update=3,
        total=8,
        seed=3,
        global_batch=4,
        pool_size=9,
        pool_fingerprint="f",
        component="d/c",
        domains=["web", "code"],
        planner={"cursor": 4},
    )


def write(folder: Path, step: int, *, complete: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    state.save(checkpoint, state.Saved(engine(step), np.array([3, 1, 2]), COMPONENT))
    if complete:
        state.mark_complete(checkpoint)
    return checkpoint


def test_what_is_saved_comes_back(tmp_path):
    saved = state.load(write(tmp_path, 5))
    assert saved.engine == engine(5)
    assert saved.plan.tolist() == [3, 1, 2]
    assert isinstance(saved.component["window"], np.ndarray) and saved.component["window"].tolist() == [0.0, 1.0, 2.0]
    assert torch.equal(saved.component["total"], COMPONENT["total"])
    assert (saved.component["count"], saved.component["names"]) == (7, ["a", "b"])


def test_nothing_is_pickled(tmp_path):
    names = {path.name for path in (write(tmp_path, 5) / "dataflex").iterdir()}
    assert names == {"engine.json", "plan.npy", "component.safetensors", "component.json", "COMPLETE"}


def test_a_state_that_is_not_data_is_refused(tmp_path):
    with pytest.raises(ComponentError, match="neither tensor, array nor JSON"):
        state.save(tmp_path / "checkpoint-1", state.Saved(engine(1), np.zeros(1, np.int64), {"f": object()}))


@pytest.mark.parametrize("value", [{0: 1}, (1, 2), [(1, 2)]], ids=["number as key", "tuple", "tuple in a list"])
def test_a_state_that_json_would_change_is_refused(value):
    with pytest.raises(ComponentError, match=r"under 'counts' does not come back from JSON as it was"):
        state.check_component({"counts": value})


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "other.bin"])
def test_a_checkpoint_that_names_a_strange_file_is_refused(tmp_path, name):
    checkpoint = write(tmp_path, 5, complete=False)
    path = checkpoint / "dataflex" / "engine.json"
    record = json.loads(path.read_text())
    record["sha256"][name] = "0" * 64
    path.write_text(json.dumps(record))
    state.mark_complete(checkpoint)
    with pytest.raises(
        ConfigError, match=f"engine.json is damaged .it names '{name}', which is no file of a checkpoint"
    ):
        state.load(checkpoint)


def test_a_mark_that_was_emptied_is_named(tmp_path):
    checkpoint = write(tmp_path, 5)
    (checkpoint / "dataflex" / "COMPLETE").write_text("")
    assert "COMPLETE is damaged" in state.damage(checkpoint)


def test_a_trainer_state_that_was_cut_short_is_noticed(tmp_path):
    checkpoint = write(tmp_path, 5)
    (checkpoint / "trainer_state.json").write_text('{"global_step": 5')
    assert "trainer_state.json is damaged" in state.damage(checkpoint)


@pytest.mark.parametrize("name", ["plan.npy", "component.safetensors", "component.json", "engine.json", "COMPLETE"])
@pytest.mark.parametrize("damage", ["truncated", "edited", "removed"])
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_taken(tmp_path, name, damage):
    good, bad = write(tmp_path, 4), write(tmp_path, 5)
    path = bad / "dataflex" / name
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "edited":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        path.unlink()
    with pytest.raises(ConfigError, match=rf"cannot resume from .*checkpoint-5: .*{name}"):
        state.load(bad)
    with pytest.raises(ConfigError, match=rf"checkpoint-5: .*{name}.* Resume from {good}, the last whole one before"):
        checkpoints.require_valid(bad)
    found, skipped = checkpoints.latest_valid(tmp_path)
    assert found == good and name in skipped[bad]


def test_a_number_edited_in_the_engines_record_is_noticed(tmp_path):
    path = write(tmp_path, 5) / "dataflex" / "engine.json"
    path.write_text(path.read_text().replace('"plan_start": 2', '"plan_start": 3'))
    with pytest.raises(ConfigError, match=r"engine.json is damaged .its sha256 differs from the one in COMPLETE"):
        state.load(tmp_path / "checkpoint-5")


def test_a_checkpoint_of_another_version_is_not_read(tmp_path):
    checkpoint = write(tmp_path, 5)
    path = checkpoint / "dataflex" / "engine.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 9'))
    state.mark_complete(checkpoint)
    with pytest.raises(ConfigError, match=r"engine.json has version 9, this dataflex-core reads 1"):
        state.load(checkpoint)


def test_a_checkpoint_without_its_mark_was_interrupted(tmp_path):
    with pytest.raises(ConfigError, match="COMPLETE is missing: the run was stopped while it wrote this checkpoint"):
        state.load(write(tmp_path, 5, complete=False))


def test_writing_again_takes_the_mark_away_first(tmp_path):
    write(tmp_path, 5)
    assert "COMPLETE is missing" in state.damage(write(tmp_path, 5, complete=False))


def test_the_newest_whole_checkpoint_is_found_and_the_others_are_explained(tmp_path):
    write(tmp_path, 3)
    good = write(tmp_path, 20)
    (write(tmp_path, 100) / "dataflex" / "plan.npy").write_bytes(b"")
    write(tmp_path, 101, complete=False)
    (tmp_path / "checkpoint-best").mkdir()
    found, skipped = checkpoints.latest_valid(tmp_path)
    assert found == good
    assert [path.name for path in skipped] == ["checkpoint-101", "checkpoint-100"]
    assert "COMPLETE is missing" in skipped[tmp_path / "checkpoint-101"]
    assert "plan.npy is damaged" in skipped[tmp_path / "checkpoint-100"]


def test_an_empty_output_directory_has_nothing_to_resume(tmp_path):
    assert checkpoints.latest_valid(tmp_path / "absent") == (None, {})


def test_rotation_counts_no_unfinished_checkpoint_as_the_newest(tmp_path):
    whole = write(tmp_path, 5)
    unfinished = write(tmp_path, 10, complete=False)
    checkpoints.rotate(tmp_path, 1)
    assert whole.is_dir() and not unfinished.is_dir()


def test_rotation_keeps_the_best_and_the_newest(tmp_path):
    paths = {step: write(tmp_path, step) for step in (1, 2, 3, 4)}
    checkpoints.rotate(tmp_path, 2, [paths[1]])
    assert {json.loads(path.name.rpartition("-")[2]) for path in tmp_path.iterdir()} == {1, 4}


def test_without_a_limit_nothing_is_deleted(tmp_path):
    write(tmp_path, 1), write(tmp_path, 2)
    checkpoints.rotate(tmp_path, None)
    assert len(list(tmp_path.iterdir())) == 2
