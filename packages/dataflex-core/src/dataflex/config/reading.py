"""Reading the files that users write: whatever is wrong with one is an error that names it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError


@contextlib.contextmanager
def naming(what: str) -> Iterator[None]:
    """Say of any error in the body, which does nothing but read a file, what could not be read.

    Raises:
        ConfigError: in place of what the readers of YAML, JSON and interpolations raise.
    """
    try:
        yield
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError(f"{what} cannot be read: it nests too deeply, or a part of it contains itself.") from error
    except Exception as error:
        raise ConfigError(f"{what} cannot be read: {error}") from error


def parse_json(text: str) -> Any:
    """JSON in which no key stands twice; raises ``ValueError`` for anything else."""
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)!r}")
    return found


def look_for(written: str, folders: Sequence[Path]) -> tuple[Path | None, str]:
    """Look for a file that a key names.

    Args:
        written: The path as it was written; ``~`` is a home folder.
        folders: Where a relative one may lie, in order.

    Returns:
        The file, or ``None``; and where it was looked for, for the message.
    """
    wanted = os.path.expanduser(written)
    places = [folder / wanted for folder in folders]
    found = next((place for place in places if os.path.isfile(place)), None)
    return found, " and ".join(dict.fromkeys(str(place.absolute()) for place in places))
