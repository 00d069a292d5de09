"""Puts the new values of keys to work in a Trainer that has loaded a checkpoint made under the old ones.

The Trainer takes the optimizer's numbers and the steps between logs, evaluations and checkpoints from the checkpoint,
and what the user has written since from nowhere. Here the optimizer that was just made from the new arguments is asked
for its numbers before its state is loaded: so each group of parameters gets its own (LoRA+'s larger learning rate, no
weight decay for norms), and the schedule its base.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback

from dataflex.checkpoint.state import Saved
from dataflex.checkpoint_keys.at_work import COMPONENT_PARAMS
from dataflex.checkpoint_keys.compare import Change, Changes
from dataflex.checkpoint_keys.keys import BEST_MODEL
from dataflex.checkpoint_keys.models import weight_files
from dataflex.errors import ConfigError, shown
from dataflex.trainers.host import Host
from dataflex.trainers.resume.run_keys import missing_paths

logger = logging.getLogger("dataflex")

_RATE = "learning_rate"
_HELD_AS: Mapping[str, tuple[str, ...]] = {
    _RATE: ("initial_lr",),
    "weight_decay": ("weight_decay", "wd"),
    "adam_beta1": ("betas", "adamw_betas", "beta1"),
    "adam_beta2": ("betas", "adamw_betas", "beta2"),
    "adam_epsilon": ("eps", "adamw_eps"),
}
"""Names under which optimizers keep a key in their groups of parameters."""

_OWN_SCHEDULE = ("schedulefree", "prodigyopt", "prodigy_plus", "dadaptation", "lomo_optim", "badam")
_STEERED = ("reduce_lr_on_plateau", "greedy")
_TRAINERS_OWN = ("transformers.trainer", "transformers.trainer_utils")
_MISLEADING = "do not match the ones in the `trainer_state.json`"


def told_of(changes: Changes, saved: Saved, source: Path) -> Iterator[str]:
    """What to say of a resume that goes on under other keys, a line each; those of the optimizer follow when set."""
    for change in changes.noted:
        yield _line(change, source)
    for change in changes.unknown:
        yield f"{_line(change, source)} What follows from that is not known to dataflex."
    for place, path in missing_paths(saved.keys).items():
        yield f"the component's state in {source} names {path} (at {place}), which is gone. Was a folder moved?"


def _line(change: Change, source: Path) -> str:
    before, now = shown(change.before), shown(change.now)
    return f"{_as_written(change.name)} was {before} when {source} was written and is now {now}{change.remark}."


def _as_written(name: str) -> str:
    """A key as a run file has it: parameters of several components are recorded under their kinds."""
    group, _, rest = name.partition(".")
    kind, dot, own = rest.partition(".")
    return f"components.{kind}.params.{own}" if group == COMPONENT_PARAMS and dot else name


def refuse_in_advance(trainer: Host, changes: Changes) -> Changes:
    """Refuse changes of the optimizer's numbers of which it is clear before the checkpoint loads that they cannot be.

    Returns:
        The changes, those among the refused ones.
    """
    found = []
    for change in changes.optimizer:
        if trainer.is_deepspeed_enabled:
            remark = ", which cannot be changed in an optimizer that DeepSpeed has loaded"
        elif change.name == _RATE and str(getattr(trainer.args.lr_scheduler_type, "value", "")) in _STEERED:
            remark = f", but the schedule {trainer.args.lr_scheduler_type.value} has moved it since"
        else:
            continue
        found.append(replace(change, remark=f"{remark} (a new run can begin from the checkpoint's weights)"))
    return replace(changes, refused=[*changes.refused, *found])


@contextlib.contextmanager
def in_the_optimizer(trainer: Host, changes: Sequence[Change], source: Path) -> Iterator[None]:
    """Set changed numbers of the optimizer, once the body has loaded optimizer and schedule from a checkpoint.

    Args:
        trainer: With an optimizer and a schedule made from the new arguments, and nothing loaded yet.
        changes: Of the keys ``learning_rate``, ``weight_decay`` and ``adam_*``.
        source: The checkpoint.

    Raises:
        ConfigError: when this optimizer or this schedule takes no other value; says what to do instead.
    """
    if not changes:
        yield
        return
    optimizer, scheduler = trainer.optimizer, trainer.lr_scheduler
    obstacle = _obstacle(optimizer, scheduler, changes)
    if obstacle:
        raise _cannot(source, changes, obstacle)
    fresh = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    yield
    for change in changes:
        names = _HELD_AS[change.name]
        at_work = [_set(group, new, names) for group, new in zip(optimizer.param_groups, fresh, strict=True)]
        if change.name == _RATE:
            if not any(at_work):
                raise _cannot(source, [change], "the optimizer does not take it from there")
            _restart_schedule(scheduler)
        if trainer.is_world_process_zero():
            unread = "" if any(at_work) else f" {type(_inner(optimizer)).__name__} does not use it."
            logger.warning("%s%s", _line(change, source), unread)


def _obstacle(optimizer: Any, scheduler: Any, changes: Sequence[Change]) -> str:
    """Why numbers of this optimizer cannot be set; ``""`` if they can."""
    inner = _inner(optimizer)
    name, home = type(inner).__name__, type(inner).__module__
    if hasattr(inner, "optimizer_dict"):
        return f"{name} has an optimizer in each layer, out of reach"
    if home.partition(".")[0] in _OWN_SCHEDULE:
        return f"{name} has a schedule of its own"
    if not any(change.name == _RATE for change in changes):
        return ""
    if any(group.get("relative_step") for group in inner.param_groups):
        return f"{name} with relative_step sets it itself"
    if type(scheduler) is not LambdaLR:
        return f"the schedule {type(scheduler).__name__} has moved it since"
    return ""


def _cannot(source: Path, changes: Sequence[Change], why: str) -> ConfigError:
    return ConfigError(
        f"cannot resume from {source}: {'; '.join(map(str, changes))}, but {why}. Put "
        f"{', '.join(change.name for change in changes)} back as it was, or begin another run from these weights: "
        f"model_name_or_path: {source} (adapter_name_or_path for an adapter), with another output_dir."
    )


def _inner(optimizer: Any) -> Any:
    """The optimizer without accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _set(group: dict[str, Any], new: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Give a group its new numbers; whether one of them differs from what was loaded."""
    held = [name for name in names if name in new and name in group]
    different = [name for name in held if group[name] != new[name]]
    for name in different:
        group[name] = new[name]
    return bool(different)


def _restart_schedule(scheduler: LambdaLR) -> None:
    """Let a schedule that has come to its present step go on from the groups' new initial learning rates."""
    groups = scheduler.optimizer.param_groups
    scheduler.base_lrs = [group["initial_lr"] for group in groups]
    for group, base, factor in zip(groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True):
        rate = base * factor(scheduler.last_epoch)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    scheduler._last_lr = [group["lr"] for group in groups]


class ResumedState(TrainerCallback):
    """Corrects what the Trainer has read from a checkpoint's ``trainer_state.json``, before the first step.

    The steps between logs, evaluations and checkpoints are those of the arguments, shares of the run's length counted
    anew; a best model that belongs to another question, or whose files are gone, is forgotten.

    Args:
        checkpoint: The checkpoint.
        changes: What differs from the run that wrote it.
    """

    def __init__(self, checkpoint: Path, changes: Changes) -> None:
        self._checkpoint = checkpoint
        self._asked_otherwise = [change.name for change in changes.silent if change.name in BEST_MODEL]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer once it has read the state."""
        state.compute_steps(args, state.max_steps)
        if state.best_model_checkpoint is None and state.best_metric is None:
            return
        if self._asked_otherwise:
            what = " and ".join(self._asked_otherwise)
            self._forget(state, f"{what} changed, so the best model up to {self._checkpoint} cannot be compared")
        elif state.best_model_checkpoint is not None:
            self._find_best(args, state)

    def _find_best(self, args: Any, state: Any) -> None:
        """The best checkpoint lies beside the one that is resumed, wherever the two have been moved."""
        stored = Path(state.best_model_checkpoint)
        beside = self._checkpoint.parent / stored.name
        if _holds_model(beside) or not _holds_model(stored):
            state.best_model_checkpoint = str(beside)
        if args.load_best_model_at_end and not _holds_model(Path(state.best_model_checkpoint)):
            self._forget(state, f"the best model up to {self._checkpoint} is gone: there is none in {stored}")

    @staticmethod
    def _forget(state: Any, why: str) -> None:
        if state.is_world_process_zero:
            logger.warning("%s. The best of the steps to come will count.", why)
        state.best_metric = state.best_model_checkpoint = None
        if hasattr(state, "best_global_step"):
            state.best_global_step = None


def _holds_model(folder: Path) -> bool:
    """Whether a checkpoint's weights are there, in files or, of a sharded model, in folders."""
    sharded = any(folder.glob("global_step*")) or any(folder.glob("pytorch_model_fsdp*"))
    return folder.is_dir() and (bool(weight_files(folder)) or sharded)


@contextlib.contextmanager
def without_misleading_warning() -> Iterator[None]:
    """Keep back the Trainer's warning that it goes by the steps of the checkpoint: it does not, see above."""

    def keep(record: logging.LogRecord) -> bool:
        return _MISLEADING not in record.getMessage()

    loggers = [logging.getLogger(name) for name in _TRAINERS_OWN]
    for one in loggers:
        one.addFilter(keep)
    try:
        yield
    finally:
        for one in loggers:
            one.removeFilter(keep)
