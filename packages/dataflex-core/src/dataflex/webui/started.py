"""What LlamaBoard's buttons do with a choice: check, preview, start, save and load. The visible form is not here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.config.bind import schema
from dataflex.errors import ConfigError
from dataflex.plugins.catalog import Catalog
from dataflex.record import files, lock
from dataflex.record.run import FOLDER
from dataflex.webui import run_file, saved
from dataflex.webui.choice import Choice, Chosen
from dataflex.webui.form import entered
from dataflex.webui.words import word

Check = Callable[[Mapping[str, Any]], Sequence[str]]
"""From a whole run to all that is wrong with it, as ``dataflex check-run`` says it."""


class Started:
    """The part of :class:`dataflex.bridge.board.Section` that needs no page.

    Args:
        catalog: The components.
        check: Finds what is wrong with a run.
        plugins: The values of ``-p``, which reach the started run.

    Attributes:
        folder: Output directory of the run that was started last; ``None`` before the first.
    """

    def __init__(self, catalog: Catalog, check: Check, plugins: Sequence[str] = ()) -> None:
        self._catalog, self._check, self._plugins = catalog, check, list(plugins)
        self.folder: Path | None = None

    def is_on(self, text: str) -> bool:
        """Whether the field's text asks for a run of ours."""
        return Choice.from_json(text).on

    def run(self, arguments: Mapping[str, Any], text: str) -> dict[str, Any]:
        """The whole run of LlamaBoard's arguments and the field's text.

        Raises:
            ConfigError: for a component that has vanished since it was chosen.
        """
        choice = Choice.from_json(text)
        params = [self._params(choice, each) for each in choice.components]
        return run_file.run_file(arguments, run_file.our_keys(choice, params), self._plugins)

    def _params(self, choice: Choice, chosen: Chosen) -> Mapping[str, Any]:
        try:
            entry = self._catalog.find(chosen.kind, chosen.name)
        except ConfigError:
            if choice.keys.get(run_file.PRESETS):
                return chosen.params  # the check knows the presets
            raise
        return entered(schema(entry), chosen.params)

    def refusal(self, run: Mapping[str, Any], language: str) -> str:
        """Why a run cannot start, as Markdown; ``""`` if nothing speaks against it."""
        found = list(self._check(run))
        try:
            lock.require_free(self._path(run).parent, FOLDER)
        except ConfigError as error:
            found.append(str(error))
        if not found:
            return ""
        return "\n".join([word("problems", language), "", *(f"- {as_text(each)}" for each in found)])

    def preview(self, run: Mapping[str, Any], language: str) -> str:
        """It as Markdown, below what is wrong with it; nothing is written."""
        shown = run_file.preview(run, self._path(run))
        refused = self.refusal(run, language)
        return f"{refused}\n\n{shown}" if refused else shown

    def command(self, run: Mapping[str, Any]) -> list[str]:
        """Write its run file into the output directory; gives what starts it."""
        path = self._path(run)
        files.replace_text(path, run_file.as_yaml(run))
        self.folder = path.parent
        return run_file.starting(path)

    def save(self, path: Path, text: str) -> None:
        """Keep the field's text beside a file of LlamaBoard's."""
        saved.save(path, text)

    def load(self, path: Path) -> str:
        """The text that was kept there."""
        return saved.load(path)

    @staticmethod
    def _path(run: Mapping[str, Any]) -> Path:
        return Path(os.fspath(run["output_dir"])) / run_file.NAME


def as_text(said: str) -> str:
    """A sentence as Markdown shows it, whatever stands in it."""
    return re.sub(r"([\\`*<\[$#~|])", r"\\\1", said)
