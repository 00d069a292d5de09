"""What ``nox -s tests`` leaves out is there, and some test of each file stays."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "tests" / "long_forms.txt").read_text(encoding="utf-8").splitlines()
FORMS = [line.split("  | ") for line in LINES if line and not line.startswith("#")]


def functions(file: str) -> list[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def test_every_line_names_a_test_and_what_stays_for_it() -> None:
    for form, *stays in FORMS:
        file, _, name = form.partition("::")
        assert any(f"{each}[".startswith(name) or name.startswith(each) for each in functions(file)), form
        assert len(stays) == 1 and stays[0].strip(), form


def test_some_test_of_each_file_stays() -> None:
    whole = defaultdict(list)
    for form, _ in FORMS:
        file, _, name = form.partition("::")
        if "[" not in name:
            whole[file].append(name)
    for file, names in whole.items():
        assert any(not each.startswith(tuple(names)) for each in functions(file)), file
