"""A run's own keys at the top of a project file, handed to the phases they belong to.

    train_type, component_name           dropped: each phase has its own
    component_params                     proxy, if they are the mixer doremi's; but for the reference, which is trained
    init_mixture_proportions, mixture_*  reference
    step keys                            max_steps of every phase without a length of its own

What the section of a phase says itself wins. A file without any such key is a project already and stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMPONENT = "doremi"
STEP_KEYS = ("warmup_step", "update_step", "update_times", "train_step")
_PROPORTIONS = "init_mixture_proportions"
_RULE = "mixture_sample_rule"
_MIXTURE = "mixture_"
_REFERENCE = ("reference", "reference_model_path")
_RUN_KEYS = ("train_type", "component_name", "component_params", _PROPORTIONS, _RULE, *STEP_KEYS)


@dataclass
class Handed:
    """What became of the keys at the top.

    Attributes:
        base: Keys that all phases share.
        reference: Keys for the reference, below those of its section.
        proxy: Keys for the proxy, likewise.
        notes: One line each for the user, about what was moved or dropped.
        problems: What cannot be understood, one sentence each.
    """

    base: dict[str, Any]
    reference: dict[str, Any] = field(default_factory=dict)
    proxy: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def hand_out(base: Mapping[str, Any], source: str) -> Handed:
    """Take a run's own keys off the top of a project file and say whose they are.

    Args:
        base: The file without its section of phases.
        source: The file, for messages.

    Returns:
        The keys by phase; nothing is changed where the file has none of them.
    """
    if not any(key in base for key in _RUN_KEYS):
        return Handed(dict(base))
    mixture = {key: base[key] for key in base if key == _PROPORTIONS or key.startswith(_MIXTURE)}
    taken = {*_RUN_KEYS, *mixture}
    handed = Handed({key: value for key, value in base.items() if key not in taken}, reference=mixture)
    if mixture:
        handed.notes.append(f"{_listed(mixture)} (from {source}) at the top: for the reference only.")
    if _PROPORTIONS in mixture:
        mixture.setdefault(_RULE, "mixture")
    if dropped := [key for key in ("train_type", "component_name") if key in base]:
        handed.notes.append(f"{_listed(dropped)} (from {source}) at the top: dropped, each phase has its own.")
    _hand_params(base, source, handed)
    _hand_length(base, source, handed)
    return handed


def is_doremi(name: Any, keys: Mapping[str, Any]) -> bool:
    """Whether a ``component_name`` stands for the mixer doremi: itself, DIST/doremi, or a preset of it.

    Args:
        name: The name.
        keys: The keys beside it, which may name a ``components_cfg_file``.
    """
    return str(name).rpartition("/")[2] == COMPONENT or _preset(name, keys) == COMPONENT


def _preset(name: Any, keys: Mapping[str, Any]) -> str | None:
    """The component that a preset of ``components_cfg_file`` stands for; ``None`` if that cannot be told."""
    given = keys.get("components_cfg_file")
    if not isinstance(given, str) or not Path(given).is_file():
        return None
    from omegaconf import OmegaConf

    try:
        preset = OmegaConf.select(OmegaConf.load(given), "mixers", default={}).get(str(name), {})
        return str(preset.get("name", name)).rpartition("/")[2]
    except Exception:  # whatever is wrong with that file, the check of the phases says it
        return None


def _hand_params(base: Mapping[str, Any], source: str, handed: Handed) -> None:
    name, params = base.get("component_name"), base.get("component_params")
    if name is not None and is_doremi(name, base) and name != COMPONENT:
        handed.proxy["component_name"] = name  # a preset, or one of several packages
    if params is None:
        return
    if not isinstance(params, Mapping):
        handed.problems.append(f"component_params: {params!r} (from {source}) must be a mapping of names to values.")
    elif name is None or is_doremi(name, base):
        kept = {key: value for key, value in params.items() if key not in _REFERENCE}
        handed.proxy["component_params"] = kept
        trained = "" if len(kept) == len(params) else ", which reads the reference that is trained before it"
        handed.notes.append(f"component_params (from {source}) at the top: for the proxy{trained}.")
    else:
        handed.notes.append(
            f"component_params (from {source}) at the top: dropped, they are those of component_name: {name}. Put the "
            f"mixer {COMPONENT}'s under doremi.proxy."
        )


def _hand_length(base: Mapping[str, Any], source: str, handed: Handed) -> None:
    given = {key: base[key] for key in STEP_KEYS if base.get(key) is not None}
    if not given:
        return
    strange = {
        key: value
        for key, value in given.items()
        if isinstance(value, bool) or not isinstance(value, int) or value < (-1 if key == "update_times" else 0)
    }
    if strange:
        listed = ", ".join(f"{key}: {value!r}" for key, value in strange.items())
        handed.problems.append(f"{listed} (from {source}) must be whole numbers of steps.")
        return
    steps, spelt = _length(given)
    if steps is None:
        handed.problems.append(
            f"{_listed(given)} (from {source}) at the top give no length: set update_step and update_times, or "
            "train_step; or max_steps in their place."
        )
        return
    told = _whole(base.get("max_steps"))
    if steps and told > 0 and told != steps:
        handed.problems.append(
            f"max_steps: {told} (from {source}) differs from the {steps} steps of {spelt}. Leave one of the two out."
        )
        return
    if steps:
        handed.base["max_steps"] = steps
        handed.notes.append(
            f"{spelt} (from {source}) at the top: max_steps: {steps} of every phase without a length of its own."
        )
    else:
        handed.notes.append(f"{_listed(given)} (from {source}) at the top: num_train_epochs is the length of a phase.")


def _length(given: Mapping[str, int]) -> tuple[int | None, str]:
    """Steps of a run with these step keys: 0 for as many as its epochs hold, ``None`` for none; and how they add up."""
    if given.get("train_step"):
        return given["train_step"], f"train_step={given['train_step']}"
    warmup, update, times = given.get("warmup_step", 0), given.get("update_step"), given.get("update_times")
    if times == -1:
        return 0, ""
    if not update or not times:
        return None, ""
    return warmup + update * times, f"warmup_step={warmup} + update_step={update} x update_times={times}"


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _listed(keys: Any) -> str:
    return ", ".join(keys)
