"""components.yaml: presets in the design note's format."""

from __future__ import annotations

import logging

import pytest

from dataflex.config.overrides import find_preset
from dataflex.config.run import read_run_file
from dataflex.errors import ConfigError
from dataflex.spec import Kind

RUN = "train_type: dynamic_select\ncomponent_name: {name}\noutput_dir: here\ncomponents_cfg_file: {file}\n"
FILE = """
selectors:
  loss:
    name: loss
    params: {focus: high, cache_dir: "${output_dir}/cache"}
  hard_first:
    name: loss
    params: {focus: high, focus_weight: 9}
  random: {}
  not_installed: {name: absent, params: {anything: 1}}
mixers:
  loss: {name: other}
"""


@pytest.fixture
def preset(tmp_path):
    def preset(name: str, file: str = "components.yaml", text: str = FILE):
        (tmp_path / "components.yaml").write_text(text)
        (tmp_path / "run.yaml").write_text(RUN.format(name=name, file=file))
        return find_preset(read_run_file(tmp_path / "run.yaml"), Kind.SELECTOR)

    return preset


def test_the_file_lies_beside_the_run_file_and_interpolates_its_keys(preset):
    assert preset("loss").params == {"focus": "high", "cache_dir": "here/cache"}


def test_the_outer_key_is_a_preset_of_the_inner_name(preset):
    found = preset("hard_first")
    assert (found.name, found.params) == ("loss", {"focus": "high", "focus_weight": 9})
    assert found.source.endswith("components.yaml")


def test_the_outer_key_names_the_component_when_there_is_no_inner_name(preset):
    assert (preset("random").name, preset("random").params) == ("random", {})


def test_a_component_the_file_does_not_list_has_its_defaults(preset):
    assert preset("less").name == "less"


def test_the_working_directory_comes_before_the_run_files_folder(preset, tmp_path, monkeypatch):
    other = tmp_path / "cwd"
    other.mkdir()
    (other / "components.yaml").write_text("selectors: {loss: {name: loss, params: {focus: low}}}")
    monkeypatch.chdir(other)
    assert preset("loss").params == {"focus": "low"}


def test_the_notes_default_path_may_be_missing(preset, caplog):
    with caplog.at_level(logging.INFO, "dataflex"):
        assert preset("loss", "src/dataflex/configs/components.yaml").params == {}
    assert "every component uses its built-in defaults" in caplog.text


def test_any_other_missing_path_is_an_error_that_says_where_it_looked(preset, tmp_path):
    with pytest.raises(
        ConfigError, match=r"components_cfg_file: mine.yaml \(from run.yaml\) does not exist; looked for"
    ):
        preset("loss", "mine.yaml")


def test_a_malformed_preset_is_named(preset):
    with pytest.raises(ConfigError, match=r"selectors.loss.params must be a mapping, not \[1\]"):
        preset("loss", text="selectors: {loss: {params: [1]}}")


def test_the_file_cannot_make_python_objects(preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)components.yaml cannot be read: .*could not determine a constructor"):
        preset("loss", text="selectors: {loss: !!python/object/apply:os.system ['echo run > pwned']}")
    assert not (tmp_path / "pwned").exists()


def test_an_outer_key_may_be_anything_and_names_no_file(preset):
    assert preset("../up", text="selectors: {../up: {name: loss}}").name == "loss"
