"""A third party's package: built, installed, listed, trained; nothing of ours edited."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from tiny_runs import NOTE_SELECT, NOTE_SELECTOR, call, installed, script

from dataflex.decisions import DecisionLog

pytestmark = pytest.mark.slow

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-selector"
version = "3.2.1"
dependencies = ["dataflex-core"]

[project.entry-points."dataflex.components"]
acme = "acme_selector"
"""


@pytest.fixture
def site(tmp_path):
    """A folder that the third-party package was built for and installed into."""
    source = tmp_path / "source" / "src" / "acme_selector"
    source.mkdir(parents=True)
    (tmp_path / "source" / "pyproject.toml").write_text(PYPROJECT)
    (source / "__init__.py").write_text("from .custom_selector import *\n")
    (source / "custom_selector.py").write_text(NOTE_SELECTOR)
    target = tmp_path / "site"
    done = call(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--target", str(target), str(tmp_path / "source")),
    )
    assert done.returncode == 0
    return target


def test_the_notes_class_in_a_package_of_its_own_is_listed_and_trains(workshop, site):
    listed = call(script("dataflex"), "list-components", "--json", **installed(site))
    assert listed.returncode == 0
    (row,) = [row for row in json.loads(listed.stdout) if row["name"] == "custom"]
    assert (row["dist"], row["version"], row["kind"]) == ("acme-selector", "3.2.1", "selector")

    run = workshop.run_file(**NOTE_SELECT | {"component_name": "custom"})
    assert call(script("dataflex-cli"), "train", str(run), **installed(site)).returncode == 0
    records = list(DecisionLog(workshop.out / "run"))
    assert [(record.dist, record.version) for record in records] == [("acme-selector", "3.2.1")] * 2
    assert np.load(workshop.out / "run" / records[0].result_ref).tolist() == list(range(12))


def test_a_file_that_the_run_file_names_reaches_both_ranks(workshop):
    (workshop.out / "mine.py").write_text(NOTE_SELECTOR)
    keys = NOTE_SELECT | {"component_name": "custom", "plugins": ["./mine.py"]}
    run = workshop.run_file(**keys)
    done = call(script("dataflex"), "train", str(run), FORCE_TORCHRUN="1", NPROC_PER_NODE="2")
    assert done.returncode == 0
    records = list(DecisionLog(workshop.out / "run"))
    assert [record.dist for record in records] == [str(workshop.out / "mine.py")] * 2
