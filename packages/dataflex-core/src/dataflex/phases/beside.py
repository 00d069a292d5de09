"""What a run file may name relative to its own folder, named in full: the run files of the phases lie elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.config.reading import look_for

_WEIGHTS = "from:"
_SWITCH = "no:"  # no:DIST switches a plugin off


def resolve_beside(keys: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths absolute that `dataflex train` would look for in ``folder``, in the order it would.

    A file that does not exist is left as it is written, for the run to refuse.

    Args:
        keys: Of a run file, or of a part of it.
        folder: Where the run file lies.
    """
    resolved, here = dict(keys), Path()
    presets, proportions = keys.get("components_cfg_file"), keys.get("init_mixture_proportions")
    if isinstance(presets, str):
        resolved["components_cfg_file"] = _first(presets, (here, folder))
    if isinstance(proportions, str) and proportions.startswith(_WEIGHTS):
        path = proportions.removeprefix(_WEIGHTS).strip()
        resolved["init_mixture_proportions"] = _WEIGHTS + _first(path, (here, folder))
    if keys.get("plugins"):
        given = keys["plugins"]
        values = [given] if isinstance(given, str) else given
        resolved["plugins"] = [_plugin(value, (folder, here)) for value in values]
    return resolved


def _plugin(value: Any, places: Sequence[Path]) -> Any:
    return value if not isinstance(value, str) or value.startswith(_SWITCH) else _first(value, places)


def _first(given: str, places: Sequence[Path]) -> str:
    found, _ = look_for(given, places)
    return given if found is None else str(found.absolute())
