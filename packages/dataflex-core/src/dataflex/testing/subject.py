"""The component under test: where it comes from and with which parameters."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dataflex.config.bind import BoundParams, bind
from dataflex.plugins.catalog import Catalog, CatalogEntry
from dataflex.plugins.manager import Plugin, PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.spec import Kind

GIVEN = "the parameters of the check"
"""Where values come from, for messages about them."""

Params = Mapping[str, Any] | Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A component, found as a run would find it.

    Attributes:
        name: Its name, or ``dist/name``.
        kind: Its kind; ``None`` to look in all kinds.
        params: Its parameters, or a function that makes them (and what they name) in an empty folder.
        plugins: Values of ``-p``.
    """

    name: str
    kind: Kind | None = None
    params: Params = field(default_factory=dict)
    plugins: tuple[str, ...] = ()

    @cached_property
    def _found(self) -> tuple[CatalogEntry, Plugin]:
        plugins = PluginManager.load(PluginOptions.gather(self.plugins, os.environ)).plugins
        entry = Catalog(plugins).find(self.kind, self.name)
        return entry, next(
            plugin for plugin in plugins if plugin.dist == entry.dist and entry.spec in plugin.components
        )

    def find(self) -> CatalogEntry:
        """Look it up among the plugins, which are loaded once for all checks.

        Raises:
            DataFlexError: if nothing, or more than one, provides it.
        """
        return self._found[0]

    def find_plugin(self) -> Plugin:
        """The plugin that provides it."""
        return self._found[1]

    def values(self, folder: Path) -> dict[str, Any]:
        """Its parameters as they were given."""
        if not callable(self.params):
            return dict(self.params)
        folder.mkdir(parents=True, exist_ok=True)
        return dict(self.params(folder))


def bind_values(entry: CatalogEntry, values: Mapping[str, Any]) -> BoundParams:
    """Validate parameters as a run does."""
    return bind(entry, [(GIVEN, values)])
