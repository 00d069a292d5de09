"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from dataflex.kinds import Kind
from dataflex.paths import user_path

path_argument = functools.partial(typer.Argument, parser=user_path)
path_option = functools.partial(typer.Option, parser=user_path)

PluginValues = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--plugin",
        metavar="FILE|no:DIST",
        help="Load a Python file with components, or switch an installed plugin off. May be repeated.",
    ),
]
KindOption = Annotated[Kind | None, typer.Option("--kind", help="Only this kind.", case_sensitive=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def plugin_values(ctx: typer.Context, own: list[str] | None) -> list[str]:
    """The values of ``-p`` before and after the command's name."""
    return [*(ctx.obj or ()), *(own or ())]
