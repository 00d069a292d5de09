"""The page of versions, its results and what the program refuses say the same."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from dataflex.bridge.versions import TESTED

ROOT = Path(__file__).parents[2]
ROWS: list[dict[str, Any]] = json.loads((ROOT / "docs/versions.json").read_text(encoding="utf-8"))["rows"]


def test_the_page_is_what_the_results_say() -> None:
    spec = importlib.util.spec_from_file_location("write_versions", ROOT / "docs/write_versions.py")
    assert spec is not None and spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    written = (ROOT / "docs/versions.md").read_text(encoding="utf-8")
    assert written == writer.page(), "out of date: run `nox -s docs -- --write` and look at the diff"


def test_both_ends_of_each_range_were_tried_and_work() -> None:
    tried = {(row["llamafactory"], row["transformers"]) for row in ROWS if row["supported"] and row["as_promised"]}
    assert {(ours, end) for ours, ends in TESTED.items() for end in ends} <= tried


def test_the_plain_trainer_was_tried_with_a_transformers_newer_than_any_of_llamafactorys() -> None:
    (plain,) = [row for row in ROWS if not row["llamafactory"]]
    assert plain["as_promised"]
    assert Version(plain["transformers"]) > max(Version(newest) for _, newest in TESTED.values())


def test_what_is_not_supported_was_refused_with_what_to_install() -> None:
    refused = [row for row in ROWS if not row["supported"]]
    assert {row["llamafactory"] for row in refused} == set(TESTED)
    for row in refused:
        assert row["transformers"] in row["start"]
        assert re.search(
            r"Install versions that were tested together: llamafactory==\S+ with transformers", row["start"]
        )


def test_the_metadata_lets_in_what_is_tested_and_nothing_older() -> None:
    path = ROOT / "packages/dataflex-core/pyproject.toml"
    listed = map(Requirement, tomllib.loads(path.read_text(encoding="utf-8"))["project"]["dependencies"])
    needs = {need.name: need.specifier for need in listed}
    assert all(version in needs["llamafactory"] for version in TESTED)
    oldest = {
        "llamafactory": min(TESTED, key=Version),
        "transformers": min((old for old, _ in TESTED.values()), key=Version),
    }
    for name, version in oldest.items():
        assert f">={version}" in str(needs[name]).split(",")
