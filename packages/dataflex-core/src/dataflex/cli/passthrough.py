"""Commands that LlamaFactory has: handed on with every argument untouched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperCommand

COMMANDS: Mapping[str, str] = {
    "export": "Merge adapters and export a model (LlamaFactory).",
    "chat": "Chat with a model in the terminal (LlamaFactory).",
    "api": "Serve a model over an OpenAI-style API (LlamaFactory).",
    "webchat": "Chat with a model in the browser (LlamaFactory).",
    "env": "Show the environment (LlamaFactory).",
}


def register(app: typer.Typer) -> None:
    """Add LlamaFactory's commands to an application."""
    for name, summary in COMMANDS.items():
        app.command(name, help=summary, cls=Verbatim, add_help_option=False, rich_help_panel="LlamaFactory")(_hand_on)


_DEAF = "env"
"""The command of LlamaFactory that starts at once, whatever it is asked for."""


def _hand_on(ctx: typer.Context) -> None:
    if ctx.info_name == _DEAF and ctx.args in (["-h"], ["--help"]):
        typer.echo(ctx.get_help())
        return
    from dataflex.bridge.llamafactory import run_command

    run_command([str(ctx.info_name), *ctx.args])


class Verbatim(TyperCommand):
    """A command that parses nothing, so that ``--help``, ``-p`` and a lone ``--`` reach whoever is called."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep every argument for the command."""
        ctx.args = list(args)
        return []
