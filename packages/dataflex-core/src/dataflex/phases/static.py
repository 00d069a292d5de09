"""Phases that sample in fixed proportions: which keys of a project's top they take over, and what they leave."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dataflex.decisions import DecisionLog
from dataflex.errors import ConfigError
from dataflex.phases.checks import domain_names
from dataflex.phases.phase import Phase
from dataflex.record.run import RunInfo, RunRecord

logger = logging.getLogger("dataflex")

_STEP_KEYS = ("warmup_step", "update_step", "update_times")
_PROPORTIONS = ("mixture_sample_rule", "init_mixture_proportions", "mixture_temperature")
_OF_A_RUN = ("train_type", "component_name", "component_params", "components", *_STEP_KEYS, *_PROPORTIONS)
_LENGTHS = ("train_step", "max_steps", "num_train_epochs")


def shared_keys(keys: Mapping[str, Any], section: str, source: str) -> dict[str, Any]:
    """What all phases take over from the top of a project: everything but what makes a run of one component.

    Args:
        keys: The project.
        section: The key of its section.
        source: The file, for messages.

    Raises:
        ConfigError: with what is missing or cannot be meant, one a line.
    """
    problems = [f"{key} is missing from {source}." for key in ("output_dir", "dataset") if not keys.get(key)]
    if len(domain_names(keys.get("dataset"))) == 1:
        problems.append(f"dataset (from {source}) names one domain; a mixture needs two or more.")
    if keys.get("resume_from_checkpoint") not in (None, True, False):
        problems.append(
            f"resume_from_checkpoint (from {source}) names one checkpoint, but every phase goes on from its own last "
            "one. Leave it out."
        )
    if problems:
        raise ConfigError("\n".join(problems))
    if dropped := [key for key in _OF_A_RUN if keys.get(key) is not None]:
        logger.warning(
            "%s (from %s) at the top: dropped, every phase of `dataflex %s` samples in fixed proportions.",
            *(", ".join(dropped), source, section),
        )
    return {key: value for key, value in keys.items() if key not in (*_OF_A_RUN, section)}


def static_keys(shared: Mapping[str, Any], own: Mapping[str, Any], output_dir: Path, **sampling: Any) -> dict[str, Any]:
    """The keys of a phase that samples in fixed proportions.

    Args:
        shared: What all phases have.
        own: What the section says of it; a length there takes the place of every length at the top.
        output_dir: Where it trains.
        sampling: How it samples.
    """
    has_length = any(own.get(key) for key in (*_LENGTHS, "update_times"))
    kept = {key: value for key, value in shared.items() if not (has_length and key in _LENGTHS)}
    return {
        **kept,
        "train_type": "static_mix",
        **own,
        **sampling,
        "output_dir": str(output_dir),
        "resume_from_checkpoint": True,
    }


def planned_steps(phase: Phase) -> int | None:
    """Optimizer steps of a phase by its keys; ``None`` where only the data tells."""
    for key in ("train_step", "max_steps"):
        if int(phase.keys.get(key) or 0) > 0:
            return int(phase.keys[key])
    return None


def eval_losses(phase: Phase, sets: Sequence[str]) -> list[float]:
    """The losses that a complete phase ended with, of each eval set.

    Raises:
        ConfigError: if there are none.
    """
    path = phase.output_dir / "eval_results.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [float(found[f"eval_{name}_loss"]) for name in sets]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{phase.title}: {path} holds no loss of {' and '.join(sets)} ({type(error).__name__}: {error}). Delete "
            f"{phase.output_dir} to train it again."
        ) from error


def domain_numbers(phase: Phase, metric: str, names: Sequence[str]) -> list[float] | None:
    """What the last decision record of a complete phase says of each domain; ``None`` if it does not say it."""
    found: list[float] | None = None
    for record in DecisionLog(phase.output_dir):
        values, domains = record.metrics.get(metric), record.metrics.get("domains")
        if isinstance(values, list) and isinstance(domains, list) and sorted(domains) == sorted(names):
            by_name = dict(zip(domains, values, strict=True))
            found = [float(by_name[name]) for name in names]
    return found


def run_info(phase: Phase) -> RunInfo:
    """The record of a complete phase.

    Raises:
        ConfigError: if it has none.
    """
    info = RunRecord(phase.output_dir).info()
    if info is None:
        raise ConfigError(f"{phase.title}: {phase.output_dir} holds no record of a run. Delete it to train it again.")
    return info
