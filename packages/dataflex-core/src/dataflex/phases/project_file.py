"""A project file: a run file with a section that says what its phases have of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError
from dataflex.paths import expand_keys


def read_project(path: Path, overrides: Sequence[str], section: str) -> dict[str, Any]:
    """Read a project file with the overrides of the command line; ``~`` is expanded in paths.

    Args:
        path: The file.
        overrides: ``key=value`` items.
        section: The key of its section; the mappings in it are expanded likewise.

    Raises:
        ConfigError: for a file that cannot be read, or an item that is no override.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not path.is_file():
        raise ConfigError(f"run file {path} does not exist (working directory {Path.cwd()}).")
    for item in overrides:
        if not item.partition("=")[1] or item.startswith(("-", "=")):
            raise ConfigError(f"{item!r} on the command line is not an override; write key=value, without dashes.")
    try:
        merged = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(list(overrides)))
        keys = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        raise ConfigError(f"run file {path} cannot be read: {error}") from error
    if not isinstance(keys, dict):
        raise ConfigError(f"run file {path} holds a list, not keys and values.")
    expanded = expand_keys({str(key): value for key, value in keys.items()})
    sections = expanded.get(section)
    if isinstance(sections, dict):
        expanded[section] = {
            name: expand_keys(each) if isinstance(each, dict) else each for name, each in sections.items()
        }
    return expanded
