"""Binding a component's parameters: schema default < components.yaml < ``component_params:`` < command line.

The schema is the params dataclass of the spec or, for a class without one, its constructor minus the names the
framework fills in.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataflex.config import legacy
from dataflex.config.gathering import Gathered
from dataflex.config.validation import validate, validate_what_fits, where
from dataflex.config.written import Written
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.paths import expand_value, is_path_name
from dataflex.plugins.catalog import CatalogEntry
from dataflex.spec import Limits

logger = logging.getLogger("dataflex")

RUNTIME_NAMES = frozenset(
    {
        "dataset",
        "eval_dataset",
        "accelerator",
        "data_collator",
        "tokenizer",
        "model",
        "mixture_manager",
        "context",
        "params",
    }
)
"""Constructor arguments that the framework fills in by name; never parameters."""

RUN_NAMES = ("cache_dir", "seed", "output_dir")
"""Parameters every component accepts; the run's own value is the default."""

_RUN_TYPES = {"cache_dir": str, "seed": int, "output_dir": str}

DEFAULT = "default"
"""The source of a parameter that nobody set."""

LEGACY_NAMES = legacy.PARAMETERS
"""Parameters of PyPI dataflex 1.x files: ignored with a warning by a component that does not have them."""


@dataclass(frozen=True)
class ParamInfo:
    """One parameter as ``show-component`` prints it."""

    name: str
    type: str
    default: Any
    required: bool
    help: str
    annotation: Any = field(default=Any, repr=False, compare=False)
    aliases: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class BoundParams:
    """Validated parameters of one component.

    Attributes:
        params: Instance of the spec's params dataclass, or ``None`` for a schema taken from a constructor.
        values: Every parameter by name; a parameter that is a dataclass itself as a mapping.
        run_values: Those of :data:`RUN_NAMES` the user set.
        sources: Where each value came from.
    """

    params: Any
    values: Mapping[str, Any]
    run_values: Mapping[str, Any]
    sources: Mapping[str, str]


def schema(entry: CatalogEntry) -> list[ParamInfo]:
    """The parameters of a component; imports its params module, or its class when it has none."""
    declared = entry.load_params()
    return _from_dataclass(declared) if declared is not None else _from_constructor(entry.load())


def bind(
    entry: CatalogEntry, layers: Sequence[tuple[str, Mapping[str, Any]]], written: Mapping[str, Written] | None = None
) -> BoundParams:
    """Merge and validate parameters.

    Args:
        entry: The component.
        layers: ``(source, values)`` pairs, weakest first.
        written: By source, what words and numbers were written as: where a parameter is a name, that is its value.

    Raises:
        ConfigError: for an unknown name, a missing or an ill-typed value; it names the source.
    """
    problems = Gathered()
    bound = bind_what_fits(entry, layers, written or {}, problems)
    problems.refuse()
    assert bound is not None  # where something is missing, that has been refused
    return bound


