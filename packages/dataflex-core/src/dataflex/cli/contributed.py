"""Commands that other distributions bring: entry points in the group ``dataflex.commands``.

    [project.entry-points."dataflex.commands"]
    mine = "my_package.cli:main"

``main`` takes the arguments after the command's name, unparsed, and may end with ``SystemExit``. An entry point, not a
hook: names are known without importing anybody's code, and only when a command is not one of our own or help is asked
for. A broken package breaks only its own command. What the environment says of plugins holds for commands too.
"""

from __future__ import annotations

import os
from typing import Any

import typer
from typer.core import TyperGroup

from dataflex.cli.passthrough import Verbatim
from dataflex.errors import PluginError
from dataflex.plugins.options import PluginOptions

GROUP = "dataflex.commands"


class CommandsOfPackages(TyperGroup):
    """The program's commands and, after them, those of packages; one of our own is never replaced."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, for help."""
        own = super().list_commands(ctx)
        return [*own, *(name for name in sorted(_entry_points()) if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by name; ``None`` if there is none."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        point = _entry_points().get(cmd_name)
        return None if point is None else _command(point)


def _entry_points() -> dict[str, Any]:
    from importlib_metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def _command(point: Any) -> Any:
    dist = point.dist.name if point.dist is not None else "an installed package"
    alone = typer.Typer(add_completion=False)

    @alone.command(
        point.name, cls=Verbatim, add_help_option=False, rich_help_panel="Packages", help=f"Brought by {dist}."
    )
    def run(ctx: typer.Context) -> None:
        refusal = PluginOptions.gather((), os.environ).refusal(dist)
        if refusal:
            raise PluginError(f"command {point.name!r} of {dist} may not run: {refusal}.")
        try:
            main = point.load()
        except Exception as error:  # whatever a package's import raises
            raise PluginError(
                f"command {point.name!r} of {dist} ({point.value}) cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        main(list(ctx.args))

    return typer.main.get_command(alone)
