"""A project file: a run file with a section that says what its phases have of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.config.names import take_names
from dataflex.config.reading import naming, read_dotlist
from dataflex.config.run import read_over
from dataflex.config.written import Written
from dataflex.paths import expand_keys


def read_project(path: Path, overrides: Sequence[str], section: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """Read a project file with the overrides of the command line; ``~`` is expanded in paths.

    It is read as a run file is: a word that can only be a name (``no``, ``2023``) is that name, and what is below a key
    of names may have a dot in it.

    Args:
        path: The file.
        overrides: ``key=value`` items.
        section: The key of its section; the mappings in it are read likewise.
        names: Keys of the section in which, or below which, only names stand.

    Raises:
        ConfigError: for a file that cannot be read, or an item that is no override.
    """
    from omegaconf import OmegaConf

    given, written = read_over(path, overrides, names)
    with naming(f"run file {path}"):
        keys: Any = OmegaConf.to_container(given, resolve=True, throw_on_missing=True)
    found = _as_meant(keys, written)
    if isinstance(found.get(section), dict):
        below = written.under(section)
        found[section] = {
            str(name): _as_meant(each, below.under(name))
            if isinstance(each, dict)
            else below.take_names(each, str if name in names else Any, name)
            for name, each in found[section].items()
        }
    return found


def read_items(items: Sequence[str], names: Sequence[str] = ()) -> dict[str, Any]:
    """Read ``key=value`` items that stand for themselves, over no file.

    Args:
        items: The items.
        names: Keys below which only names stand.

    Raises:
        ConfigError: for an item that cannot be read.
    """
    from omegaconf import OmegaConf

    with naming(f"{' '.join(items)} on the command line"):
        given, written, _ = read_dotlist(items, names=names)
        keys: Any = OmegaConf.to_container(given, resolve=True)
    return {
        str(key): {written.key(name, key): each for name, each in value.items()} if isinstance(value, dict) else value
        for key, value in keys.items()
    }


def _as_meant(keys: Mapping[Any, Any], written: Written) -> dict[str, Any]:
    """Keys with names as they were written, and paths in full; what has no text is left for the runs to refuse."""
    return expand_keys({written.key(key): value for key, value in take_names(keys, written)[0].items()})
