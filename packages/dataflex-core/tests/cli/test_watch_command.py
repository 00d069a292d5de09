"""``dataflex watch`` as it is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_runs import write_run

from dataflex.cli.app import main


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["watch", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_one_look_is_written_into_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    folder = write_run(tmp_path / "run", done=12)
    monkeypatch.chdir(tmp_path)
    assert call(folder, "--once") == 0
    assert "Page: watch.html" in capsys.readouterr().out and "12 of 45" in (tmp_path / "watch.html").read_text()
    assert call(folder, "--once", "--out", tmp_path / "other.html") == 0
    assert (tmp_path / "other.html").exists()


def test_one_look_in_a_terminal(tmp_path: Path, capsys) -> None:
    assert call(write_run(tmp_path / "run", done=12), "--text", "--once") == 0
    assert "12 of 45" in capsys.readouterr().out


def test_a_folder_that_is_none_and_options_that_do_nothing_are_refused(tmp_path: Path, capsys) -> None:
    assert call(tmp_path) == 2
    assert "is not the output directory of a run" in capsys.readouterr().err
    assert call(tmp_path, "--text", "--out", "x.html") == 2
    assert "--out names the file of --once" in capsys.readouterr().err
