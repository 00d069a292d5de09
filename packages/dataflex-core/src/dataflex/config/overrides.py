"""``components.yaml``: the user's file of presets, in the design note's format.

    selectors:
      my_preset:            # what component_name names, or components.selector
        name: loss          # the registered component; the outer key when absent
        params: {focus: high}

Only the chosen preset is looked at, so a file may list components that are not installed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataflex.config.gathering import Gathered
from dataflex.config.keys import PRESET_KEYS
from dataflex.config.reading import look_for, naming, read_yaml
from dataflex.config.run import RunFile
from dataflex.config.written import Written
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean
from dataflex.kinds import KINDS
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
        written: What words and numbers among the parameters were written as, under ``component_params``.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    written: Written = field(default_factory=Written)


def find_preset(run: RunFile, kind: Kind, chosen: str | None = None) -> Preset:
    """Look a component up in the run's ``components_cfg_file``, if it has one.

    Args:
        run: The run file.
        kind: Kind of the component.
        chosen: As the run names it; ``None`` takes ``component_name``.
    """
    chosen = run.component_name() if chosen is None else chosen
    path = locate(run)
    if path is None:
        return Preset(chosen)
    plural, section, written = _read(path, run, kind)
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path}: {plural} must hold presets by name, not {section!r}.")
    key = next((key for key in section if written.key(key, plural) == chosen), None)
    if key is None or section[key] is None:
        return Preset(chosen)
    entry = section[key]
    where = f"{path}: {plural}.{chosen}"
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} must hold `name:` and `params:`, not {entry!r}.")
    _refuse_unknown(where, entry, [key.name for key in PRESET_KEYS])
    name = entry.get("name", chosen)
    if not isinstance(name, str) or not name:
        quote = "" if name in (None, "") else " If it is one, quote it."
        raise ConfigError(f"{where}.name must be the name of a component, not {name!r}.{quote}")
    params = entry.get("params")
    if not isinstance(params, Mapping | None):
        raise ConfigError(f"{where}.params must be a mapping, not {params!r}.")
    texts = written.under(plural, key, "params").below("component_params")
    return Preset(name, dict(params or {}), str(path), texts)


def _refuse_unknown(where: str, entry: Iterable[Any], known: list[str]) -> None:
    problems = Gathered()
    for key in entry:
        with problems.taking():
            if key not in known:
                raise ConfigError(f"{where} has the unknown key {key!r}.{did_you_mean(str(key), known)}")
    problems.refuse()


def locate(run: RunFile) -> Path | None:
    """The run's ``components_cfg_file``; ``None`` without one."""
    given = run.ours.get("components_cfg_file")
    if given is None:
        return None
    origin = run.origin("components_cfg_file")
    if not isinstance(given, str):
        raise ConfigError(f"components_cfg_file: {given!r} (from {origin}) must be the path of a file.")
    found, tried = look_for(given, [Path(), run.path.parent])
    if found is not None:
        return found
    if Path(given).parts[-3:] == NOTE_DEFAULT:
        logger.info("components_cfg_file %s does not exist: every component uses its built-in defaults.", given)
        return None
    raise ConfigError(
        f"components_cfg_file: {given} (from {origin}) does not exist; looked for {tried}. "
        "Leave the key out to use the built-in defaults."
    )


def _read(path: Path, run: RunFile, kind: Kind) -> tuple[str, Any, Written]:
    """The section of a kind with its name, ``{}`` if the file has none; and what words and numbers were written as."""
    from omegaconf import OmegaConf

    with naming(f"components_cfg_file {path}"):
        file, written = read_yaml(path)
        if not OmegaConf.is_dict(file):
            raise ConfigError(f"components_cfg_file {path} holds {OmegaConf.to_object(file)!r}, not sections.")
        _refuse_misspelt(path, file)
        # Merged over the run's keys, so that ${output_dir} and its like resolve.
        merged = OmegaConf.merge(OmegaConf.create({**run.llamafactory, **run.ours}), file)
        old = KINDS[kind].old_plural
        plural = old if old in file and kind.plural not in file else kind.plural
        section = OmegaConf.select(merged, plural)
        found = OmegaConf.to_object(section) if OmegaConf.is_config(section) else section
        return plural, {} if section is None else found, written


def read_section(path: Path, run: RunFile, name: str) -> Any:
    """A section that is of no kind of ours, its interpolations filled in; ``None`` if the file has none."""
    from omegaconf import OmegaConf

    with naming(f"components_cfg_file {path}"):
        file, _ = read_yaml(path)
        merged = OmegaConf.merge(OmegaConf.create({**run.llamafactory, **run.ours}), file)
        section = OmegaConf.select(merged, name)
        return OmegaConf.to_object(section) if OmegaConf.is_config(section) else section


def _refuse_misspelt(path: Path, keys: Iterable[Any]) -> None:
    """Other keys may stand for parts that interpolate; one that is almost a section was meant to be it."""
    problems, sections = (
        Gathered(),
        [name for record in KINDS.values() for name in (record.plural, record.old_plural) if name],
    )
    for key in keys:
        with problems.taking():
            hint = did_you_mean(str(key), sections)
            if key not in sections and hint:
                raise ConfigError(f"{path} has the unknown section {key!r}.{hint}")
    problems.refuse()
