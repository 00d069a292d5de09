"""Write the table of rooms in ``docs/architecture.md`` from the layers of ``pyproject.toml``.

What a room is for is the first line of its docstring. A test fails when the table is not what they say.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ROOT / "packages" / "dataflex-core" / "src" / "dataflex"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- Made from pyproject.toml and the rooms' docstrings by `nox -s docs -- --write`. -->"
END = "<!-- End of the table of rooms. -->"


def layers() -> list[list[str]]:
    """The rooms of each layer, from the top down."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(one for one in pyproject["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    return [re.findall(r"\w+", layer) for layer in contract["layers"]]


def purpose(room: str) -> str:
    """The first line of a room's docstring."""
    package, module = CORE / room / "__init__.py", CORE / f"{room}.py"
    source = package if package.is_file() else module
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return re.sub(r":\w+:`\.*([^`]*)`", r"`\1`", docstring.partition("\n")[0]).replace("``", "`").replace("|", "\\|")


def table() -> str:
    """The table, between its marks."""
    return "\n".join([BEGIN, "", "| rooms, a layer a row | for |", "|---|---|", *_rows(), "", END])


def _rows() -> Iterator[str]:
    for rooms in layers():
        names = [room for room in rooms if room != "__main__"]
        if names:
            yield f"| {'<br>'.join(f'`{name}`' for name in names)} | {'<br>'.join(map(purpose, names))} |"


def page(text: str) -> str:
    """The page with the table as it should be.

    Args:
        text: The page as it is.
    """
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + table() + after


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
