"""The folder of one scoring request, which one command at a time writes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataflex.errors import ConfigError
from dataflex.pool_scores.folder import ScoreFolder

ASKED = {"component": "loss", "params": {"focus": "high"}}


def test_a_second_command_waits_for_the_end_of_the_first_one_whatever_it_asks(tmp_path: Path) -> None:
    first, second = ScoreFolder(tmp_path / "out"), ScoreFolder(tmp_path / "out")
    with first.open(ASKED):
        (tmp_path / "out" / "work" / "run").mkdir()
        (tmp_path / "out" / "work" / "log").write_text("")
        for asked in (ASKED, {"component": "less"}):
            with (
                pytest.raises(ConfigError, match=rf"another run writes to --out {tmp_path / 'out'} "),
                second.open(asked),
            ):
                pass
        first.finish()
        assert [path.name for path in (tmp_path / "out" / "work").iterdir()] == ["lock"]
        with pytest.raises(ConfigError, match="another run writes"), second.open(ASKED):
            pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["request.json"]
    with second.open(ASKED):
        pass
    with pytest.raises(ConfigError, match=r"holds scores of another request: component, params\.focus differ"):
        second.check({"component": "less", "params": {}})


def test_looking_writes_nothing(tmp_path: Path) -> None:
    ScoreFolder(tmp_path / "new" / "out").check(ASKED)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_in_the_way_is_said(below: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match=r"--out .*taken.* (is a file|cannot be written to \(Not a directory: )"):
        ScoreFolder(tmp_path / "taken" / below).check(ASKED)


def test_what_a_killed_command_left_of_its_work_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "lock").write_text("")
    with ScoreFolder(tmp_path).open(ASKED):
        assert (tmp_path / "request.json").is_file()
