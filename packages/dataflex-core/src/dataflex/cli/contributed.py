"""Commands that other distributions bring: entry points in the group ``dataflex.commands``.

    [project.entry-points."dataflex.commands"]
    mine = "my_package.cli:main"

``main`` takes the arguments after the command's name, unparsed but for ``--debug``, and may end with ``SystemExit``. An
entry point, not a hook: names are known without importing anybody's code, and only when a command is not one of our own
or help is asked for. A broken package breaks only its own command. What the environment says of plugins holds for
commands too.
"""

from __future__ import annotations

import os
from typing import Any

import typer
from typer.core import TyperGroup

from dataflex.cli.passthrough import Verbatim
from dataflex.errors import PluginError
from dataflex.failures.debugging import DEBUG, OPTION
from dataflex.failures.foreign import foreign
from dataflex.plugins.options import PluginOptions

GROUP = "dataflex.commands"


class CommandsOfPackages(TyperGroup):
    """The program's commands and, after them, those of packages; one of our own is never replaced.

    All take ``--debug``, but for those that hand every argument on to LlamaFactory.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in (self, *self.commands.values()):
            if not isinstance(command, Verbatim):
                command.params.append(_debug_option())

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


class _Brought(Verbatim):
    """A package's command: it gets its arguments as they are, but for ``--debug``, which is ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take ``--debug`` off, where it stands before a lone ``--``."""
        end = args.index("--") if "--" in args else len(args)
        own = [argument for argument in args[:end] if argument != OPTION]
        if len(own) < end:
            os.environ[DEBUG] = "1"
        return super().parse_args(ctx, [*own, *args[end:]])


def _debug_option() -> Any:
    """The option, as typer makes it for a command; its class takes other arguments in each version of typer."""
    alone = typer.Typer(add_completion=False)
    text = f"Show the traceback of an error after its sentence, as {DEBUG}=1 does."

    def show(wanted: bool) -> None:
        if wanted:
            os.environ[DEBUG] = "1"  # reaches ranks and whatever else the command starts

    def command(debug: bool = typer.Option(False, OPTION, callback=show, expose_value=False, help=text)) -> None:
        """Never called."""

    alone.command()(command)
    return next(option for option in typer.main.get_command(alone).params if OPTION in option.opts)


def _entry_points() -> dict[str, Any]:
    from importlib_metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def _command(point: Any) -> Any:
    dist = point.dist.name if point.dist is not None else "an installed package"
    alone = typer.Typer(add_completion=False)

    @alone.command(
        point.name, cls=_Brought, add_help_option=False, rich_help_panel="Packages", help=f"Brought by {dist}."
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
        with foreign(f"command {point.name!r} of {dist} failed"):
            main(list(ctx.args))

    return typer.main.get_command(alone)
