"""What several folders of tests need: distributions that exist for the length of one test."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from dataflex.plugins.options import HANDED_DOWN, LOAD_PLUGINS, NO_PLUGINS


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on ``sys.path``; what is imported from it is forgotten after the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    for variable in (HANDED_DOWN, LOAD_PLUGINS, NO_PLUGINS):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def fake_dist(site: Path) -> Callable[..., None]:
    """Install a distribution: a module and the metadata pip would leave."""

    def install(
        dist: str, code: str, *, version: str = "1.0", module: str | None = None, entry_points: str | None = None
    ) -> None:
        module = module or dist.replace("-", "_") + "_plugin"
        (site / f"{module}.py").write_text(dedent(code), encoding="utf-8")
        info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        points = entry_points if entry_points is not None else f"[dataflex.components]\nmain = {module}\n"
        (info / "entry_points.txt").write_text(points, encoding="utf-8")
        importlib.invalidate_caches()

    return install


@pytest.fixture(autouse=True)
def _logger_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("dataflex")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers
