"""Tests marked ``fault`` hand what the user is told to ``seen``; ``--faults FILE`` keeps it for docs/reliability.md."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

_FAULTS = pytest.StashKey[list[dict[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--faults``."""
    parser.addoption("--faults", type=Path, help="file for what users are told at each fault")


@pytest.fixture
def seen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Note what the user is told in a test of a fault; returns it with every run of blanks made one."""
    marker = request.node.get_closest_marker("fault")
    assert marker is not None, "a test that uses `seen` is marked fault(WHAT, kept=WHAT_IS_KEPT)"

    def note(message: str) -> str:
        flat = re.sub(r"\s+", " ", message).strip()
        told = re.sub(r"in process \d+|\(process \d+ on \S+", "(process 4242 on node7", flat)
        record = {
            "fault": str(marker.args[0]),
            "told": told.replace(f"{tmp_path}/", "").replace(str(tmp_path), "."),
            "kept": str(marker.kwargs["kept"]),
            "test": request.node.nodeid.partition("[")[0],
        }
        request.config.stash.setdefault(_FAULTS, []).append(record)
        return flat

    return note


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was noted."""
    path, found = session.config.getoption("--faults"), session.config.stash.get(_FAULTS, [])
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
