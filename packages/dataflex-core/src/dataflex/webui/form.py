"""A form for the parameters of a component, made from its schema: what a page shows, without the page."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

import yaml

from dataflex.config.bind import RUN_NAMES, ParamInfo, bind_what_fits
from dataflex.config.gathering import Gathered
from dataflex.errors import DataFlexError
from dataflex.plugins.catalog import CatalogEntry

PAGE = "the page"
"""Where values come from, in messages."""


class Widget(StrEnum):
    """How a parameter is entered."""

    TEXT = "text"
    NUMBER = "number"
    CHOICE = "choice"
    SWITCH = "switch"


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a form.

    Attributes:
        name: The parameter.
        widget: How it is entered.
        shown: Its default as the widget takes it; ``""`` for none.
        help: What it is for, with its range in words.
        required: Whether it has no default.
        options: What a choice offers.
    """

    name: str
    widget: Widget
    shown: str | float | bool = ""
    help: str = ""
    required: bool = False
    options: Sequence[str] = ()


def fields(infos: Sequence[ParamInfo]) -> list[Field]:
    """A field for each parameter; what the run itself sets (seed, cache_dir, output_dir) has none."""
    return [_field(info) for info in infos if info.name not in RUN_NAMES]


def _field(info: ParamInfo) -> Field:
    said = f"{info.help} Must be {info.limits}." if info.limits else info.help
    common: dict[str, Any] = {"name": info.name, "help": said.strip(), "required": info.required}
    kind, optional = _plain_type(info.annotation)
    options = _options(info, kind)
    if kind is bool and not optional:
        return Field(**common, widget=Widget.SWITCH, shown=bool(info.default))
    if options:
        words = ["", *options] if optional or info.required else options
        return Field(**common, widget=Widget.CHOICE, options=words, shown=spelt(info.default))
    if kind in (int, float) and not optional and _is_number(info.default, info.required):
        return Field(**common, widget=Widget.NUMBER, shown="" if info.required else info.default)
    return Field(**common, widget=Widget.TEXT, shown=spelt(info.default))


def _plain_type(annotation: Any) -> tuple[Any, bool]:
    """The one type of an annotation, and whether it may be none; ``None`` where it has several."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [each for each in typing.get_args(annotation) if each is not type(None)]
        optional = len(inner) < len(typing.get_args(annotation))
        return (inner[0] if len(inner) == 1 else None), optional
    return annotation, False


def _options(info: ParamInfo, kind: Any) -> list[str]:
    """The words of a parameter that takes nothing else."""
    if typing.get_origin(kind) is typing.Literal:
        return [spelt(each) for each in typing.get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [spelt(each.value) for each in kind]
    limits = info.limits
    bounded = any(bound is not None for bound in (limits.above, limits.at_least, limits.below, limits.at_most))
    single = kind in (str, int, float)
    return [spelt(each) for each in limits.choices] if limits.choices and single and not bounded else []


def _is_number(default: Any, required: bool) -> bool:
    if required:
        return True
    return isinstance(default, (int, float)) and not isinstance(default, bool) and math.isfinite(default)


def spelt(value: Any) -> str:
    """A value as a text field shows it, and as a run file would have it; ``""`` for none."""
    if value is None:
        return ""
    value = value.value if isinstance(value, Enum) else value
    if isinstance(value, str):
        return value
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def entered(infos: Sequence[ParamInfo], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a form as a run file would have them; those that are empty or the default are left out.

    Args:
        infos: The parameters.
        values: What was entered, by name.

    Raises:
        DataFlexError: for a text that is no YAML.
    """
    known = {info.name: info for info in infos}
    found = {}
    for name, value in values.items():
        info = known.get(name)
        if value is None or value == "":
            continue
        taken = _as_meant(info, value) if info is not None else value
        if info is None or info.required or spelt(taken) != spelt(info.default):
            found[name] = taken
    return found


def _as_meant(info: ParamInfo, value: Any) -> Any:
    kind, _ = _plain_type(info.annotation)
    if isinstance(value, float) and kind is int and value.is_integer():
        return int(value)  # a page knows one sort of numbers
    if not isinstance(value, str) or kind is str:
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value  # the check says what it should have been


def problems(entry: CatalogEntry, infos: Sequence[ParamInfo], values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a form, by field, in the words of ``dataflex check-run``.

    Args:
        entry: The component.
        infos: Its parameters.
        values: What was entered, by name.

    Returns:
        A sentence for each field that is wrong; under ``""`` what concerns several of them.
    """
    found, taken = dict[str, str](), entered(infos, values)
    for error in _refused(entry, taken):
        names = [name for name in taken if f"component_params.{name}:" in error or f"component_params.{name}[" in error]
        missing = [info.name for info in infos if info.required and f"set component_params.{info.name}." in error]
        place = names[0] if len(names) == 1 else missing[0] if missing else ""
        found[place] = f"{found[place]} {error}" if place in found else error
    return found


def _refused(entry: CatalogEntry, values: Mapping[str, Any]) -> list[str]:
    gathered = Gathered()
    try:
        bind_what_fits(entry, [(PAGE, values)], {}, gathered)
    except DataFlexError as error:
        gathered.errors.append(error)
    return [str(error) for error in gathered.errors]
