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
from typing import Any

from dataflex.config.conversions import mistaken
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.plugins.catalog import CatalogEntry

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

LEGACY_NAMES = frozenset(
    {
        "gradient_type",
        "save_interval",
        "score_batch_size",
        "reference_model_path",
        "reweight_eta",
        "reweight_eps",
        "score_num_workers",
        "delta",
        "proj_dim",
    }
)
"""Parameters of PyPI dataflex 1.x files: ignored with a warning by a component that does not have them.

One that means the same as a parameter of ours is an alias of it instead (``param(aliases=...)``), as ``gradient_type``
is in the selector ``less``.
"""


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


@dataclass(frozen=True)
class BoundParams:
    """Validated parameters of one component.

    Attributes:
        params: Instance of the spec's params dataclass, or ``None`` for a schema taken from a constructor.
        values: Every parameter by name.
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


def bind(entry: CatalogEntry, layers: Sequence[tuple[str, Mapping[str, Any]]]) -> BoundParams:
    """Merge and validate parameters.

    Args:
        entry: The component.
        layers: ``(source, values)`` pairs, weakest first.

    Raises:
        ConfigError: for an unknown name, a missing or an ill-typed value; it names the source.
    """
    infos = {info.name: info for info in schema(entry)}
    aliases = {alias: info.name for info in infos.values() for alias in info.aliases}
    given: dict[str, Any] = {}
    sources = dict.fromkeys((name for name, info in infos.items() if not info.required), "default")
    for source, values in layers:
        for written, value in values.items():
            name = aliases.get(written, written)
            if name not in infos and name not in RUN_NAMES:
                _refuse_or_ignore(entry, written, source, infos)
                continue
            given[name] = value
            sources[name] = source
    asked = " or ".join(dict.fromkeys(source for source, _ in layers if source))
    for name, info in infos.items():
        if info.required and name not in given and name not in RUN_NAMES:
            raise ConfigError(
                f"{entry.spec.kind} {entry.spec.name!r} needs the parameter {name!r}; set component_params.{name}."
                + (f" Nothing sets it in {asked}." if asked else "")
            )
    own = {name: value for name, value in given.items() if name in infos}
    run_values = {
        name: _validate(entry, name, _RUN_TYPES[name], value, sources[name])
        for name, value in given.items()
        if name in RUN_NAMES
    }
    if run_values.get("seed", 0) < 0:  # numpy's generators take none below 0, and would say so at a boundary
        where = _where("seed", given["seed"], sources["seed"])
        raise ConfigError(f"{entry.spec.kind} {entry.spec.name!r}: {where} must be at least 0.")
    declared = entry.load_params()
    if declared is not None:
        params = _validate_dataclass(entry, declared, own, sources)
        values = {name: getattr(params, name) for name in infos}
    else:
        params = None
        # The run's own cache_dir, seed and output_dir come before a constructor's defaults.
        defaults = {name: info.default for name, info in infos.items() if not (info.required or name in RUN_NAMES)}
        values = defaults | {
            name: _validate(entry, name, infos[name].annotation, value, sources[name]) for name, value in own.items()
        }
    return BoundParams(params, values, run_values, sources)


def _refuse_or_ignore(entry: CatalogEntry, name: str, source: str, infos: Mapping[str, ParamInfo]) -> None:
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
            )
        )
    return infos


def _from_constructor(cls: type) -> list[ParamInfo]:
    if "__init__" not in vars(cls) and not any("__init__" in vars(base) for base in cls.__mro__[1:-1]):
        return []
    constructor = cls.__dict__.get("__init__", cls.__init__)  # type: ignore[misc]
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
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _validate_dataclass(entry: CatalogEntry, declared: type, own: Mapping[str, Any], sources: Mapping[str, str]) -> Any:
    from pydantic import TypeAdapter, ValidationError

    title = f"{entry.spec.kind} {entry.spec.name!r}"
    origins = " and ".join(dict.fromkeys(sources[name] for name in own))
    all_of_them = f"its parameters (from {origins})" if origins else "its parameters"
    try:
        params: Any = TypeAdapter(declared).validate_python(dict(own))
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = str(item["loc"][0]) if item["loc"] else ""
            where = _where(name, own[name], sources[name]) if name in own else all_of_them
            lines.append(f"{where}: {item['msg']}")
        raise ConfigError(f"{title}: " + "; ".join(lines)) from error
    except ConfigError as error:
        raise ConfigError(f"{title}: {all_of_them}: {error}") from error
    except (ArithmeticError, TypeError) as error:
        raise ConfigError(f"{title}: {all_of_them} cannot be used: {type(error).__name__}: {error}") from error
    for name, value in own.items():
        _refuse_mistaken(entry, name, value, getattr(params, name), sources[name])
    return params


def _validate(entry: CatalogEntry, name: str, annotation: Any, value: Any, source: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    if annotation is Any:
        return value
    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        return value
    try:
        taken = adapter.validate_python(value)
    except ValidationError as error:
        raise ConfigError(
            f"{entry.spec.kind} {entry.spec.name!r}: {_where(name, value, source)}: {error.errors()[0]['msg']}"
        ) from error
    _refuse_mistaken(entry, name, value, taken, source)
    return taken


def _refuse_mistaken(entry: CatalogEntry, name: str, value: Any, taken: Any, source: str) -> None:
    for wrong in mistaken(value, taken):
        raise ConfigError(f"{entry.spec.kind} {entry.spec.name!r}: {_where(name, value, source)}: {wrong}.")


def _where(name: str, value: Any, source: str) -> str:
    return f"component_params.{name}: {value!r} (from {source})"
