"""Checkpoints: whole or named as damaged, and one is always left to resume from."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dataflex.checkpoint import folders as checkpoints
from dataflex.checkpoint import state
from dataflex.errors import ComponentError, ConfigError

FILES = {
    "model.safetensors": b"weights",
    "optimizer.pt": b"moments",
    "scheduler.pt": b"schedule",
    "rng_state_0.pth": b"random",
    "rng_state_1.pth": b"state",
    "trainer_state.json": b'{"global_step": 5}',
    "global_step5/zero_pp_rank_0_optim_states.pt": b"a folder in it",
}
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


def write(folder: Path, step: int, *, complete: bool = True, files=FILES, keys=()) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    state.begin(checkpoint)
    for name, data in files.items():
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_bytes(data)
    state.save(checkpoint, state.Saved(engine(step), np.array([3, 1, 2]), COMPONENT, dict(keys)), ranks=2)
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
    assert saved.keys == {}


def test_the_keys_of_a_run_come_back_and_are_hashed(tmp_path):
    checkpoint = write(tmp_path, 5, keys={"learning_rate": 1e-4, "lora": {"rank": 8}})
    assert state.load(checkpoint).keys == {"learning_rate": 1e-4, "lora": {"rank": 8}}
    path = checkpoint / "dataflex" / "keys.json"
    path.write_text(path.read_text().replace("8", "9"))
    assert "keys.json is damaged (its sha256 differs from the one in engine.json)" in state.damage(checkpoint)


def test_every_file_of_the_trainer_is_recorded_with_its_size_and_the_hash_of_small_ones(tmp_path):
    large, edge = bytes(2**20 + 1), bytes(2**20)
    checkpoint = write(tmp_path, 5, files={"model.safetensors": large, "a/optimizer.pt": edge, "empty": b""})
    record = json.loads((checkpoint / "dataflex" / "files.json").read_text())
    digest = {name: hashlib.sha256(data).hexdigest() for name, data in (("edge", edge), ("empty", b""))}
    assert record == {
        "ranks": 2,
        "files": {
            "a/optimizer.pt": {"size": 2**20, "sha256": digest["edge"]},
            "empty": {"size": 0, "sha256": digest["empty"]},
            "model.safetensors": {"size": 2**20 + 1},
        },
    }
    head = json.loads((checkpoint / "dataflex" / "engine.json").read_text())
    assert head["version"] == 2
    assert head["sha256"]["files.json"] == hashlib.sha256((checkpoint / "dataflex/files.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut short", "edited", "gone"])
def test_a_damaged_file_of_the_trainer_is_named_and_the_checkpoint_before_is_taken(tmp_path, name, damage):
    good, bad = write(tmp_path, 4), write(tmp_path, 5)
    path = bad / name
    data = path.read_bytes()
    if damage == "cut short":
        path.write_bytes(data[:-1])
    elif damage == "edited":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        path.unlink()
    found, skipped = checkpoints.to_resume(tmp_path)
    assert found == good and str(path) in skipped[bad]
    with pytest.raises(ConfigError, match=rf"{name}.* Resume from {good}, the last whole one before it"):
        checkpoints.require_valid(bad)


def test_a_file_added_later_a_copy_and_a_link_are_no_damage(tmp_path):
    checkpoint = write(tmp_path, 5)
    (checkpoint / "README.md").write_text("mine")
    (checkpoint / "notes").mkdir()
    copy, link = tmp_path / "elsewhere" / "best of all", tmp_path / "checkpoint-6"
    shutil.copytree(checkpoint, copy)
    link.symlink_to(copy, target_is_directory=True)
    (copy / "global_step5").rename(tmp_path / "moved")
    (copy / "global_step5").symlink_to(tmp_path / "moved", target_is_directory=True)
    assert [state.damage(path) for path in (checkpoint, copy, link)] == ["", "", ""]
    assert checkpoints.to_resume(tmp_path) == (link, {})


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b"])
def test_a_record_that_names_a_file_outside_the_checkpoint_is_damaged(tmp_path, name):
    checkpoint = write(tmp_path, 5)
    folder = checkpoint / "dataflex"
    record = json.dumps({"ranks": 1, "files": {name: {"size": 1}}})
    (folder / "files.json").write_text(record)
    head = json.loads((folder / "engine.json").read_text())
    head["sha256"]["files.json"] = hashlib.sha256(record.encode()).hexdigest()
    (folder / "engine.json").write_text(json.dumps(head))
    state.mark_complete(checkpoint)
    assert f"files.json is damaged (it names {name!r}, which is no file of a checkpoint)" in state.damage(checkpoint)


def test_what_an_abandoned_run_left_is_no_part_of_a_checkpoint_written_anew(tmp_path):
    write(tmp_path, 5)
    (tmp_path / "checkpoint-5" / "extra").mkdir()
    checkpoint = write(tmp_path, 5, files={"model.safetensors": b"weights alone"})
    assert {path.name for path in checkpoint.iterdir()} == {"model.safetensors", "dataflex"}


WEIGHTS = {"model.safetensors": b"w"}
REST = {"optimizer.pt": b"o", "scheduler.pt": b"s", "rng_state.pth": b"r"}
ZERO = {
    "global_step5/zero_pp_rank_0_mp_rank_00_optim_states.pt": b"o",
    "latest": b"global_step5",
    "rng_state_0.pth": b"r",
}


@pytest.mark.parametrize(
    ("files", "absent"),
    [
        (WEIGHTS, "optimizer state, learning-rate schedule, random state"),
        (WEIGHTS | {"scheduler.pt": b"s", "rng_state.pth": b"r"}, "optimizer state"),
        (WEIGHTS | {"optimizer.pt": b"o", "rng_state.pth": b"r"}, "learning-rate schedule"),
        (WEIGHTS | {"optimizer.pt": b"o", "scheduler.pt": b"s"}, "random state"),
        (REST, "weights"),
        (WEIGHTS | REST, ""),
        ({"model-00001-of-00002.safetensors": b"w", "model.safetensors.index.json": b"{}"} | REST, ""),
        ({"adapter_model.safetensors": b"w"} | REST, ""),
        ({"second/adapter_model.bin": b"w"} | REST, ""),
        (
            {"pytorch_model_fsdp_0/__0_0.distcp": b"w", "optimizer_0/__0_0.distcp": b"o"}
            | REST
            | {"optimizer.pt": b""},
            "",
        ),
        ({"adapter_model.safetensors": b"w"} | ZERO, ""),
        (ZERO, ""),
    ],
)
def test_what_a_resume_needs_is_told_by_what_was_saved(tmp_path, files, absent):
    checkpoint = write(tmp_path, 5, files={"trainer_state.json": b"{}"} | files)
    assert checkpoints.lacking(checkpoint) == absent
    if absent:
        with pytest.raises(ConfigError, match=rf"checkpoint-5: it holds no {absent} .*save_only_model.*Start anew"):
            checkpoints.require_resumable(checkpoint)
        write(tmp_path, 4, files={"trainer_state.json": b"{}"} | WEIGHTS | REST), write(tmp_path, 3)
        with pytest.raises(ConfigError, match=rf"Resume from {tmp_path}/checkpoint-4, the last whole one before it"):
            checkpoints.require_resumable(checkpoint)


def test_for_scoring_only_the_weights_have_to_be_there_and_what_is_there_has_to_be_whole(tmp_path):
    checkpoint = write(tmp_path, 5, files=WEIGHTS | REST)
    for name in REST:
        (checkpoint / name).unlink()
    assert state.damage(checkpoint) and not state.damage(checkpoint, weights_only=True)
    (checkpoint / "optimizer.pt").write_bytes(b"")
    assert "optimizer.pt is damaged (it has 0 bytes of 1)" in state.damage(checkpoint, weights_only=True)
    (checkpoint / "optimizer.pt").unlink()
    (checkpoint / "model.safetensors").unlink()
    assert "model.safetensors is missing" in state.damage(checkpoint, weights_only=True)


def test_nothing_is_pickled(tmp_path):
    names = {path.name for path in (write(tmp_path, 5) / "dataflex").iterdir()}
    assert names == {"engine.json", "plan.npy", "component.safetensors", "component.json", "files.json", "COMPLETE"}


def test_an_array_that_is_a_view_of_another_comes_back():
    table = np.arange(6.0).reshape(2, 3)
    given = {"turned": table.T, "column": table[:, 1], "reversed": table[::-1]}
    stored = state.round_trip(given)
    assert {name: stored[name].tolist() for name in given} == {name: each.tolist() for name, each in given.items()}


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
    checkpoint = write(tmp_path, 5, files={})
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


def of_version(checkpoint: Path, version: int) -> Path:
    path = checkpoint / "dataflex" / "engine.json"
    path.write_text(path.read_text().replace('"version": 2', f'"version": {version}'))
    state.mark_complete(checkpoint)
    return checkpoint


def test_a_checkpoint_of_a_later_core_is_refused_by_its_version_and_not_passed_over(tmp_path):
    write(tmp_path, 4)
    checkpoint = of_version(write(tmp_path, 5), 9)
    said = r"written by a later dataflex-core \(.*engine.json has version 9, this dataflex-core reads 1 and 2\)"
    for refused in (lambda: state.load(checkpoint), lambda: checkpoints.to_resume(tmp_path)):
        with pytest.raises(ConfigError, match=said) as error:
            refused()
        assert "damaged" not in str(error.value)
    with pytest.raises(ConfigError, match=rf"{said}. Use that one, or resume from {tmp_path}/checkpoint-4"):
        checkpoints.require_valid(checkpoint)


def test_a_version_that_a_flipped_bit_made_is_damage(tmp_path):
    good, bad = write(tmp_path, 4), write(tmp_path, 5)
    path = bad / "dataflex" / "engine.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 3'))
    assert checkpoints.to_resume(tmp_path)[0] == good


def test_a_checkpoint_of_version_1_holds_no_record_of_the_other_files_and_says_so(tmp_path):
    checkpoint = write(tmp_path, 5)
    (checkpoint / "dataflex" / "files.json").unlink()
    path = checkpoint / "dataflex" / "engine.json"
    head = json.loads(path.read_text())
    del head["sha256"]["files.json"]
    path.write_text(json.dumps(head | {"version": 1}))
    state.mark_complete(checkpoint)
    (checkpoint / "optimizer.pt").write_bytes(b"")
    assert state.damage(checkpoint) == "" and state.load(checkpoint).engine == engine(5)
    assert "earlier dataflex-core" in state.unchecked(checkpoint)
    path.write_text(json.dumps(head))
    state.mark_complete(checkpoint)
    assert "engine.json is damaged (it lacks files.json)" in state.damage(checkpoint)
    assert state.unchecked(write(tmp_path, 6)) == ""


def test_a_checkpoint_that_was_only_begun_was_interrupted(tmp_path):
    state.begin(tmp_path / "checkpoint-5")
    assert "COMPLETE is missing: the run was stopped while it wrote" in state.damage(tmp_path / "checkpoint-5")


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


def test_an_output_directory_in_the_place_of_a_checkpoint_is_told_as_one(tmp_path):
    write(tmp_path, 5)
    write(tmp_path, 6, complete=False)
    inside = re.escape(str(tmp_path / "checkpoint-5"))
    with pytest.raises(ConfigError, match=f"the output directory of a run and no checkpoint.*such as {inside}"):
        checkpoints.require_valid(tmp_path)


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
