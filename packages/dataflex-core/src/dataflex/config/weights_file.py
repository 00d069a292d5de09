"""``init_mixture_proportions: from:PATH``: proportions that an earlier run found.

The file is JSON with ``names`` and ``average`` (``weights.json`` of a DoReMi run has both); anything else in it is
ignored. Proportions go over by name, so data sets may be listed in another order.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

from dataflex.config.run import RunFile
from dataflex.errors import ConfigError

PREFIX = "from:"


def names_file(value: Any) -> TypeGuard[str]:
    """Whether a value of the key names a file instead of giving proportions."""
    return isinstance(value, str) and value.startswith(PREFIX)


def read_weights_file(value: str, run: RunFile, key: str) -> dict[str, float]:
    """Read the proportions a value ``from:PATH`` names.

    Args:
        value: The value.
        run: The run file; a relative path is looked for in the working directory, then beside it.
        key: The key, for messages.

    Returns:
        Proportions by domain name, as the file has them.

    Raises:
        ConfigError: when the file is missing or holds something else.
    """
    path = Path(value.removeprefix(PREFIX).strip()).expanduser()
    origin = f"{key}: {value} (from {run.origin(key)})"
    places = [path, run.path.parent / path]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        tried = " and ".join(dict.fromkeys(str(place.absolute()) for place in places))
        raise ConfigError(f"{origin} names a file that does not exist; looked for {tried}. Run what writes it.")
    try:
        record = json.loads(found.read_text(encoding="utf-8"))
        names, average = [str(name) for name in record["names"]], record["average"]
        shares = {name: float(share) for name, share in zip(names, average, strict=True)}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{origin} is not a file of weights: it needs `names` and `average`, lists of one length "
            f"({type(error).__name__}: {error})."
        ) from error
    twice = [name for name in shares if names.count(name) > 1]
    if twice:
        raise ConfigError(f"{origin} names {', '.join(map(repr, twice))} twice. Each domain has one share.")
    return shares
