"""Write the pages of ``docs/reference/`` that are made from the code: ``nox -s docs -- --write``.

They are committed, so that they can be read where the code is hosted; a test fails when they are out of date.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from importlib_metadata import entry_points

from dataflex.cli import contributed, passthrough
from dataflex.cli.app import app
from dataflex.config.bind import LEGACY_NAMES, RUN_NAMES, ParamInfo, schema
from dataflex.config.keys import COMPONENT_KEYS, PRESET_KEYS, REQUIRED, RUN_KEYS, Key
from dataflex.plugins import hookspecs
from dataflex.plugins.catalog import Catalog, CatalogEntry
from dataflex.plugins.manager import PluginManager
from dataflex.plugins.options import PluginOptions
from dataflex.runs import TrainType
from dataflex.spec import Kind

FOLDER = Path(__file__).parent / "reference"
FIRST_PARTY = "dataflex-"
_MADE = "<!-- Made from the code by `nox -s docs -- --write`. -->\n"


def cli() -> str:
    """Every command with its arguments and options."""
    program: Any = typer.main.get_command(app)
    commands = {name: command for name, command in program.commands.items() if name not in passthrough.COMMANDS}
    for point in sorted(entry_points(group=contributed.GROUP), key=lambda point: point.name):
        if point.dist is not None and point.dist.name.startswith(FIRST_PARTY):
            commands[point.name] = typer.main.get_command(import_module(point.module).app)
    rows = [(f"`dataflex {name}`", summary) for name, summary in passthrough.COMMANDS.items()]
    return _page(
        "Command line",
        "`dataflex`, `dataflex-cli` and `python -m dataflex` are the same program. Every command takes `--help` "
        "and, but for those of LlamaFactory, `--debug`.",
        _table(("option", "meaning"), [_option(item) for item in program.params if item.name != "help"]),
        *(_command(name, command) for name, command in commands.items()),
        "## Commands of LlamaFactory\n\nHanded on with every argument untouched.",
        _table(("command", "meaning"), rows),
    )


def configuration() -> str:
    """Every key of a run file and of a ``components.yaml``."""
    presets = ", ".join(f"`{kind.plural}`" for kind in Kind)
    return _page(
        "Configuration keys",
        "What each key does in full, and what is refused, is in [Configuration](../configuration.md).",
        "## Keys of a run file",
        _keys(RUN_KEYS, used_by=True),
        "## Keys of one component under `components`\n\nA name alone stands for a mapping with that `name`. What "
        "several components do together is in [Several components](../composing.md).",
        _keys(COMPONENT_KEYS, used_by=False),
        f"## Keys of a `components.yaml`\n\nIts sections are {presets}. Below them stand presets, each under the name "
        "that `component_name` or `components` says, with these keys:",
        _keys(PRESET_KEYS, used_by=False),
        "## Parameters that every component accepts\n\n"
        f"{_names(RUN_NAMES)}, with the run's own values as defaults.\n\n"
        f"Ignored with a warning by components that have no such parameter: {_names(sorted(LEGACY_NAMES))}.",
    )


def hooks() -> str:
    """Every hook with its exact signature."""
    names = [name for name in vars(hookspecs) if name.startswith("dataflex_")]
    return _page(
        "Hooks",
        "A plugin module implements any of these functions, marked with `dataflex.hookimpl`; it leaves out arguments "
        "it does not need. What they are called with is in [the Python API](api.md). "
        "[Plugins](../plugins.md#hooks) shows them at work.",
        *(_hook(name, getattr(hookspecs, name)) for name in names),
    )


def components() -> str:
    """Every first-party component with its parameters."""
    catalog = Catalog(PluginManager.load(PluginOptions()).plugins)
    ours = [entry for entry in catalog.entries if entry.dist.startswith(FIRST_PARTY)]
    ours.sort(key=lambda entry: (list(Kind).index(entry.spec.kind), entry.spec.name))
    return _page(
        "Components",
        "The components of this repository, as `dataflex show-component NAME` prints them. Parameters are set under "
        "`component_params`.",
        *(_component(entry) for entry in ours),
    )


PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": cli,
    "components.md": components,
    "configuration.md": configuration,
    "hooks.md": hooks,
}


def _command(name: str, command: Any) -> str:
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option" and item.name != "help"]
    words = ["dataflex", name, *(["[OPTIONS]"] if options else []), *(_usage(item) for item in arguments)]
    tables = []
    if arguments:
        rows = [(f"`{item.metavar}`", item.help) for item in arguments]
        tables.append(_table(("argument", "meaning"), rows))
    if options:
        tables.append(_table(("option", "meaning"), [_option(item) for item in options]))
    return "\n\n".join([f"## `dataflex {name}`", f"```text\n{' '.join(words)}\n```", command.help, *tables])


def _usage(argument: Any) -> str:
    return str(argument.metavar) if argument.required else f"[{argument.metavar}]"


def _option(option: Any) -> tuple[str, str]:
    value = "" if getattr(option, "is_flag", False) else f" {option.metavar or option.name.upper()}"
    spelt = ", ".join(f"`{name}{value if name.startswith('--') else ''}`" for name in option.opts)
    default = "" if option.default in (None, False) else f" Default: `{option.default}`."
    return spelt, f"{option.help}{default}"


def _keys(keys: Iterable[Key], *, used_by: bool) -> str:
    heads = ("key", "value", "default", *(("read under",) if used_by else ()), "meaning")
    rows = []
    for key in keys:
        name = f"[`{key.name}`](../configuration.md#{key.name})" if used_by else f"`{key.name}`"
        types = ("every `train_type`" if len(key.used_by) == len(TrainType) else _train_types(key),) if used_by else ()
        default = f"**{key.default}**" if key.default == REQUIRED else key.default
        rows.append((name, f"`{key.type}`", default, *types, key.help))
    return _table(heads, rows)


def _train_types(key: Key) -> str:
    return _names(train_type for train_type in TrainType if train_type in key.used_by)


def _hook(name: str, function: Callable[..., Any]) -> str:
    signature = str(inspect.signature(function)).replace("'", "")
    text, _, example = inspect.cleandoc(function.__doc__ or "").partition("\n\nExample:\n")
    code = "\n".join(line.strip()[4:] for line in example.splitlines())
    return f"## `{name}`\n\n```python\ndef {name}{signature}: ...\n```\n\n{text}\n\n```python\n{code}\n```"


def _component(entry: CatalogEntry) -> str:
    spec = entry.spec
    facts = [
        f"- distribution: `{entry.dist}`",
        f"- class: `{spec.target}`",
        f"- needs: {_names(sorted(spec.needs)) or 'nothing'}",
        f"- depends on the seed: {'yes' if spec.stochastic else 'no'}",
        *([f"- paper: {spec.paper}"] if spec.paper else []),
    ]
    infos = schema(entry)
    rows = [(f"`{info.name}`", f"`{_type(info)}`", _default(info), _help(info)) for info in infos]
    table = _table(("parameter", "type", "default", "meaning"), rows) if rows else "It has no parameters."
    return "\n\n".join([f"## {spec.kind} `{spec.name}`", spec.summary, "\n".join(facts), table])


def _type(info: ParamInfo) -> str:
    """The words to choose from, where there are only some."""
    choices = typing.get_args(info.annotation) if typing.get_origin(info.annotation) is typing.Literal else ()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Enum):
        choices = tuple(choice.value for choice in info.annotation)
    return " | ".join(map(str, choices)) or info.type


def _default(info: ParamInfo) -> str:
    return f"**{REQUIRED}**" if info.required else f"`{_spell(info.default)}`"


def _spell(value: Any) -> str:
    """As it would be written in a run file."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"[{', '.join(map(_spell, value))}]" if isinstance(value, tuple) else str(value)


def _help(info: ParamInfo) -> str:
    limits = f" Must be {info.limits}." if info.limits else ""
    aliases = f" Also written {_names(info.aliases)}." if info.aliases else ""
    return f"{info.help}{limits}{aliases}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [" | ".join(row) for row in [list(heads), ["---"] * len(heads), *cells]]
    return "\n".join(f"| {line} |" for line in lines)


def _page(title: str, *parts: str) -> str:
    return f"# {title}\n\n{_MADE}\n" + "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    for file, page in PAGES.items():
        (FOLDER / file).write_text(page(), encoding="utf-8")
