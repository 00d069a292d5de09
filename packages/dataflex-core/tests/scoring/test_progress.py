from __future__ import annotations

import logging
from pathlib import Path

import pytest
from rich.console import Console

from dataflex.scoring import progress as progress_module
from dataflex.scoring.progress import ScoringProgress


def _advance(console: Console, monkeypatch: pytest.MonkeyPatch, quiet: float, *, enabled: bool = True) -> None:
    monkeypatch.setattr(progress_module, "QUIET_SECONDS", quiet)
    with ScoringProgress(40, enabled=enabled, share=2, console=console) as progress:
        progress.advance(5)
        progress.advance(15)
    assert progress.done == 40


def test_a_log_file_gets_a_line_and_a_terminal_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with (tmp_path / "out").open("w+", encoding="utf-8") as file, caplog.at_level(logging.INFO, "dataflex"):
        _advance(Console(file=file, force_terminal=False), monkeypatch, 0.0)
        assert "scoring: 10 of 40 samples" in caplog.text
        assert caplog.text.count("scoring:") == 1
        caplog.clear()
        _advance(Console(file=file, force_terminal=True, width=100), monkeypatch, 0.0)
        file.seek(0)
        assert "samples/s" in file.read()
        assert caplog.text == ""


@pytest.mark.parametrize(("quiet", "enabled"), [(1e6, True), (0.0, False)])
def test_a_short_pass_and_the_other_ranks_say_nothing(
    quiet: float, enabled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with (tmp_path / "out").open("w+", encoding="utf-8") as file, caplog.at_level(logging.INFO, "dataflex"):
        _advance(Console(file=file, force_terminal=True), monkeypatch, quiet, enabled=enabled)
        file.seek(0)
        assert file.read() == caplog.text == ""
