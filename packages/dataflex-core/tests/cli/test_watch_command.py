"""``dataflex watch`` as it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from queue import Queue

import pytest
from synthetic_runs import write_run

from dataflex.cli.app import main
from dataflex.watch import server


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


def test_its_page_is_opened_in_the_browser_unless_that_is_not_wanted(tmp_path: Path, monkeypatch, capsys) -> None:
    folder, opened = write_run(tmp_path / "run", done=12), list[str]()
    monkeypatch.setattr(server, "serve", lambda showing, bound: bound.close())
    monkeypatch.setattr(server, "open_browser", opened.append)
    assert call(folder) == 0
    assert f"at {opened[0]} (Ctrl-C" in capsys.readouterr().out and opened[0].startswith("http://127.0.0.1:")
    assert call(folder, "--no-browser") == 0 and len(opened) == 1


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there is always a screen there")
def test_no_browser_is_opened_without_a_screen(monkeypatch) -> None:
    opened = Queue[str]()
    monkeypatch.setattr("webbrowser.open", opened.put)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    server.open_browser("http://unseen/")
    monkeypatch.setenv("DISPLAY", ":0")
    server.open_browser("http://seen/")
    assert opened.get(timeout=60) == "http://seen/" and opened.empty()


def test_a_folder_that_is_none_and_options_that_do_nothing_are_refused(tmp_path: Path, capsys) -> None:
    assert call(tmp_path) == 2
    assert "is not the output directory of a run" in capsys.readouterr().err
    assert call(tmp_path, "--text", "--out", "x.html") == 2
    assert "--out names the file of --once" in capsys.readouterr().err
