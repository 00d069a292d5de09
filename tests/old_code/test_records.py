"""A run leaves the same records, rows and weights as under the core of before the rooms moved: both train here and now.

``make_packages.py f3a71b2 --core`` made the archive. No hash is kept: weights differ from one processor to the next.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
CORE, PACKAGES = HERE / "core-f3a71b2.tar.xz", HERE / "packages-f3a71b2.zip"
RUNS = ("select", "less", "mix", "weight")
TIMES = re.compile(r"(.*_)?seconds|.*_per_second|timing|versions?|started|run_id")
DROPPED = {"less": {"last_rows", "score_quantiles"}}
"""What ``less`` reported of itself and core does for every selector."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("records")
    old = folder / "old"
    with tarfile.open(CORE) as core, zipfile.ZipFile(PACKAGES) as packages:
        core.extractall(old, filter="data")
        packages.extractall(old)  # noqa: S202 - made by us
    found = []
    for name, first in (("then", [str(old)]), ("now", [])):
        (folder / name).mkdir()
        path = os.pathsep.join([*first, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        subprocess.run(
            [sys.executable, str(HERE / "record_runs.py"), "left.json"],
            cwd=folder / name,
            env={**os.environ, "PYTHONPATH": path},
            check=True,
            timeout=600,
        )
        found.append(json.loads((folder / name / "left.json").read_text()))
    return found[0], found[1]


def without_times(value: Any) -> Any:
    """A record without what no two runs have in common."""
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if not TIMES.fullmatch(key)}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def agree(then: Any, now: Any) -> None:
    """All fields of before, in their order and with their values; later ones may stand among them."""
    if isinstance(then, dict):
        assert [key for key in now if key in then] == list(then)
        for key, value in then.items():
            agree(value, now[key])
    else:
        assert now == then


def test_the_archive_holds_a_whole_core() -> None:
    with tarfile.open(CORE) as core:
        names = core.getnames()
    assert {"dataflex/__init__.py", "dataflex/py.typed", "dataflex/trainers/dynamic.py"} <= set(names)


@pytest.mark.parametrize("run", RUNS)
def test_a_run_that_was_stopped_once_trains_on_the_same_rows_to_the_same_weights(both, run: str) -> None:
    then, now = (left[run] for left in both)
    assert now["plans"] == then["plans"] and now["weights"] == then["weights"]
    of_the_run = {name for name in then["files"] if not name.startswith("cache/") and "component." not in name}
    assert of_the_run <= set(now["files"])


@pytest.mark.parametrize("run", RUNS)
def test_a_run_writes_the_records_of_before(both, run: str) -> None:
    then, now = (left[run] for left in both)
    decisions = [[json.loads(line) for line in left["decisions"].splitlines()] for left in (then, now)]
    assert len(decisions[0]) == len(decisions[1]) and (len(decisions[0]) > 0) == (run != "weight")
    for before, after in zip(*map(without_times, decisions), strict=True):
        metrics = before.pop("metrics"), after.pop("metrics")
        agree({key: value for key, value in metrics[0].items() if key not in DROPPED.get(run, ())}, metrics[1])
        agree(before, after)
    before, after = (without_times(json.loads(left["run"])) for left in (then, now))
    for info in (before, after):
        info["ending"]["metrics"] = None
    agree(before, after)
