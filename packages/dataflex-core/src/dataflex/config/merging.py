"""Keys laid over other keys, as the command line lies over a run file."""

from __future__ import annotations

from typing import Any

from dataflex.config.keys import COMPONENTS


def merged(given: Any, layer: Any) -> Any:
    """Keys over other keys, as the command line lies over a run file: mappings merge, all else is replaced."""
    from omegaconf import OmegaConf

    return OmegaConf.merge(_without_other_kinds(_with_names(given, layer), layer), layer)


def _with_names(given: Any, layer: Any) -> Any:
    """The keys with ``selector: loss`` written as ``selector: {name: loss}`` where the layer says more about it."""
    from omegaconf import OmegaConf

    both: list[Any] = [each.get(COMPONENTS) if COMPONENTS in each else None for each in (given, layer)]
    below, above = both
    if not OmegaConf.is_dict(below) or not OmegaConf.is_dict(above):
        return given
    named = {key: {"name": below[key]} for key in above if isinstance(below.get(key), str) and _is_dict(above[key])}
    if not named:
        return given
    kept = OmegaConf.masked_copy(below, [key for key in below if key not in named])
    others = OmegaConf.masked_copy(given, [key for key in given if key != COMPONENTS])
    return OmegaConf.merge(others, {COMPONENTS: OmegaConf.merge(kept, named)})


def _is_dict(value: Any) -> bool:
    from omegaconf import OmegaConf

    return bool(OmegaConf.is_dict(value))


def _without_other_kinds(given: Any, cli: Any) -> Any:
    """The keys without lists and mappings in whose place the layer above has the other: they merge not."""
    from omegaconf import OmegaConf

    kinds = (OmegaConf.is_dict, OmegaConf.is_list)
    other = [
        key
        for key in cli
        if key in given and any(one(given[key]) and two(cli[key]) for one, two in (kinds, kinds[::-1]))
    ]
    return OmegaConf.masked_copy(given, [key for key in given if key not in other]) if other else given
