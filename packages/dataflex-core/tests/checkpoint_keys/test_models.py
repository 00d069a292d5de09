"""A model is known by the content of its files, wherever they lie."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from dataflex.checkpoint_keys.models import identity, is_model, weight_files


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"hidden_size": 8}')
    save_file({"weight": np.arange(3000, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def test_a_copy_elsewhere_is_the_same_model(model, tmp_path):
    shutil.copytree(model, tmp_path / "elsewhere" / "copy")
    assert identity(model) == identity(tmp_path / "elsewhere" / "copy") != ""


@pytest.mark.parametrize("number", [0, 1234, 2999])
def test_one_other_number_makes_another_model(model, number):
    before = identity(model)
    weights = np.arange(3000, dtype=np.float32)
    weights[number] += 1
    save_file({"weight": weights}, model / "model.safetensors")
    assert identity(model) != before


def test_another_configuration_makes_another_model(model):
    before = identity(model)
    (model / "config.json").write_text('{"hidden_size": 8, "rope_theta": 1e6}')
    assert identity(model) != before


def test_what_lies_beside_the_weights_does_not_count(model):
    before = identity(model)
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pth", "tokenizer.json", "README.md"):
        (model / name).write_bytes(b"x")
    (model / "checkpoint-3").mkdir()
    (model / "checkpoint-3" / "model.safetensors").write_bytes(b"x")
    assert identity(model) == before
    assert [path.name for path in weight_files(model)] == ["model.safetensors"]


def test_another_shard_counts(model):
    before = identity(model)
    (model / "model-00002-of-00002.safetensors").write_bytes(b"more")
    assert identity(model) != before


def test_weights_of_another_training_differ_in_a_large_file_too(tmp_path):
    found = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        draw = np.random.default_rng(seed)
        save_file({"weight": draw.normal(size=2_000_000).astype(np.float32)}, folder / "model.safetensors")
        assert (folder / "model.safetensors").stat().st_size > 64 * 4096
        found.append(identity(folder))
    assert found[0] != found[1]


def test_the_header_of_a_large_file_counts_beyond_its_first_bytes(tmp_path):
    found = []
    for last in ("layer_a", "layer_b"):
        folder = tmp_path / last
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        names = [f"layer_{number:04d}" for number in range(400)] + [last]
        save_file({name: np.zeros(500, np.float32) for name in names}, folder / "model.safetensors")
        found.append(identity(folder))
    assert found[0] != found[1]


def test_an_adapter_is_known_without_the_place_of_its_base(tmp_path):
    found = {}
    for base, rank in (("/here/base", 8), ("/there/base", 8), ("/here/base", 4)):
        folder = tmp_path / f"{base.strip('/').replace('/', '-')}-{rank}"
        folder.mkdir()
        settings = {"base_model_name_or_path": base, "r": rank}
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        (folder / "adapter_model.bin").write_bytes(b"weights")
        found[base, rank] = identity(folder)
    assert found["/here/base", 8] == found["/there/base", 8] != found["/here/base", 4]


def test_a_folder_without_a_configuration_is_no_model(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert not is_model(tmp_path) and identity(tmp_path) == ""
    assert identity(tmp_path / "nowhere") == ""
