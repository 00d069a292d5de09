"""Tests marked ``fault`` or ``bad_input`` hand what the user is told to ``seen``; ``--faults FILE`` keeps it for
docs/reliability.md. Those that ``tests/long_forms.txt`` names are marked ``long``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

_FAULTS = pytest.StashKey[list[dict[str, str]]]()


_ROOT = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the long forms."""
    lines = (_ROOT / "tests" / "long_forms.txt").read_text(encoding="utf-8").splitlines()
    long = tuple(line.partition("  | ")[0] for line in lines if line and not line.startswith("#"))
    for item in items:
        if item.nodeid.startswith(long):
            item.add_marker(pytest.mark.long)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--faults``."""
    parser.addoption("--faults", type=Path, help="file for what users are told at each fault")


@pytest.fixture
def seen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Note what the user is told in a test of a fault; returns it with every run of blanks made one."""
    fault, wrong = (request.node.get_closest_marker(name) for name in ("fault", "bad_input"))
    assert fault or wrong, "a test that uses `seen` is marked fault(WHAT, kept=KEPT) or bad_input(WHAT, file=WHICH)"
    what = {"bad_input": str(wrong.args[0]), "file": wrong.kwargs["file"]} if wrong else {}
    what |= {"fault": str(fault.args[0]), "kept": str(fault.kwargs["kept"])} if fault else {}

    def note(message: str) -> str:
        flat = re.sub(r"\s+", " ", message).strip()
        told = re.sub(r"in process \d+|\(process \d+ on \S+", "(process 4242 on node7", flat)
        told = re.sub(r"/\S*?/pytest-of-[^/\s]+/pytest-\d+/[^/\s]+/", "", told)
        record = {
            **what,
            "told": told.replace(f"{tmp_path}/", "").replace(str(tmp_path), "."),
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
