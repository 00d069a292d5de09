"""``init_mixture_proportions: from:PATH``: proportions that an earlier run found.

The file is JSON with ``names`` and ``average`` (``weights.json`` of a DoReMi run has both). Proportions go over by
name, so data sets may be listed in another order. What it says of the rows it was found on (``data``, ``hashes``) is
compared with those of the run once they are known; anything else in it is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from dataflex.config.numbers import is_number
from dataflex.config.reading import look_for, parse_json
from dataflex.config.run import RunFile
from dataflex.errors import ConfigError
from dataflex.made_from import RowsOf

PREFIX = "from:"


@dataclass(frozen=True)
class WeightsFile:
    """What a file of weights holds.

    Attributes:
        origin: Key, value and run file, for messages.
        shares: Proportions by domain name, in the order of the file.
        rows: What they were found on.
    """

    origin: str
    shares: Mapping[str, float]
    rows: RowsOf


def names_file(value: Any) -> TypeGuard[str]:
    """Whether a value of the key names a file instead of giving proportions."""
    return isinstance(value, str) and value.startswith(PREFIX)


def read_weights_file(value: str, run: RunFile, key: str) -> WeightsFile:
    """Read the proportions a value ``from:PATH`` names.

    Args:
        value: The value.
        run: The run file; a relative path is looked for in the working directory, then beside it.
        key: The key, for messages.

    Returns:
        What the file holds.

    Raises:
        ConfigError: when the file is missing or holds something else.
    """
    origin = f"{key}: {value} (from {run.origin(key)})"
    found, tried = look_for(value.removeprefix(PREFIX).strip(), [Path(), run.path.parent])
    if found is None:
        raise ConfigError(f"{origin} names a file that does not exist; looked for {tried}. Run what writes it.")
    try:
        record = parse_json(found.read_text(encoding="utf-8"))
        names, average = _lists(record)
    except (OSError, ValueError, RecursionError) as error:
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ConfigError(
            f"{origin} is not a file of weights: it needs `names` and `average`, lists of one length ({kind}{error})."
        ) from error
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ConfigError(f"{origin} names {', '.join(map(repr, twice))} twice. Each domain has one share.")
    keys, hashes = (_object(record.get(field)) for field in ("data", "hashes"))
    rows = RowsOf(names=tuple(names), keys=keys, pool=str(hashes.get("pool") or ""))
    return WeightsFile(origin, dict(zip(names, average, strict=True)), rows)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _lists(record: Any) -> tuple[list[str], list[float]]:
    if not isinstance(record, dict):
        raise ValueError("it holds no object")
    for field in ("names", "average"):
        if not isinstance(record.get(field), list):
            raise ValueError(f"{field!r} is {'not a list' if field in record else 'missing'}")
    names, average = record["names"], record["average"]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("'names' holds something else than texts")
    if not all(is_number(share) for share in average):
        raise ValueError("'average' holds something else than finite numbers")
    if len(names) != len(average):
        raise ValueError(f"'names' has {len(names)} and 'average' {len(average)} of them")
    return names, [float(share) for share in average]
