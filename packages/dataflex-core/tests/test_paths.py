"""A ``~`` is a home folder in every key that names a path, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataflex.config.run import read_run_file
from dataflex.paths import LISTS_OF_PATHS, PATH_KEYS, expand_keys, user_path

NO_PATHS = {
    "export_size": "a size",
    "export_legacy_format": "a switch",
    "data_shared_file_system": "a switch",
    "overwrite_output_dir": "a switch",
    "enable_torch_profiler": "a switch",
    "profiler_profile_memory": "a switch",
    "skip_memory_metrics": "a switch",
    "profiler_warmup_steps": "a number",
    "profile_modules": "names of modules",
    "vllm_config": "JSON",
    "sglang_config": "JSON",
    "liger_kernel_config": "a mapping",
    "parallelism_config": "an object",
}
"""Keys of LlamaFactory whose help speaks of files, and what they are."""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return str(tmp_path)


def test_every_key_of_llamafactory_that_speaks_of_a_path_is_known_as_one():
    import dataclasses

    from llamafactory.hparams import parser

    words = ("path", "folder", "directory", "file")
    endings = ("_dir", "_path", "_file", "_folder", "_config")
    speaking = {
        item.name
        for group in parser._TRAIN_ARGS
        for item in dataclasses.fields(group)
        if any(word in str(item.metadata.get("help", "")).lower() for word in words) or item.name.endswith(endings)
    }
    assert speaking - PATH_KEYS - LISTS_OF_PATHS - set(NO_PATHS) == set()


@pytest.mark.parametrize("key", sorted(PATH_KEYS - {"plugins", "components_cfg_file"}))
def test_a_home_folder_is_expanded_in_a_run_file_and_on_the_command_line(tmp_path, home, key):
    path = tmp_path / "run.yaml"
    path.write_text(f"{key}: ~/some/where\n")
    assert read_run_file(path).llamafactory == {key: f"{home}/some/where"}
    assert read_run_file(path, [f"{key}=~/else"]).llamafactory == {key: f"{home}/else"}


def test_each_of_several_adapters_is_expanded(home):
    keys = {"adapter_name_or_path": "~/one, org/two,~/three", "ref_model_adapters": "~"}
    assert expand_keys(keys) == {
        "adapter_name_or_path": f"{home}/one, org/two,{home}/three",
        "ref_model_adapters": home,
    }


@pytest.mark.parametrize(
    "value", ["runs/x", "./~/x", "a/~", "org/model", "$HOME/x", "~nobody-of-that-name/x", {"a": "~/x"}, True, None, 3]
)
def test_nothing_else_about_a_value_changes(home, value):
    assert expand_keys({"output_dir": value, "dataset_dir": value}) == {"output_dir": value, "dataset_dir": value}


def test_texts_that_are_no_paths_keep_their_tilde(home):
    keys = {"run_name": "~/x", "dataset": "~/x", "default_system": "~/x", "component_params": {"prompt": "~/x"}}
    assert expand_keys(keys) == keys


def test_paths_of_the_command_line_are_expanded(home, tmp_path):
    from typer.testing import CliRunner

    from dataflex.cli.app import app

    assert user_path("~/x") == Path(home, "x")
    (tmp_path / "bad.yaml").write_text("- 1\n")
    outcome = CliRunner().invoke(app, ["check-run", "~/bad.yaml"])
    assert f"run file {tmp_path / 'bad.yaml'} holds a list" in str(outcome.exception)
