"""``-p`` and the environment, merged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflex.errors import ConfigError
from dataflex.plugins.options import HANDED_DOWN, PluginOptions, normalise

DISTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).map(normalise)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "with a blank"
    folder.mkdir()
    (folder / "mine.py").write_text("")
    return folder / "mine.py"


def test_a_relative_path_becomes_absolute(mine):
    assert PluginOptions.gather(["./with a blank/mine.py"], {}).files == (mine,)


def test_the_same_file_twice_counts_once(mine):
    assert PluginOptions.gather([str(mine), "with a blank/mine.py"], {}).files == (mine,)


def test_a_path_with_a_blank_reaches_a_child_in_another_folder(mine, tmp_path, monkeypatch):
    handed = PluginOptions.gather(["with a blank/mine.py", "no:Acme_Tools"], {}).to_environment()
    monkeypatch.chdir(mine.parent)
    assert json.loads(handed[HANDED_DOWN]) == [str(mine), "no:acme-tools"]
    again = PluginOptions.gather([], handed)
    assert (again.files, again.blocked) == ((mine,), {"acme-tools"})


@given(st.frozensets(DISTS), st.frozensets(DISTS, min_size=1) | st.none(), st.booleans())
def test_a_child_sees_the_same_options(blocked, only, disabled):
    options = PluginOptions(blocked=blocked, only=only, disabled=disabled)
    assert PluginOptions.gather([], options.to_environment()) == options


def test_no_options_leave_no_trace_in_the_environment():
    assert PluginOptions.gather([], {}).to_environment() == {}


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"-p \./gone\.py: the file does not exist \(working directory .*\)"):
        PluginOptions.gather(["./gone.py"], {})


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(ConfigError, match=r"is a folder; name the \.py file in it"):
        PluginOptions.gather([str(tmp_path)], {})


@pytest.mark.parametrize("value", ["acme", "", "mine.txt"])
def test_a_bare_word_is_refused_and_both_forms_are_shown(value):
    with pytest.raises(ConfigError, match=r"neither a file nor a switch.*no:DIST"):
        PluginOptions.gather([value], {})


@pytest.mark.parametrize("value", ["no:", "no:./mine.py", "no:two words"])
def test_no_takes_the_name_of_a_distribution(value):
    with pytest.raises(ConfigError, match="is not a distribution's name"):
        PluginOptions.gather([value], {})


def test_load_plugins_names_distributions_in_any_spelling():
    options = PluginOptions.gather([], {"DATAFLEX_LOAD_PLUGINS": " Acme_Tools, other.dist ,"})
    assert options.only == {"acme-tools", "other-dist"}


def test_an_empty_load_plugins_means_all():
    assert PluginOptions.gather([], {"DATAFLEX_LOAD_PLUGINS": ""}).only is None


@pytest.mark.parametrize(("word", "disabled"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_no_plugins_is_a_switch(word, disabled):
    assert PluginOptions.gather([], {"DATAFLEX_NO_PLUGINS": word}).disabled is disabled


def test_a_switch_that_is_neither_on_nor_off_is_refused():
    with pytest.raises(ConfigError, match="DATAFLEX_NO_PLUGINS=maybe is neither on nor off; set it to 1 or 0"):
        PluginOptions.gather([], {"DATAFLEX_NO_PLUGINS": "maybe"})


@pytest.mark.parametrize("text", ["./mine.py", '{"a": 1}', "[1]"])
def test_garbage_from_a_parent_is_refused(text):
    with pytest.raises(ConfigError, match=r"is not a JSON list.*Unset it"):
        PluginOptions.gather([], {HANDED_DOWN: text})


def test_home_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("")
    assert PluginOptions.gather(["~/mine.py"], {}).files == (Path(tmp_path, "mine.py"),)
