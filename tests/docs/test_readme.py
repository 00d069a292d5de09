"""What the README promises to someone on a fresh machine."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.spec import Kind
from dataflex.testing import make_context
from dataflex.testing.trainee import make_rows, make_trainee

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = "pip install nox && nox -s quickstart"
TESTS = "pip install nox && nox -s tests"
PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md")),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("docs/reference/*.md"),
    *ROOT.glob("packages/**/*.md"),
]


def test_a_fresh_machine_needs_exactly_two_commands() -> None:
    assert re.findall(r"^pip install nox.*$", README, re.MULTILINE) == [QUICKSTART, TESTS]


def test_ci_runs_the_readmes_test_command() -> None:
    assert TESTS in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_every_nox_session_that_is_named_exists() -> None:
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"nox -s (\w+)", page.read_text(encoding="utf-8"))}
    assert {"quickstart", "tests", "lint"} <= named <= sessions


def test_the_readmes_selector_is_listed_when_given_as_a_file(tmp_path: Path) -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    plugins = PluginManager.load(PluginOptions(files=(tmp_path / "mine.py",))).plugins
    entry = Catalog(plugins).find(Kind.SELECTOR, "custom")
    assert entry.spec.summary == "Takes the rows that the model finds easiest."
    rows = make_rows(9, "web")
    trainee = make_trainee(tmp_path / "model", rows)
    context = make_context(rows, trainee.collator)
    chosen = entry.load()(None, context).select(trainee.model, 0, 3)
    losses = [float(context.losses(trainee.model, np.array([row])).means[row]) for row in range(9)]
    assert sorted(chosen.rows) == sorted(sorted(range(9), key=lambda row: losses[row])[:3])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []
