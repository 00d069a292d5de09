"""Constructing a component: native classes by (params, context), all others by the names they ask for."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataflex.components.context import RunContext


def build_component(
    cls: type, params: Any, values: Mapping[str, Any], run_values: Mapping[str, Any], context: RunContext
) -> Any:
    """Construct a component of any style.

    Args:
        cls: The class.
        params: Instance of its params dataclass, or ``None``.
        values: Its parameters by name.
        run_values: ``cache_dir``, ``seed`` and ``output_dir`` where the user set them: they replace the run's own.
        context: The run.
    """
    context = dataclasses.replace(context, **_typed(run_values))
    signature = inspect.signature(cls)
    if _is_native(signature):
        return cls(params if params is not None else dict(values), context)
    return cls(**call_by_name(signature, {**runtime_arguments(context), **values, **run_values}))


def runtime_arguments(context: RunContext) -> dict[str, Any]:
    """What a constructor may ask for by name, besides its own parameters."""
    evals = list(context.eval_datasets.values())
    manager = getattr(context, "mixture_manager", None)
    return {
        **({"mixture_manager": manager} if manager is not None else {}),
        "dataset": context.dataset,
        "eval_dataset": evals[0] if len(evals) == 1 else (dict(context.eval_datasets) or None),
        "accelerator": context.accelerator,
        "data_collator": context.data_collator,
        "tokenizer": context.tokenizer,
        "context": context,
        "cache_dir": str(context.cache_dir),
        "output_dir": str(context.output_dir),
        "seed": _seed(context),
    }


def _seed(context: RunContext) -> int:
    """The run's seed; another for each domain, where a component is asked for each by itself."""
    if not context.streams:
        return context.seed
    from dataflex.rng import key_seed

    return key_seed("seed of a domain", context.seed, *context.streams) % 2**32


def call_by_name(signature: inspect.Signature, available: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what a signature asks for; all of it when it takes ``**kwargs``."""
    parameters = signature.parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(available)
    return {parameter.name: available[parameter.name] for parameter in parameters if parameter.name in available}


def by_name_or_place(
    signature: inspect.Signature, available: Mapping[str, Any], places: int
) -> tuple[list[Any], dict[str, Any]]:
    """As :func:`call_by_name`, for a class that has names of its own for the first arguments.

    Args:
        signature: Of the method.
        available: The arguments by name, in their order.
        places: How many of them, from the first on, may also be passed by their place.

    Returns:
        What to pass by place, and by name.
    """
    named = call_by_name(signature, available)
    empty = inspect.Parameter.empty
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = list(signature.parameters.values())[:places]
    unmatched = [one for one in first if one.kind in by_place and one.name not in available and one.default is empty]
    takes_any = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in first)
    if not unmatched and not takes_any:
        return [], named
    count = places if takes_any else sum(one.kind in by_place for one in first)
    leading = dict(list(available.items())[:count])
    return list(leading.values()), {name: value for name, value in named.items() if name not in leading}


def _is_native(signature: inspect.Signature) -> bool:
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    inherited = kinds == {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return inherited or {"params", "context"} <= set(signature.parameters)


def _typed(run_values: Mapping[str, Any]) -> dict[str, Any]:
    types = {"cache_dir": Path, "output_dir": Path, "seed": int}
    return {name: types[name](value) for name, value in run_values.items()}
