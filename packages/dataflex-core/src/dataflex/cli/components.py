"""``dataflex list-components`` and ``dataflex show-component``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dataflex.console import print_json, print_table, stderr, stdout
from dataflex.kinds import KINDS
from dataflex.plugins.catalog import Catalog, CatalogEntry
from dataflex.plugins.manager import Plugin, PluginManager, PluginStatus
from dataflex.plugins.options import PluginOptions
from dataflex.spec import Kind

if TYPE_CHECKING:
    from dataflex.config.bind import ParamInfo

_STYLES = {
    PluginStatus.LOADED: "green",
    PluginStatus.BROKEN: "bold red",
    PluginStatus.INCOMPATIBLE: "yellow",
    PluginStatus.BLOCKED: "dim",
}


def list_components(plugin_values: Sequence[str], kind: Kind | None, as_json: bool) -> None:
    """Print every component, and a row for each plugin that could not be loaded.

    Args:
        plugin_values: The values of ``-p``.
        kind: Only components of this kind; plugins that could not be loaded stay, it may be in them.
        as_json: Print a JSON list instead of a table.
    """
    manager = _load(plugin_values)
    rows = [_entry_row(entry) for entry in Catalog(manager.plugins).entries if kind in (None, entry.spec.kind)]
    rows.sort(key=lambda row: (list(KINDS).index(row["kind"]), row["name"]))
    rows += [
        _plugin_row(plugin)
        for plugin in manager.plugins
        if plugin.status in (PluginStatus.BROKEN, PluginStatus.BLOCKED)
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        what = kind.plural if kind else "components"
        hint = f"dataflex-{kind.plural if kind else next(iter(KINDS)).plural}"
        stderr.print(f"No {what} are installed. Try: pip install {hint}", markup=False)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    for heading in ("kind", "name", "dist", "version", "status"):
        table.add_column(heading, no_wrap=True, overflow="ignore")
    table.add_column("summary", overflow="fold", min_width=24)
    for row in rows:
        cells = [row["kind"] or "-", row["name"] or "-", row["dist"], row["version"] or "-"]
        status = Text(row["status"], style=_STYLES[PluginStatus(row["status"])])
        table.add_row(*map(Text, cells), status, Text(row["reason"] or row["summary"]))
    print_table(table)


def show_component(name: str, plugin_values: Sequence[str], kind: Kind | None, as_json: bool) -> None:
    """Print what one component is, needs and takes.

    Args:
        name: Its name, or ``dist/name``.
        plugin_values: The values of ``-p``.
        kind: Its kind, when the name is used by several.
        as_json: Print a JSON object instead.

    Raises:
        DataFlexError: if it cannot be found or imported.
    """
    from dataflex.config.bind import schema

    entry = Catalog(_load(plugin_values).plugins).find(kind, name)
    spec = entry.spec
    infos = schema(entry)
    if as_json:
        params = [_param(info) for info in infos]
        print_json({**_entry_row(entry), "params": params, "legacy": {**spec.legacy}, "refused": {**spec.refused}})
        return
    from rich.text import Text

    row = _entry_row(entry)
    stdout.print(Text(f"{spec.kind} {spec.name}", style="bold"), soft_wrap=True)
    if spec.summary:
        stdout.print(Text(spec.summary), soft_wrap=True)
    facts = {
        "dist": entry.label,
        "target": row["target"],
        "api": str(spec.api),
        "needs": ", ".join(row["needs"]) or "nothing",
        "stochastic": "yes" if spec.stochastic else "no",
        "paper": spec.paper or "-",
    }
    for label, value in facts.items():
        stdout.print(Text(f"{label + ':':<12}{value}"), soft_wrap=True)
    stdout.print()
    if infos:
        _print_params(infos)
    else:
        stdout.print("It has no parameters.")
    for what, sentences in (("ignored", spec.legacy), ("refused", spec.refused)):
        if sentences:
            stdout.print()
        for old, sentence in sentences.items():
            stdout.print(Text(f"{old} is {what}: {sentence}"), soft_wrap=True)


def _print_params(infos: Sequence[ParamInfo]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    for heading in ("parameter", "type", "default"):
        table.add_column(heading, no_wrap=True, overflow="ignore")
    table.add_column("help", overflow="fold", min_width=24)
    for info in infos:
        help_text = f"{info.help} Must be {info.limits}." if info.limits else info.help
        table.add_row(Text(info.name), Text(info.type), Text(_spell_default(info)), Text(help_text))
    print_table(table)


def _load(plugin_values: Sequence[str]) -> PluginManager:
    return PluginManager.load(PluginOptions.gather(plugin_values, os.environ))


def _entry_row(entry: CatalogEntry) -> dict[str, Any]:
    spec = entry.spec
    return {
        "kind": spec.kind,
        "name": spec.name,
        "dist": entry.dist,
        "version": entry.version,
        "status": entry.status,
        "reason": entry.reason,
        "summary": spec.summary,
        "inline": entry.inline,
        "api": spec.api,
        # The module of a file has a made-up name; its path says more.
        "target": f"{entry.dist}:{spec.target.partition(':')[2]}" if entry.inline else spec.target,
        "needs": sorted(spec.needs),
        "stochastic": spec.stochastic,
        "paper": spec.paper,
    }


def _plugin_row(plugin: Plugin) -> dict[str, Any]:
    return {
        "kind": None,
        "name": None,
        "dist": plugin.dist,
        "version": plugin.version,
        "status": plugin.status,
        "reason": plugin.reason,
        "summary": "",
        "inline": plugin.inline,
    }


def _param(info: ParamInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "type": info.type,
        "default": info.default,
        "required": info.required,
        "help": info.help,
        "range": str(info.limits),
    }


def _spell_default(info: ParamInfo) -> str:
    return "required" if info.required else repr(info.default)
