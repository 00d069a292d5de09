"""The components that a page offers: those that can be used; those that cannot are named with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataflex.kinds import Kind
from dataflex.plugins.catalog import Catalog
from dataflex.plugins.manager import Plugin, PluginStatus


@dataclass(frozen=True)
class Offered:
    """One component.

    Attributes:
        name: As a run file has it: with its distribution where several provide the name.
        summary: What it does.
        paper: Where it comes from; ``""`` if from no paper.
    """

    name: str
    summary: str
    paper: str


def offered(catalog: Catalog, kind: Kind) -> list[Offered]:
    """The usable components of a kind, by name. One of a file given with ``-p`` stands for an installed namesake."""
    usable = [each for each in catalog.entries if each.spec.kind is kind and each.status is PluginStatus.LOADED]
    found = []
    for entry in usable:
        namesakes = [each for each in usable if each.spec.name == entry.spec.name]
        inline = [each for each in namesakes if each.inline]
        if inline and not entry.inline:
            continue
        alone = len(inline or namesakes) == 1
        name = entry.spec.name if alone else f"{entry.dist}/{entry.spec.name}"
        found.append(Offered(name, entry.spec.summary, entry.spec.paper))
    return sorted(found, key=lambda each: each.name)


def broken(plugins: Sequence[Plugin], catalog: Catalog) -> list[tuple[str, str]]:
    """Name and reason of what is installed and cannot be used; what was switched off is not among it."""
    found = [(each.label, each.reason) for each in plugins if each.status is PluginStatus.BROKEN]
    return found + [
        (f"{each.spec.kind} {each.spec.name}", each.reason)
        for each in catalog.entries
        if each.status is PluginStatus.INCOMPATIBLE
    ]
