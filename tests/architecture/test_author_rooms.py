"""The contract on what component packages import refuses what it does not name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from grimp import ImportGraph

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("imported", "kept"),
    [
        ("dataflex", True),
        ("dataflex.scoring", True),
        ("dataflex.scoring.inputs", True),
        ("dataflex.scoring_of_old", False),
        ("dataflex.trainers.engine.engine", False),
        ("dataflex.checkpoint.state", False),
        ("mine.other", True),
        ("numpy", True),
    ],
)
def test_only_the_door_and_the_rooms_named_may_be_imported(
    imported: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.delitem(sys.modules, "tools", raising=False)
    from tools.author_rooms import AuthorRooms

    graph = ImportGraph()
    for module in ("mine", "mine.selector", "dataflex", "dataflex.scoring", imported):
        graph.add_module(module)
    graph.add_import(importer="mine.selector", imported=imported)
    options = {"name": "authors", "type": "author_rooms"}
    contract = AuthorRooms("authors", {}, options | {"authors": ["mine"], "rooms": ["dataflex.scoring"]})
    checked = contract.check(graph, verbose=False)
    assert checked.kept is kept
    assert checked.metadata["found"] == ([] if kept else [f"mine.selector -> {imported}"])
