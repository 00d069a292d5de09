"""The commands about components, as the parser knows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dataflex.cli.parameters import JsonOption, KindOption, PluginValues, path_option, plugin_values
from dataflex.kinds import Kind, enumerated

_PLURALS = enumerated((kind.plural for kind in Kind), "and")
_KINDS = enumerated(Kind, "or")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("list-components", help=f"List {_PLURALS}, and the plugins that could not be loaded.")(list_components)
    app.command("show-component")(show_component)
    app.command("check-component")(check_component)
    app.command("new-component")(new_component)


def list_components(
    ctx: typer.Context, kind: KindOption = None, as_json: JsonOption = False, plugin: PluginValues = None
) -> None:
    """List components, and the plugins that could not be loaded."""
    from dataflex.cli import components

    components.list_components(plugin_values(ctx, plugin), kind, as_json)


def show_component(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a component, or DIST/NAME.")],
    kind: KindOption = None,
    as_json: JsonOption = False,
    plugin: PluginValues = None,
) -> None:
    """Show a component's parameters with types, defaults and help, what it needs, and its paper."""
    from dataflex.cli import components

    components.show_component(name, plugin_values(ctx, plugin), kind, as_json)


def check_component(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a component, or DIST/NAME.")],
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="KEY=VALUE", help="A parameter of it. May be repeated.")
    ] = None,
    kind: KindOption = None,
    as_json: JsonOption = False,
    plugin: PluginValues = None,
) -> None:
    """Examine a component on a tiny run: its decisions, its traces, two ranks; exit code 1 if a check fails.

    `dataflex -p ./mine.py check-component mine --param share=0.5`

    Parameters that name domains have to name those of the tiny run: web, code and books.
    """
    from dataflex.cli.check import check_component as examine

    if not examine(name, list(param or ()), plugin_values(ctx, plugin), kind, as_json):
        raise typer.Exit(1)


def new_component(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=f"{_KINDS}.", case_sensitive=False)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What users will write as component_name.")],
    out: Annotated[Path, path_option("--out", metavar="DIR", help="Where to put the package's folder.")] = Path("."),
) -> None:
    """Write a complete package with a small working component, its tests, an example and a CI file."""
    from dataflex.cli.scaffold import new_component as write

    write(kind, name, out)
