"""What evaluating, best model, early stopping and schedule ask of each other: told before anything loads.

The Trainer finds most of it out at the first evaluation, or when training begins: the model has loaded by then, and
steps have been trained. The metrics there will be follow from keys alone: the eval sets, and what a stage measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dataflex.config.metric_names import (
    PREFIX,
    SPEED,
    Arguments,
    added_by_stage,
    eval_sets,
    lacks_eval_set,
    listed,
    metric_names,
    prefixes,
)
from dataflex.hints import did_you_mean
from dataflex.runs import Problem

Origin = Callable[[str], str]

_LOSS = "eval_loss"
_STEPS = 500  # default of logging_steps and save_steps
_BY_METRIC = ("reduce_lr_on_plateau", "greedy")
"""Learning-rate schedules that look at a metric after each evaluation."""

_NO_STAGE = ""  # a Trainer without LlamaFactory: it may measure more than its arguments say
_CANNOT_LOAD_BEST = ("rm", "ppo")
_EVALUATES = ("do_eval", "do_predict", "predict_with_generate", "eval_on_start")


def problems(arguments: Arguments, origin: Origin) -> Iterator[Problem]:
    """Contradictions that would show at the first evaluation or when training begins.

    Args:
        arguments: LlamaFactory's own keys, or the Trainer's arguments under their names.
        origin: Where the value of a key came from, for messages.
    """
    if arguments.get("stage") == "ppo":
        return  # evaluates nothing
    strategies = [strategy(arguments, key) for key in ("eval_strategy", "save_strategy")]
    if None in strategies:
        return  # LlamaFactory says which words there are
    asks = [f"eval_strategy: {strategies[0]}"] if strategies[0] != "no" else []
    asks += [f"{key}: true" for key in _EVALUATES if arguments.get(key)]
    lacks = lacks_eval_set(arguments)
    if asks and lacks:
        key = asks[0].partition(":")[0]
        yield Problem(
            f"{asks[0]} (from {origin(key)}) evaluates, and {lacks}.",
            f"Set eval_dataset or val_size, or {key}: {'no' if key == 'eval_strategy' else 'false'}.",
        )
    yield from _best_model(arguments, origin)
    if not arguments.get("do_train"):
        return  # metrics are compared while training
    yield from _schedule(arguments, origin)
    yield from _metric(arguments, origin, evaluates=strategies[0] != "no" and not lacks)


def warnings(arguments: Arguments, origin: Origin) -> Iterator[str]:
    """Settings of evaluation that do nothing, or the opposite of what was probably meant.

    Args:
        arguments: As for :func:`problems`.
        origin: As there.
    """
    if not arguments.get("do_train") or arguments.get("stage") == "ppo":
        return
    evaluates, saves = strategy(arguments, "eval_strategy"), strategy(arguments, "save_strategy")
    if evaluates == "no" and saves == "no" and arguments.get("load_best_model_at_end"):
        yield "load_best_model_at_end has no effect: eval_strategy: no never finds a best model."
    if evaluates == "no" and saves == "best":
        yield "save_strategy: best writes no checkpoint: eval_strategy: no never finds a best model."
    patience = arguments.get("early_stopping_steps")
    if isinstance(patience, int) and patience < 1:
        yield (
            f"early_stopping_steps: {patience} (from {origin('early_stopping_steps')}) ends the run at its first "
            "evaluation. Leave it out for no early stopping."
        )
    metric, greater = arguments.get("metric_for_best_model"), arguments.get("greater_is_better")
    if isinstance(metric, str) and isinstance(greater, bool) and greater is metric.endswith("loss"):
        chosen = "highest" if greater else "lowest"
        yield (
            f"greater_is_better: {str(greater).lower()} (from {origin('greater_is_better')}) takes the {chosen} "
            f"{metric} for the best. Leave it out unless that is meant."
        )
    sets = eval_sets(arguments)
    if isinstance(metric, str) and sets and len(sets) > 1 and metric.removeprefix(PREFIX) in added_by_stage(arguments):
        yield f"metric_for_best_model: {metric} will be that of the last eval set, {sets[-1]}: all have it by one name."


def _best_model(arguments: Arguments, origin: Origin) -> Iterator[Problem]:
    if not arguments.get("load_best_model_at_end"):
        return
    key = f"load_best_model_at_end: true (from {origin('load_best_model_at_end')})"
    stage = arguments.get("stage")
    if stage in _CANNOT_LOAD_BEST:
        yield Problem(f"{key} is not possible in stage: {stage}, whose checkpoints it cannot load.", "Leave it out.")
        return
    evaluates, saves = strategy(arguments, "eval_strategy"), strategy(arguments, "save_strategy")
    if saves == "best":
        return
    if evaluates != saves:
        yield Problem(
            f"{key} needs a checkpoint at each evaluation, but eval_strategy is {evaluates} and save_strategy {saves}.",
            "Set both to steps or both to epoch, or save_strategy: best.",
        )
    elif evaluates == "steps":
        every, saved = evaluates_every(arguments), _number(arguments, "save_steps")
        if not _is_multiple(saved, every):
            yield Problem(
                f"{key} needs a checkpoint of an evaluated step, but save_steps is {saved:g} and eval_steps {every:g}.",
                "Make save_steps a multiple of eval_steps, both in steps or both as shares of the run.",
            )


def _schedule(arguments: Arguments, origin: Origin) -> Iterator[Problem]:
    given = _word(arguments.get("lr_scheduler_type"))
    if given in _BY_METRIC and strategy(arguments, "eval_strategy") == "no":
        yield Problem(
            f"lr_scheduler_type: {given} (from {origin('lr_scheduler_type')}) goes by a metric, and eval_strategy: no "
            "never measures one.",
            "Set eval_strategy: steps with an eval set, or another schedule.",
        )


def _metric(arguments: Arguments, origin: Origin, *, evaluates: bool) -> Iterator[Problem]:
    """Whether the metric that checkpoints, patience or schedule go by is given and will be there."""
    names = metric_names(arguments)
    choices = "" if names is None else f" Here they are {listed(names)}."
    given = arguments.get("metric_for_best_model")
    default = _default_for(arguments, origin)
    stopper = _stopper(arguments, origin)
    if stopper and strategy(arguments, "eval_strategy") == "no":
        yield Problem(f"{stopper} waits for a metric, and eval_strategy: no never measures one.", "Set eval_strategy.")
    elif not given and not default:
        needs = [stopper] if stopper else []
        if strategy(arguments, "save_strategy") == "best":
            needs.append(f"save_strategy: best (from {origin('save_strategy')})")
        for key in needs:
            yield Problem(
                f"{key} compares evaluations by metric_for_best_model, which is missing.",
                f"Set metric_for_best_model to the metric that counts.{choices}",
            )
    metric = str(given or (default and _LOSS))
    wanted = metric if metric.startswith(PREFIX) else PREFIX + metric
    if not evaluates or not (given or default) or not _will_miss(wanted, names, arguments):
        return
    if names is None:
        names = tuple(f"{prefix}loss" for prefix in prefixes(eval_sets(arguments) or ()))
    key = origin("metric_for_best_model")
    if given and not (arguments.get("stage") == _NO_STAGE and default):
        said = f"metric_for_best_model: {given} (from {key}) will not be measured.{did_you_mean(wanted, names)}"
    else:
        said = f"{default} goes by {_LOSS}, as metric_for_best_model is not set, and that will not be measured."
    fix = f"Set metric_for_best_model to one of {listed(names)}." if names else "There is no metric to go by."
    yield Problem(said, fix)


def _default_for(arguments: Arguments, origin: Origin) -> str:
    """The key for which the Trainer takes the loss, if no other metric is named; ``""`` if there is none."""
    if arguments.get("load_best_model_at_end") and arguments.get("stage") not in _CANNOT_LOAD_BEST:
        return f"load_best_model_at_end: true (from {origin('load_best_model_at_end')})"
    given = _word(arguments.get("lr_scheduler_type"))
    return f"lr_scheduler_type: {given} (from {origin('lr_scheduler_type')})" if given in _BY_METRIC else ""


def _stopper(arguments: Arguments, origin: Origin) -> str:
    patience = arguments.get("early_stopping_steps")
    if patience is None:
        return ""
    if arguments.get("stage") == _NO_STAGE:
        return "EarlyStoppingCallback"
    return f"early_stopping_steps: {patience} (from {origin('early_stopping_steps')})"


def _will_miss(wanted: str, names: Sequence[str] | None, arguments: Arguments) -> bool:
    """Whether an evaluation will certainly not have a metric."""
    sets = eval_sets(arguments)
    if names is None:  # what is certain even so: a loss by set leaves no other
        return arguments.get("stage") == _NO_STAGE and bool(sets) and wanted == _LOSS
    speeds = [f"{prefix}{name}" for prefix in prefixes(sets or ()) for name in SPEED]
    memory = arguments.get("skip_memory_metrics") is False and "_mem_" in wanted
    return wanted not in names and wanted not in speeds and not memory


def strategy(arguments: Arguments, key: str) -> str | None:
    """A strategy as the Trainer reads it; ``None`` for a word it does not know."""
    known = ("no", "steps", "epoch", "best") if key == "save_strategy" else ("no", "steps", "epoch")
    given = arguments.get(key)
    word = ("steps" if key == "save_strategy" else "no") if given is None else _word(given)
    return word if word in known else None


def _word(given: Any) -> str:
    return str(getattr(given, "value", given))


def _number(arguments: Arguments, key: str) -> float:
    given = arguments.get(key)
    return float(given) if isinstance(given, (int, float)) else _STEPS


def evaluates_every(arguments: Arguments) -> float:
    """The interval of evaluations, in steps or as a share of the run below 1."""
    return _number(arguments, "eval_steps" if arguments.get("eval_steps") else "logging_steps")


def _is_multiple(saved: float, every: float) -> bool:
    """The Trainer's rule: steps with steps, shares of the run with shares, and no remainder."""
    if not every or (saved < 1) != (every < 1):
        return not every
    scale = 1_000_000 if every < 1 else 1
    return not (saved * scale) % (every * scale)
