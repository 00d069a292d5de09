"""The page "your own method in ten minutes", followed word by word in an empty folder and an environment of its own."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from page_blocks import follow, runnable_blocks

from dataflex.decisions import DecisionLog

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs/your_method.md").read_text(encoding="utf-8")


def _environment(folder: Path) -> dict[str, str]:
    """A new virtual environment that also sees what this one has installed, and installs nothing from elsewhere."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    probe = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(probe, capture_output=True, text=True, check=True).stdout.strip())
    (packages / "parent.pth").write_text("\n".join(path for path in sys.path if path and Path(path).is_dir()))
    command = folder / "bin" / "dataflex"  # as pip would have written it
    command.write_text(f"#!{python}\nfrom dataflex.cli.app import main\nmain()\n")
    command.chmod(0o755)
    offline = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "false", "HF_HUB_OFFLINE": "1"}
    return {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "ACCELERATE_USE_CPU": "1", **offline}


def test_the_page_leads_to_a_listed_checked_and_trained_component(tmp_path: Path) -> None:
    environ = _environment(tmp_path / "environment")
    work = tmp_path / "work"
    work.mkdir()
    blocks = runnable_blocks(PAGE)
    assert len(blocks) == PAGE.count("\n```") / 2
    said = "".join(text for _, text in follow(blocks, work, environ, replaces=True))
    assert "Draw samples whose loss is near the median." in said
    assert re.search(r"\d+ passed", said)
    (decision,) = DecisionLog(work / "middle-selector" / "runs" / "middle")
    assert (decision.component, decision.params["share"]) == ("middle", 0.25)
    assert decision.metrics["mean_loss"] > 0
    assert str(decision.step) in said.splitlines()[-1]


def test_the_code_on_the_page_imports_from_the_door_alone() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.S | re.M)
    imported = {
        name
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and (name := node.module or "").startswith("dataflex")
    }
    assert imported <= {"dataflex", "dataflex.testing", "dataflex.components.selector"} | {
        name for name in imported if name.startswith("dataflex_")
    }
    assert "dataflex" in imported
