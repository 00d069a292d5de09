"""Names that a terminal or log file cannot encode, as on build servers and consoles of other code pages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = """
from dataflex import Selector, register_selector

@register_selector("慢")
class Slow(Selector):
    "Takes its time: 慢 é 😀."
    def __init__(self, params=None, context=None, *, 比例: float = 0.5):
        super().__init__(params, context)
"""


def dataflex(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIOENC"))}
    command = [sys.executable, "-m", "dataflex", *arguments]
    return subprocess.run(command, cwd=folder, env={**keep, **environ}, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("names")
    (made / "汉").mkdir()
    (made / "汉" / "插件.py").write_text(PLUGIN, encoding="utf-8")
    return made


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "gbk"])
@pytest.mark.parametrize("command", [["list-components"], ["show-component", "慢"]])
def test_names_that_cannot_be_encoded_are_replaced(folder: Path, encoding: str, command: list[str]) -> None:
    done = dataflex(folder, "-p", "./汉/插件.py", *command, PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    assert done.returncode == 0 and b"Traceback" not in done.stderr + done.stdout
    shown = done.stdout.decode(encoding)
    assert ("慢" if encoding == "gbk" else "\\u6162") in shown
    assert "\\U0001f600" in shown


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_can_be_read_back_in_any_encoding(folder: Path, encoding: str) -> None:
    command = ["-p", "./汉/插件.py", "show-component", "慢", "--json"]
    done = dataflex(folder, *command, PYTHONIOENCODING=encoding, PYTHONUTF8="1")
    shown = json.loads(done.stdout.decode(encoding))
    assert (shown["name"], shown["summary"]) == ("慢", "Takes its time: 慢 é 😀.")
    assert ("慢".encode() in done.stdout) is (encoding == "utf-8")


def test_errors_with_such_names_are_told(folder: Path) -> None:
    done = dataflex(folder, "show-component", "快", PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert done.returncode == 2 and b"\\u5feb" in done.stderr and b"Traceback" not in done.stderr


def test_a_python_whose_file_names_are_not_unicode_is_told_what_to_set(folder: Path) -> None:
    places = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = dataflex(folder, "-p", "./汉/插件.py", "list-components", **places)
    assert b"PYTHONUTF8=1" in done.stderr and b"Traceback" not in done.stderr
    assert done.returncode == 0 and b"broken" not in done.stdout and b"\\u6162" in done.stdout
    assert b"PYTHONUTF8" not in dataflex(folder, "list-components", LC_ALL="C.UTF-8").stderr


def test_a_report_of_a_folder_whose_name_is_not_unicode_is_written(folder: Path) -> None:
    (folder / "结果").mkdir()
    history = [{"step": step, "loss": 1.0 / step} for step in (1, 2)]
    (folder / "结果" / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    places = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = dataflex(folder, "report", "结果", "--out", "report.html", **places)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert "\\udce7" in (folder / "report.html").read_text(encoding="utf-8")
