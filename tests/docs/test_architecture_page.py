"""docs/architecture.md shows the rooms as the contracts have them, and says where a new thing goes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
CORE = ROOT / "packages" / "dataflex-core" / "src" / "dataflex"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_architecture", ROOT / "docs" / "write_architecture.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_rooms_is_what_the_contracts_and_docstrings_say() -> None:
    assert script().page(PAGE) == PAGE, "run nox -s docs -- --write"


def test_every_room_has_a_line_under_where_does_it_go() -> None:
    section = PAGE.partition("## Where does it go?\n")[2].partition("\n## ")[0]
    answered = set(re.findall(r"`(\w+)/?", "\n".join(re.findall(r"\|[^|]*\|$", section, flags=re.M))))
    rooms = {room for layer in script().layers() for room in layer if room != "__main__"}
    assert rooms - answered == set()
    for question in ("a new rule for sampling domains", "a new loss seam", "a new file in the output directory",
                     "a check before loading", "a new kind of component", "a new command"):  # fmt: skip
        assert question in section


def test_every_room_says_what_it_may_touch() -> None:
    """The packages of the design note say that they are for compatibility, and what tests are built from says that."""
    rooms = {room for layer in script().layers() for room in layer} - {"core", "train", "utils", "testing"}
    said = {room: CORE / room / "__init__.py" for room in rooms if (CORE / room / "__init__.py").is_file()}
    assert [room for room, file in said.items() if not re.search(r"\bmay \w+", file.read_text(), re.IGNORECASE)] == []
