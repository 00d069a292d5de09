"""``dataflex webui``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.bridge import versions
from dataflex.bridge.importing import uncollected
from dataflex.cli.early import examine
from dataflex.config.run import read_run_file
from dataflex.config.theirs import is_enabled
from dataflex.console import stdout
from dataflex.errors import DataFlexError
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.webui import run_file

ADDRESS = "GRADIO_SERVER_NAME"
"""Gradio's variable for the address to listen at; LlamaBoard listens at all of them without it."""

_HERE, _SHARE = "127.0.0.1", "GRADIO_SHARE"


def run_webui(plugin_values: Sequence[str]) -> None:
    """Open LlamaBoard with DataFlex in it, and serve it until Ctrl-C.

    Args:
        plugin_values: The values of ``-p``.

    Raises:
        ConfigError: without gradio, or with another version of it.
        IncompatibleError: for a LlamaFactory that is not known to work here.
    """
    from dataflex.bridge.board_seams import require_gradio

    versions.require()
    require_gradio()
    options = PluginOptions.gather(plugin_values, os.environ)
    plugins = PluginManager.load(options)
    if not os.environ.get(ADDRESS):
        os.environ[ADDRESS] = _HERE
        told = f"LlamaBoard listens at {_HERE}, for this machine alone; {ADDRESS}=0.0.0.0 opens it to the network."
        if is_enabled(_SHARE):
            told = f"{_SHARE} is set: besides {_HERE}, LlamaBoard is open to all who know its link. Unset it for none."
        stdout.print(told, soft_wrap=True)
    run_board, section = _load()
    run_board(section(plugins, problems_of, plugin_values))


@uncollected()
def _load() -> tuple[Any, Any]:
    from dataflex.bridge.board import run_board
    from dataflex.bridge.board_seams import Board
    from dataflex.webui.section import Section

    Board.load()
    return run_board, Section


def problems_of(run: Mapping[str, Any]) -> list[str]:
    """All that is wrong with a run, as ``dataflex check-run`` says it; nothing is written where the run will write."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / run_file.NAME
        path.write_text(run_file.as_yaml(run), encoding="utf-8")
        try:
            examine(read_run_file(path), (), starts=False)
        except DataFlexError as error:
            return str(error).splitlines()
    return []
