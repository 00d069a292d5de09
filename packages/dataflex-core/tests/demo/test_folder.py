"""The demo's folder."""

from __future__ import annotations

import pytest

from dataflex.demo.folder import prepare
from dataflex.errors import ConfigError


def test_a_folder_with_somebodys_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not a demo's"):
        prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_second_demo_clears_what_the_first_one_left_and_nothing_else(tmp_path):
    root = prepare(tmp_path / "demo")
    (root / "runs" / "random").mkdir(parents=True)
    (root / "runs" / "random" / "decisions.jsonl").write_text("{}\n")
    (root / "notes.md").write_text("mine")
    assert prepare(tmp_path / "demo") == root
    assert not (root / "runs").exists()
    assert (root / "notes.md").read_text() == "mine"


def test_a_path_that_is_a_file_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*cannot be used"):
        prepare(tmp_path / "file")
