"""Habits that hold in every source file of every package."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("packages/*/src/**/*.py"), *ROOT.glob("packages/*/*/src/**/*.py")])
GLOBAL_SEEDERS = {"np.random.seed", "numpy.random.seed", "random.seed"}


def _nodes(kind: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kind):
                yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def test_the_scan_sees_the_packages() -> None:
    assert ROOT / "packages/dataflex-core/src/dataflex/spec.py" in SOURCES


def test_library_code_does_not_print() -> None:
    calls = [place for place, node in _nodes(ast.Call) if ast.unparse(node.func) == "print"]  # type: ignore[attr-defined]
    assert calls == []


def test_nothing_is_imported_by_a_star() -> None:
    stars = [place for place, node in _nodes(ast.ImportFrom) if node.names[0].name == "*"]  # type: ignore[attr-defined]
    assert stars == []


def test_numpy_files_are_read_and_written_without_pickle() -> None:
    careless = [
        place
        for place, node in _nodes(ast.Call)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"np.load", "np.save"}
        and not any(
            keyword.arg == "allow_pickle" and ast.unparse(keyword.value) == "False" for keyword in node.keywords
        )
    ]
    assert careless == []


def test_only_the_scope_that_restores_it_seeds_a_global_generator() -> None:
    seeded = {
        place.partition(":")[0]
        for place, node in _nodes(ast.Call)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in GLOBAL_SEEDERS
    }
    assert seeded <= {"packages/dataflex-core/src/dataflex/rng.py"}


def test_what_the_type_checker_does_not_look_at_is_counted_and_explained() -> None:
    kept = [
        line for path in SOURCES for line in path.read_text(encoding="utf-8").splitlines() if "type: ignore" in line
    ]
    assert len(kept) <= 5
    assert [line for line in kept if not re.search(r"type: ignore\[[\w-]+\]  # \w", line)] == []


def test_no_trainer_and_no_instance_is_of_any_type() -> None:
    found = re.compile(r"\b(trainer|self): Any\b")
    assert [str(path) for path in SOURCES if found.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "packages")))
def test_a_module_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body