def bind_what_fits(
    entry: CatalogEntry,
    layers: Sequence[tuple[str, Mapping[str, Any]]],
    written: Mapping[str, Written],
    problems: Gathered,
) -> BoundParams | None:
    """As :func:`bind`, but go on after what is wrong: a value that cannot be is as if it were left out.

    Args:
        entry: The component.
        layers: As in :func:`bind`.
        written: As in :func:`bind`.
        problems: Takes all that is wrong.

    Returns:
        The parameters; ``None`` if a required one is missing, or they contradict each other.
    """
    infos = {info.name: info for info in schema(entry)}
    given, sources = _merge(entry, layers, written, infos, problems)
    missing = [name for name, info in infos.items() if info.required and name not in given and name not in RUN_NAMES]
    asked = " or ".join(dict.fromkeys(source for source, _ in layers if source))
    for name in missing:
        with problems.taking():
            raise ConfigError(
                f"{entry.spec.kind} {entry.spec.name!r} needs the parameter {name!r}; set component_params.{name}."
                + (f" Nothing sets it in {asked}." if asked else "")
            )
    own = {name: value for name, value in given.items() if name in infos}
    run_values = {}
    for name in (name for name in given if name in RUN_NAMES):
        with problems.taking():
            run_values[name] = _run_value(entry, name, given[name], sources[name])
    if missing:
        return None
    declared = entry.load_params()
    if declared is not None:
        params = validate_what_fits(entry, declared, infos, own, sources, problems)
        values = {} if params is None else {name: _plain(getattr(params, name)) for name in infos}
        return None if params is None else BoundParams(params, values, run_values, sources)
    # The run's own cache_dir, seed and output_dir come before a constructor's defaults.
    values = {name: info.default for name, info in infos.items() if not (info.required or name in RUN_NAMES)}
    for name, value in own.items():
        with problems.taking():
            values[name] = validate(entry, name, infos[name].annotation, value, sources[name])
    if any(info.required and name not in values and name not in RUN_NAMES for name, info in infos.items()):
        return None
    return BoundParams(None, values, run_values, sources)


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _merge(
    entry: CatalogEntry,
    layers: Sequence[tuple[str, Mapping[str, Any]]],
    written: Mapping[str, Written],
    infos: Mapping[str, ParamInfo],
    problems: Gathered,
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that count, and where each came from."""
    aliases = {alias: info.name for info in infos.values() for alias in info.aliases}
    given: dict[str, Any] = {}
    sources = dict.fromkeys((name for name, info in infos.items() if not info.required), DEFAULT)
    for source, values in layers:
        for key, value in values.items():
            name = aliases.get(key, key)
            if name not in infos and name not in RUN_NAMES:
                with problems.taking():
                    _refuse_or_ignore(entry, key, source, infos)
                continue
            with problems.taking():
                given[name] = _as_written(infos.get(name), key, value, written.get(source))
                sources[name] = source
    return given, sources


def _as_written(info: ParamInfo | None, key: str, value: Any, written: Written | None) -> Any:
    if info is not None and written is not None:
        value = written.take_names(value, info.annotation, "component_params", key)
    return expand_value(value) if info is None or _is_path(info) else value


def _is_path(info: ParamInfo) -> bool:
    """Whether a parameter is a path: by its type, its name or an older name of it."""
    kinds = typing.get_args(info.annotation) or (info.annotation,)
    return Path in kinds or any(map(is_path_name, (info.name, *info.aliases)))


def _run_value(entry: CatalogEntry, name: str, value: Any, source: str) -> Any:
    taken = validate(entry, name, _RUN_TYPES[name], value, source)
    if name == "seed" and taken < 0:  # numpy's generators take none below 0, and would say so at a boundary
        place = where("seed", value, source)
        raise ConfigError(f"{entry.spec.kind} {entry.spec.name!r}: {place} must be at least 0.")
    return taken


def _refuse_or_ignore(entry: CatalogEntry, name: str, source: str, infos: Mapping[str, ParamInfo]) -> None:
    spec = entry.spec
    if name in spec.legacy:
        logger.warning(
            "%s %r ignores the parameter %r (from %s): %s", spec.kind, spec.name, name, source, spec.legacy[name]
        )
        return
    if name in spec.refused:
        raise ConfigError(
            f"{spec.kind} {spec.name!r} takes no parameter {name!r} (from {source}): {spec.refused[name]}"
        )
    if name in LEGACY_NAMES:
        logger.warning(
            "%s %r has no parameter %r (from %s): a name of dataflex 1.x files, ignored.",
            entry.spec.kind,
            entry.spec.name,
            name,
            source,
        )
        return
    known = ", ".join(infos) or "none"
    hint = did_you_mean(str(name), [*infos, *RUN_NAMES])
    raise ConfigError(
        f"{entry.spec.kind} {entry.spec.name!r} has no parameter {name!r} (from {source}).{hint} It has: {known}."
    )


def _from_dataclass(declared: type) -> list[ParamInfo]:
    hints = _hints(declared)
    infos = []
    for item in dataclasses.fields(declared):
        factory = item.default_factory
        required = item.default is dataclasses.MISSING and factory is dataclasses.MISSING
        default = factory() if factory is not dataclasses.MISSING else item.default
        infos.append(
            ParamInfo(
                name=item.name,
                type=_spell(hints.get(item.name, Any)),
                default=None if required else default,
                required=required,
                help=item.metadata.get("help", ""),
                annotation=hints.get(item.name, Any),
                aliases=tuple(item.metadata.get("aliases", ())),
                limits=item.metadata.get("limits", Limits()),
            )
        )
    return infos


def _from_constructor(cls: type) -> list[ParamInfo]:
    if "__init__" not in vars(cls) and not any("__init__" in vars(base) for base in cls.__mro__[1:-1]):
        return []
    constructor = cls.__dict__.get("__init__", cls.__init__)  # type: ignore[misc]  # of a class, not an instance
    hints = _hints(constructor)
    infos = []
    for argument in list(inspect.signature(constructor).parameters.values())[1:]:
        variadic = argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
        if variadic or argument.name in RUNTIME_NAMES:
            continue
        required = argument.default is argument.empty and argument.name not in RUN_NAMES
        default = None if argument.default is argument.empty else argument.default
        annotation = hints.get(argument.name, _RUN_TYPES.get(argument.name, Any))
        help_text = "the run's own value unless given" if argument.name in RUN_NAMES else ""
        infos.append(ParamInfo(argument.name, _spell(annotation), default, required, help_text, annotation))
    return infos


def _hints(thing: Any) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(thing)
    except Exception:  # an annotation that only exists under TYPE_CHECKING: the value is then taken as it is
        return {}


def _spell(annotation: Any) -> str:
    if isinstance(annotation, type):
        return annotation.__name__
    text = str(annotation).replace("typing.", "")
    for part in typing.get_args(annotation):
        if dataclasses.is_dataclass(part) and isinstance(part, type):
            text = text.replace(f"{part.__module__}.{part.__qualname__}", part.__name__)
    return text
