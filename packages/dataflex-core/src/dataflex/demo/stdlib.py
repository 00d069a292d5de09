"""Rows from the standard library: docstrings, and functions without theirs. Sources are parsed, never imported."""

from __future__ import annotations

import ast
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path

from dataflex.demo.row import Domain, Row, clip

_SKIPPED = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "encodings",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
    }
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def modules() -> list[Path]:
    """Source files of the standard library, tests and bundled tools left out, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(path for path in root.rglob("*.py") if not _SKIPPED.intersection(path.relative_to(root).parts))


def module_rows(path: Path) -> Iterator[Row]:
    """Rows of one module; none from a file that is not valid Python.

    Args:
        path: A file that :func:`modules` returned.
    """
    relative = path.relative_to(sysconfig.get_path("stdlib")).with_suffix("")
    name = ".".join(part for part in relative.parts if part != "__init__")
    yield from rows_of_source(name, path.read_bytes())


def rows_of_source(module: str, source: bytes) -> Iterator[Row]:
    """Rows of a module's public functions, methods and classes.

    Args:
        module: Its dotted name.
        source: Its text. One that is not UTF-8, or not Python, has no rows.
    """
    try:
        tree = ast.parse(source)
        lines = source.decode("utf-8").replace("\r\n", "\n").split("\n")  # as the parser counts; splitlines() is not
    except (SyntaxError, ValueError):
        return
    for name, node in _definitions(tree, module):
        question = "What is" if isinstance(node, ast.ClassDef) else "What does"
        ending = "?" if isinstance(node, ast.ClassDef) else " do?"
        docstring = ast.get_docstring(node)
        if docstring:
            yield Row(Domain.DOCSTRINGS, module, f"{question} {name}{ending}", clip(docstring))
        if isinstance(node, _FUNCTIONS):
            yield Row(Domain.SOURCE, module, f"Write the function {name}.", _without_docstring(node, lines))


def _definitions(parent: ast.AST, prefix: str) -> Iterator[tuple[str, _Definition]]:
    for node in ast.iter_child_nodes(parent):
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)) or node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        yield name, node
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node, name)


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    kept = lines[node.lineno - 1 : node.end_lineno]
    if ast.get_docstring(node, clean=False) is not None:
        docstring = node.body[0]
        if len(node.body) == 1 or docstring.lineno == node.lineno or docstring.end_lineno == node.body[1].lineno:
            return ""
        assert docstring.end_lineno is not None
        del kept[docstring.lineno - node.lineno : docstring.end_lineno - node.lineno + 1]
    return clip(textwrap.dedent("\n".join(line.rstrip() for line in kept if line.strip())))
