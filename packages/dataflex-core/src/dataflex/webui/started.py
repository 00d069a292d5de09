"""What LlamaBoard's buttons do with a choice: preview, start, save and load. The visible form is not here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.config.bind import schema
from dataflex.plugins.catalog import Catalog
from dataflex.record import files
from dataflex.webui import run_file, saved
from dataflex.webui.choice import Choice
from dataflex.webui.form import entered


class Started:
    """The part of :class:`dataflex.bridge.board.Section` that needs no page.

    Args:
        catalog: The components.
        plugins: The values of ``-p``, which reach the started run.
    """

    def __init__(self, catalog: Catalog, plugins: Sequence[str] = ()) -> None:
        self._catalog, self._plugins = catalog, list(plugins)

    def run(self, arguments: Mapping[str, Any], text: str) -> dict[str, Any] | None:
        """The whole run of LlamaBoard's arguments and the field's text; ``None`` with the section off.

        Raises:
            DataFlexError: for a component that has vanished since it was chosen.
        """
        choice = Choice.from_json(text)
        if not choice.on:
            return None
        params = []
        for each in choice.components:
            params.append(entered(schema(self._catalog.find(each.kind, each.name)), each.params))
        return run_file.run_file(arguments, run_file.our_keys(choice, params), self._plugins)

    def preview(self, run: Mapping[str, Any]) -> str:
        """It as Markdown; nothing is written."""
        return run_file.preview(run, self._path(run))

    def command(self, run: Mapping[str, Any]) -> list[str]:
        """Write its run file into the output directory; gives what starts it."""
        path = self._path(run)
        files.replace_text(path, run_file.as_yaml(run))
        return run_file.command(path)

    def save(self, path: Path, text: str) -> None:
        """Keep the field's text beside a file of LlamaBoard's."""
        saved.save(path, text)

    def load(self, path: Path) -> str:
        """The text that was kept there."""
        return saved.load(path)

    @staticmethod
    def _path(run: Mapping[str, Any]) -> Path:
        return Path(os.fspath(run["output_dir"])) / run_file.NAME
