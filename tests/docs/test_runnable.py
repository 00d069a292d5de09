"""Every code block marked as runnable runs, page by page, each in an empty folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from page_blocks import MARK, follow, runnable_blocks

from dataflex.decisions import DecisionLog

ROOT = Path(__file__).parents[2]
FOLLOWED_ELSEWHERE = {
    "docs/your_method.md": "test_your_method.py",
    "docs/first_run.md": "below",
    "README.zh-CN.md": "it has the same code as README.md: test_readme_zh.py",
}
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/**/*.md")]
    if "_build" not in path.parts and MARK in path.read_text(encoding="utf-8")
}
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("page", sorted(set(PAGES) - set(FOLLOWED_ELSEWHERE)))
def test_the_marked_blocks_of_a_page_run(page: str, tmp_path: Path) -> None:
    blocks = runnable_blocks(PAGES[page])
    assert [block for block, _ in follow(blocks, tmp_path, {"PATH": PATH})] == blocks
    assert any(block.path is None for block in blocks), "files are written, but nothing uses them"


@pytest.mark.slow
def test_the_first_run_leads_to_four_decisions_a_baseline_and_two_reports(tmp_path: Path) -> None:
    environ = {"PATH": PATH, "HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "1"}
    said = "".join(text for _, text in follow(runnable_blocks(PAGES["docs/first_run.md"]), tmp_path, environ))
    assert "focus_weight" in said
    for component in ("loss", "random"):
        decisions = list(DecisionLog(tmp_path / "runs" / component))
        assert [(entry.component, entry.step) for entry in decisions] == [(component, step) for step in (4, 8, 12, 16)]
        assert {entry.metrics["selected"] for entry in decisions} == {16} and decisions[0].metrics["pool"] == 64
    assert (tmp_path / "report.html").stat().st_size and (tmp_path / "compare.html").stat().st_size
