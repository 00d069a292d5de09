"""A contract of import-linter: the packages of component authors import the door and the rooms meant for them alone."""

from __future__ import annotations

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output
from importlinter.application import contract_utils

DOOR = "dataflex"


class AuthorRooms(Contract):
    """Lists what may be imported, so that a room that is added later is refused until somebody lists it.

    Options:
        authors: Packages to check.
        rooms: Modules and packages of core that they may import directly, beside ``dataflex`` itself.
        ignore_imports: Imports that are allowed nevertheless.
    """

    type_name = "author_rooms"

    authors = fields.SetField(subfield=fields.ModuleField())
    rooms = fields.SetField(subfield=fields.ModuleField())
    ignore_imports = fields.SetField(subfield=fields.ImportExpressionField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look at the direct imports of every module of the authors."""
        named: Any = self
        removed = contract_utils.remove_ignored_imports_and_report(
            graph=graph,
            ignore_imports=named.ignore_imports,
            unmatched_alerting=contract_utils.AlertLevel.ERROR,
        )
        rooms = {room.name for room in named.rooms}
        if missing := rooms - graph.modules:
            raise ValueError(f"rooms names what does not exist: {', '.join(sorted(missing))}")
        found = []
        for author in sorted(author.name for author in named.authors):
            for module in sorted({author} | graph.find_descendants(author)):
                for imported in sorted(graph.find_modules_directly_imported_by(module)):
                    if imported.startswith(f"{DOOR}.") and not _inside(imported, rooms):
                        found.append(f"{module} -> {imported}")
        return ContractCheck(
            kept=not found,
            warnings=list(removed.warnings),
            ignored_import_count=removed.ignored_import_count,
            metadata={"found": found},
        )

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Name each import, and what may be imported in its place."""
        for line in check.metadata["found"]:
            output.print_error(line, bold=False)
        rooms = ", ".join(sorted(room.name for room in vars(self)["rooms"]))
        output.print_error(f"Import from {DOOR} itself, or from {rooms}.", bold=False)


def _inside(module: str, rooms: set[str]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)
