"""A new component as its author meets it: written, installed, listed, checked, tested, trained, gone."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from tiny_runs import call, installed, script

from dataflex.decisions import DecisionLog
from dataflex.spec import Kind

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", Kind)
def test_a_new_component_is_listed_checked_tested_and_trains(kind: Kind, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(script("dataflex"), "new-component", kind, "fresh").returncode == 0
    source, site = tmp_path / f"fresh-{kind}", tmp_path / "site"
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--target", str(site))
    assert call(sys.executable, "-m", "pip", "install", *options, str(source)).returncode == 0
    listed = call(script("dataflex"), "list-components", "--json", **installed(site))
    row = next(row for row in json.loads(listed.stdout) if row["name"] == "fresh")
    assert (row["kind"], row["dist"], row["version"], row["status"]) == (kind, f"fresh-{kind}", "0.1.0", "loaded")

    checked = call(script("dataflex"), "check-component", "fresh", "--json", **installed(site))
    assert checked.returncode == 0, checked.stdout
    assert {row["status"] for row in json.loads(checked.stdout)} <= {"passed", "skipped"}

    own = ("-q", "-p", "no:cacheprovider", "-k", "not keeps_every_promise or decides", str(source))
    assert call(sys.executable, "-m", "pytest", *own, **installed(site)).returncode == 0

    monkeypatch.chdir(source)
    assert call(sys.executable, "-m", "dataflex.testing.tiny", "tiny").returncode == 0
    trained = call(script("dataflex"), "train", "examples/run.yaml", "use_cpu=true", **installed(site))
    assert trained.returncode == 0
    if kind is Kind.WEIGHTER:  # has no boundaries, and so no decisions
        assert "weight_ess" in (source / "runs" / "fresh" / "trainer_log.jsonl").read_text() + trained.stdout
    else:
        (decision,) = DecisionLog(source / "runs" / "fresh")
        first = 0 if kind is Kind.ORDERER else 2  # a pass is ordered as it begins
        assert (decision.dist, decision.step) == (f"fresh-{kind}", first)

    shutil.rmtree(site)
    gone = call(script("dataflex"), "list-components", "--json")
    assert "fresh" not in gone.stdout
