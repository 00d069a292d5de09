"""Pages of measurements are what the kept results say, and the results hold what they should."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MARK = re.compile(r"mark\.(fault|bad_input)\b")
DOCS, RESULTS = ROOT / "docs", ROOT / "benchmarks" / "results"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["performance", "reliability"])
def test_a_page_is_what_its_results_say(name: str) -> None:
    written = load(f"write_{name}").page()
    assert (DOCS / f"{name}.md").read_text(encoding="utf-8") == written, "run `nox -s docs -- --write`"


def test_the_newest_table_holds_every_row_that_was_settled_before() -> None:
    settled = yaml.safe_load((ROOT / "benchmarks" / "rows.yaml").read_text(encoding="utf-8"))
    table = json.loads(load("write_performance").newest().read_text(encoding="utf-8"))
    rows = {row["figure"]: row for part in table for row in part["rows"]}
    for row in (row for part in settled for row in part["rows"]):
        kept = rows[row["figure"]]
        assert {key: kept[key] for key in row} == row
        assert kept["command"].startswith("python benchmarks/")


def test_the_newest_table_holds_the_figures_that_the_scripts_kept() -> None:
    table = json.loads(load("write_performance").newest().read_text(encoding="utf-8"))
    for row in (row for part in table for row in part["rows"]):
        file, _, name = row["figure"].partition("/")
        kept = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))
        figure = kept["figures"][name]
        assert {key: row[key] for key in figure} == figure, "run `python benchmarks/table.py --write`"
        assert row["command"] == kept["command"]


def test_every_test_of_a_fault_is_on_the_page_and_no_other() -> None:
    marked = {f"{path.relative_to(ROOT)}::{name}" for path in ROOT.glob("**/test_*.py") for name in faults(path)}
    seen = {record["test"] for record in json.loads((RESULTS / "faults.json").read_text(encoding="utf-8"))}
    assert marked == seen, "run `nox -s faults`, then `nox -s docs -- --write`"


def faults(path: Path) -> list[str]:
    if ".nox" in path.parts or "mark." not in (text := path.read_text(encoding="utf-8")):
        return []
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    return [each.name for each in functions if any(MARK.search(ast.unparse(mark)) for mark in each.decorator_list)]


def test_no_result_names_a_path_of_the_machine_it_was_measured_on() -> None:
    for path in RESULTS.glob("*.json"):
        assert not any(start in path.read_text(encoding="utf-8") for start in ('"/', " /", "=/")), path.name
