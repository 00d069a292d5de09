"""What tells runs apart, and whether a checkpoint is of the run that is to go on from it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping

from dataflex.checkpoint.engine_state import EngineState
from dataflex.checkpoint_keys.compare import Changes
from dataflex.distributed import rank0_says
from dataflex.errors import ConfigError, shown
from dataflex.schedule import Schedule

logger = logging.getLogger("dataflex")

_TOLD_BY_THE_ENGINE = ("seed", "warmup_step", "update_step", "train_type", "component_name")
_SAME = ("domains", "seed", "global_batch", "pool_size", "pool_fingerprint", "component")


def new_run_id() -> str:
    """What tells a run that starts anew from all others; the same on every rank."""
    return str(rank0_says(uuid.uuid4().hex))


def refuse_another_run(then: EngineState, now: EngineState, schedule: Schedule, changes: Changes, source: str) -> None:
    """Refuse to go on from a checkpoint of a run that differs in something that changes the result.

    Args:
        then: The engine in the checkpoint.
        now: The engine of this run.
        schedule: Of this run.
        changes: The keys that differ.
        source: What messages call the checkpoint.

    Raises:
        ConfigError: names everything that differs.
    """
    changed = [
        f"{name} was {shown(getattr(then, name))} and is now {shown(getattr(now, name))}"
        for name in _SAME
        if getattr(then, name) != getattr(now, name)
    ]
    earlier = Schedule(then.warmup, then.update, then.total)
    if not schedule.agrees_up_to(earlier, then.step):
        changed.append(f"its boundaries were {earlier}, and are now {schedule}")
    if changed:
        changed += [str(change) for change in changes.content if change.name not in _TOLD_BY_THE_ENGINE]
    changed += map(str, changes.refused)
    if changed:
        raise ConfigError(
            f"cannot resume from {source}: {'; '.join(changed)}. Put the run back as it was, or start anew in "
            "another output_dir."
        )


def warn_of_other_versions(then: Mapping[str, str], now: Mapping[str, str], source: str) -> None:
    """Say that a checkpoint was written by other versions of core or of the components' distributions, if it was."""
    if dict(then) != dict(now):
        logger.warning("%s was written by %s; this is %s.", source, *map(_named, (then, now)))


def _named(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}".strip() for name, version in versions.items()) or "unknown versions"
