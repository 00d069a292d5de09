"""The command ``dataflex webui``, as the parser knows it."""

from __future__ import annotations

import typer

from dataflex.cli.parameters import PluginValues, plugin_values


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(webui)


def webui(ctx: typer.Context, plugin: PluginValues = None) -> None:
    """Open LlamaBoard, LlamaFactory's web page, with DataFlex in it: choose components, start a run and watch it.

    `dataflex webui`

    The Train tab has a section "DataFlex"; while it is off, LlamaBoard starts what it always does. The page is at
    `http://127.0.0.1:7860`, for this machine alone: `GRADIO_SERVER_NAME=0.0.0.0` lets others of the network open it,
    `GRADIO_SERVER_PORT` names another port. Whoever can open it can start runs and read data here.
    """
    from dataflex.cli.webui import run_webui

    run_webui(plugin_values(ctx, plugin))
