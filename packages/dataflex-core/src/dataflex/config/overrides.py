"""``components.yaml``: the user's file of presets, in the design note's format.

    selectors:
      my_preset:            # what component_name names
        name: loss          # the registered component; the outer key when absent
        params: {focus: high}

Only the chosen preset is looked at, so a file may list components that are not installed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataflex.config.run import RunFile
from dataflex.errors import ConfigError
from dataflex.spec import Kind

logger = logging.getLogger("dataflex")
NOTE_DEFAULT = ("dataflex", "configs", "components.yaml")


@dataclass(frozen=True)
class Preset:
    """What ``components.yaml`` says about the chosen component.

    Attributes:
        name: The registered component it stands for.
        params: Its parameters.
        source: The file, or ``""`` without one.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


def find_preset(run: RunFile, kind: Kind) -> Preset:
    """Look the run's ``component_name`` up in its ``components_cfg_file``, if it names one."""
    chosen = run.component_name()
    path = _locate(run)
    if path is None:
        return Preset(chosen)
    section = _read(path, run).get(kind.plural) or {}
    entry = section.get(chosen) if isinstance(section, Mapping) else None
    if entry is None:
        return Preset(chosen)
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{path}: {kind.plural}.{chosen} must hold `name:` and `params:`, not {entry!r}.")
    params = entry.get("params") or {}
    if not isinstance(params, Mapping):
        raise ConfigError(f"{path}: {kind.plural}.{chosen}.params must be a mapping, not {params!r}.")
    return Preset(str(entry.get("name", chosen)), dict(params), str(path))


def _locate(run: RunFile) -> Path | None:
    given = run.ours.get("components_cfg_file")
    if given is None:
        return None
    wanted = Path(str(given)).expanduser()
    places = [wanted, run.path.parent / wanted]
    for place in places:
        if place.is_file():
            return place
    if wanted.parts[-3:] == NOTE_DEFAULT:
        logger.info("components_cfg_file %s does not exist: every component uses its built-in defaults.", given)
        return None
    tried = " and ".join(dict.fromkeys(str(place.absolute()) for place in places))
    raise ConfigError(
        f"components_cfg_file: {given} (from {run.origin('components_cfg_file')}) does not exist; looked for {tried}. "
        "Leave the key out to use the built-in defaults."
    )


def _read(path: Path, run: RunFile) -> Mapping[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        # Merged over the run's keys, so that ${output_dir} and its like resolve.
        file = OmegaConf.load(path)
        around = OmegaConf.create({**run.llamafactory, **run.ours})
        merged = OmegaConf.merge(around, file)
        kinds = {kind.plural: OmegaConf.select(merged, kind.plural) for kind in Kind}
        return {name: OmegaConf.to_container(node, resolve=True) for name, node in kinds.items() if node is not None}
    except (OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        raise ConfigError(f"components_cfg_file {path} cannot be read: {error}") from error
