"""What a run is too short for: intervals of logging, evaluating, saving and warming up beyond its last step.

The Trainer takes them in silence. The best model is then the last one, early stopping never stops, a killed run begins
anew, and the learning rate stays below its peak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

from dataflex.config.evaluation import evaluates_every, strategy
from dataflex.runs import Steps

_DEFAULT = 500  # of logging_steps and save_steps
_NO_STAGE = ""  # a Trainer without LlamaFactory: its arguments hold the defaults too


def planned_steps(steps: Steps | None, arguments: Mapping[str, Any]) -> int | None:
    """The optimizer steps of a run, as far as its keys alone say.

    Args:
        steps: The step keys; ``None`` for a static run.
        arguments: LlamaFactory's own keys.

    Returns:
        The steps; ``None`` where they follow from the number of epochs, and so from the data.
    """
    if steps is not None and steps.train > 0:
        return steps.train
    if steps is not None and steps.update > 0:
        return steps.warmup + steps.update * steps.times if steps.times > 0 else None
    most = arguments.get("max_steps")
    return most if isinstance(most, int) and most > 0 else None


def warnings(arguments: Mapping[str, Any], origin: Callable[[str], str], total: int) -> Iterator[str]:
    """Keys that come to nothing in a run of so many steps.

    Args:
        arguments: LlamaFactory's own keys, or the Trainer's arguments under their names.
        origin: Where the value of a key came from, for messages.
        total: Optimizer steps of the run.
    """
    if not arguments.get("do_train") or arguments.get("stage") == "ppo":
        return
    if strategy(arguments, "eval_strategy") == "steps":
        yield from _evaluation(arguments, origin, total)
    beyond = f"beyond the {total} steps of this run"
    best = bool(arguments.get("load_best_model_at_end"))
    saved = _given(arguments, "save_steps") or (_DEFAULT if best and "save_steps" not in arguments else None)
    if strategy(arguments, "save_strategy") == "steps" and saved is not None and saved > total:
        lacks = "load_best_model_at_end has no earlier model to load, and a" if best else "a"
        yield (
            f"save_steps: {saved:g} (from {origin('save_steps')}) is {beyond}: there is no checkpoint before its end, "
            f"so {lacks} run that is stopped begins anew."
        )
    logged = _given(arguments, "logging_steps")
    if arguments.get("logging_strategy", "steps") == "steps" and logged is not None and logged > total:
        yield f"logging_steps: {logged:g} (from {origin('logging_steps')}) is {beyond}: no loss is logged on the way."
    warmed = arguments.get("warmup_steps")
    if _is_number(warmed) and warmed >= max(total, 1) and warmed > 1:
        yield (
            f"warmup_steps: {warmed:g} (from {origin('warmup_steps')}) warms up the learning rate for longer than the "
            f"{total} steps of this run: it ends before its peak."
        )


def _evaluation(arguments: Mapping[str, Any], origin: Callable[[str], str], total: int) -> Iterator[str]:
    every, key = evaluates_every(arguments), "eval_steps" if arguments.get("eval_steps") else "logging_steps"
    if every < 1:
        every = max(1.0, every * total)
    delay = arguments.get("eval_delay")
    waits = delay if _is_number(delay) else 0
    on_the_way = [step for step in _multiples(every, total) if step >= waits]
    if waits > every and waits >= total:
        what = f"eval_delay: {waits:g} (from {origin('eval_delay')})"
    else:
        what = f"{key}: {every:g} (from {origin(key)})"
    best = arguments.get("load_best_model_at_end")
    if not on_the_way and (best or every > total or waits >= total):  # only at the end may be what was meant
        follows = "load_best_model_at_end has no earlier model to choose" if best else "nothing is evaluated on the way"
        yield f"{what} leaves no evaluation before the end of the {total} steps of this run: {follows}."
    patience = arguments.get("early_stopping_steps")
    if isinstance(patience, int) and patience >= 1 and len(on_the_way) <= patience:
        source = "" if arguments.get("stage") == _NO_STAGE else f" (from {origin('early_stopping_steps')})"
        yield (
            f"early_stopping_steps: {patience}{source} cannot stop this run: it waits for {patience} evaluations "
            f"without gain after the first, and before the last of its {total} steps there are {len(on_the_way)}."
        )


def _multiples(every: float, total: int) -> range:
    """The steps before the last one at which the Trainer evaluates."""
    return range(int(every), total, max(1, int(every)))


def _given(arguments: Mapping[str, Any], key: str) -> float | None:
    """The interval that the user chose, if it is a number of steps."""
    value = arguments.get(key)
    if not _is_number(value) or value < 1 or (value == _DEFAULT and arguments.get("stage") == _NO_STAGE):
        return None
    return float(value)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
