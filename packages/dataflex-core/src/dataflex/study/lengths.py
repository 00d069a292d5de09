"""How long the runs of a study train: T, the baseline's optimizer steps, and its multiples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dataflex.config.run import RunFile
from dataflex.errors import DataFlexError
from dataflex.runs import TrainType

LENGTH_KEYS = ("train_step", "update_times", "max_steps", "num_train_epochs")
"""Keys of a run file that say how long it trains."""


def names_a_length(keys: Mapping[str, Any]) -> bool:
    """Whether keys have a length of their own."""
    return any(keys.get(key) is not None for key in LENGTH_KEYS)


def length_key(train_type: Any) -> str:
    """The key that sets the optimizer steps of a run: a dynamic run ignores ``max_steps``, a static one our keys."""
    return "max_steps" if train_type in (None, TrainType.STATIC.value) else "train_step"


def planned_steps(run: RunFile) -> int | None:
    """Optimizer steps of a run by its keys; ``None`` where only the data tells, or a key is wrong."""
    try:
        train_type = run.train_type
        most = _whole(run.llamafactory.get("max_steps"))
        if train_type is TrainType.STATIC:
            return most
        steps = run.steps()
    except DataFlexError:
        return None
    if steps.train > 0:
        return steps.train
    if train_type in (TrainType.WEIGHT, TrainType.STATIC_MIX):
        return most
    return steps.warmup + steps.update * steps.times if steps.times > 0 else None


def steps_at(length: float, total: int) -> int:
    """Optimizer steps of the baseline at a multiple of T."""
    return round(length * total)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
