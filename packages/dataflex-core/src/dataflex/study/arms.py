"""From base and an arm to the run file of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataflex.config.keys import RUN_KEYS
from dataflex.config.run import RunFile, merged, read_given, resolved
from dataflex.config.written import Place, Written
from dataflex.phases.beside import resolve_beside
from dataflex.runs import TrainType
from dataflex.study.file import Arm
from dataflex.study.file_keys import COMMANDS
from dataflex.study.lengths import LENGTH_KEYS, length_key, names_a_length

_CHOICE = ("train_type", "component_name")
_STEP_KEYS = ("warmup_step", "update_step", "update_times", "train_step")
_PARAMS = "component_params"


@dataclass(frozen=True)
class Base:
    """The run file that all arms begin with.

    Attributes:
        path: Where it lies: what it names beside itself is named in full in the written files.
        given: Its keys, interpolations unresolved.
        written: What words and numbers among them were written as.
    """

    path: Path
    given: Any
    written: Written

    @classmethod
    def read(cls, path: Path) -> Base:
        """Read it.

        Raises:
            ConfigError: if it cannot be read.
        """
        return cls(path, *read_given(path))


def run_of_arm(
    base: Base, arm: Arm, *, seed: int, file: Path, output_dir: Path, steps: int | None = None, keeps: bool = False
) -> RunFile:
    """The run file of an arm with a seed.

    Args:
        base: What it begins with.
        arm: What differs.
        seed: The run's seed, which interpolations of base may ask for.
        file: Where the run file will lie.
        output_dir: The run's output directory.
        steps: Optimizer steps it trains for, if the study sets them; an arm of a command gives them to its last phase.
        keeps: Whether it keeps the length that base has.

    Raises:
        ConfigError: for an interpolation that leads nowhere.
    """
    layer = {key: value for key, value in arm.keys.items() if value is not None}
    layer |= {"seed": seed, "output_dir": str(output_dir)}
    own = names_a_length(arm.keys)
    gone = {key for key, value in arm.keys.items() if value is None} | {"resume_from_checkpoint"}
    if arm.command:
        gone |= {*_CHOICE, _PARAMS, *_STEP_KEYS}
        layer |= _for_last_phase(arm, steps)
    else:
        gone |= _unread(base, arm)
        if own or not keeps:
            gone |= {*LENGTH_KEYS}
        if not own and not keeps and steps is not None:
            layer[length_key(_train_type(base, arm))] = steps
    layer |= {} if arm.command else _going_on(base, arm)
    run = _composed(base, layer, gone, arm.written, file)
    return replace(run, ours=resolve_beside(run.ours, base.path.parent))


def _going_on(base: Base, arm: Arm) -> dict[str, Any]:
    """A dynamic run goes on from its own checkpoints; a static one keeps no record of its time, and begins anew."""
    if _train_type(base, arm) in (None, TrainType.STATIC.value):
        return {"overwrite_output_dir": True}
    return {"overwrite_output_dir": False, "resume_from_checkpoint": True}


def _train_type(base: Base, arm: Arm) -> Any:
    return arm.keys["train_type"] if "train_type" in arm.keys else _plain(base, "train_type")


def _plain(base: Base, key: str) -> Any:
    """A key of base that says what kind of run it is."""
    from omegaconf import OmegaConf

    keys: Any = OmegaConf.to_container(base.given, resolve=False)
    return keys.get(key)


def _unread(base: Base, arm: Arm) -> set[str]:
    """Keys of base that mean nothing to an arm with another train type or component."""
    if not any(key in arm.keys and arm.keys[key] != _plain(base, key) for key in _CHOICE):
        return set()
    found = {_PARAMS}
    given = _train_type(base, arm)
    try:
        train_type = TrainType.STATIC if given is None else TrainType(given)
    except ValueError:  # the check of the run says so
        return found
    return found | {key.name for key in RUN_KEYS if train_type not in key.used_by}


def _for_last_phase(arm: Arm, steps: int | None) -> dict[str, Any]:
    """The section of a command's arm, with the steps of its last phase."""
    section = dict(arm.keys.get(arm.command) or {})
    last = dict(section.get(COMMANDS[arm.command]) or {})
    if steps is not None and not names_a_length(last) and not names_a_length(arm.keys):
        last["train_step"] = steps
    return {arm.command: {**section, COMMANDS[arm.command]: last}} if last else {arm.command: section}


def _composed(base: Base, layer: Mapping[str, Any], gone: set[str], written: Written, file: Path) -> RunFile:
    from omegaconf import OmegaConf

    kept = OmegaConf.masked_copy(base.given, [key for key in base.given if key not in gone])
    both = merged(kept, OmegaConf.create(dict(layer)))
    texts = written.over(base.written, [*_leaves(layer), *((key,) for key in gone)])
    return resolved(file, both, replace(texts, source=file.name))


def _leaves(keys: Mapping[Any, Any], above: Place = ()) -> list[Place]:
    """The places of all that is no mapping."""
    found: list[Place] = []
    for key, value in keys.items():
        found += _leaves(value, (*above, key)) if isinstance(value, Mapping) else [(*above, key)]
    return found
