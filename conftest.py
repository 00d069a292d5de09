"""Tests marked ``fault`` or ``bad_input`` hand what the user is told to ``seen``; ``--faults FILE`` keeps it for
docs/reliability.md. Those that ``tests/long_forms.txt`` names are marked ``long``.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


def pytest_collection_finish() -> None:
    """Take what the test modules brought from the collector."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup() -> None:
    """Spare thousands of tiny runs what accelerate does in each: collecting, and looking at each step for packages."""
    memory, imports = (sys.modules.get(f"accelerate.utils.{name}") for name in ("memory", "imports"))
    if memory is not None and imports is not None and memory.gc is gc:
        memory.gc = _Uncollected
        imports._is_package_available = functools.cache(imports._is_package_available)


class _Uncollected:
    """In the place of ``gc``: the collector comes when it is due."""

    @staticmethod
    def collect() -> int:
        return 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a file on one worker, as those of a group are: they share what its fixtures made."""
    from xdist.scheduler import LoadGroupScheduling

    class ByFile(LoadGroupScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return str(super()._split_scope(nodeid)).partition("::")[0]

    return ByFile(config, log) if config.getvalue("dist") == "loadgroup" else None


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


_WARM = ("PYTHONPATH", "DATAFLEX_WARM_SOCKET", "DATAFLEX_WARM_PYTHON", "DATAFLEX_WARM_PATH")


@pytest.fixture(scope="session", autouse=True)
def _warm_starts() -> Iterator[None]:
    """Start ``dataflex`` by forking a process that has LlamaFactory loaded: see tests/support/warm_server.py."""
    if os.environ.get("DATAFLEX_TEST_STARTS") != "warm" or not hasattr(os, "fork"):
        yield
        return
    path, support = Path(tempfile.mkdtemp(prefix="dataflex-")) / "warm", _ROOT / "tests" / "support"
    before = {name: os.environ.get(name) for name in _WARM}
    python_path = os.pathsep.join(filter(None, [str(support / "warm"), before["PYTHONPATH"]]))
    os.environ.update(zip(_WARM, (python_path, str(path), sys.executable, python_path), strict=True))
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "DISABLE_VERSION_CHECK": "1", "DATAFLEX_WARM_SOCKET": ""}
    command = [sys.executable, str(support / "warm_server.py"), str(path)]
    # Pipes, as a fork has streams made for these: of what is written there, nobody has to seek.
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, stderr=pipe) as server:
        yield
        server.communicate()  # the end of its input is its end
    shutil.rmtree(path.parent, ignore_errors=True)
    for name, value in before.items():
        os.environ.pop(name, None)
        os.environ |= {} if value is None else {name: value}
