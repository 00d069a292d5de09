"""The same command once more, on a run that has ended: nothing is loaded, nothing is trained, and it is said.

A command is the same if all its keys are, and the component, its parameters and the pool. Any other goes on to the
checkpoint, which says what may be different (:mod:`dataflex.trainers.engine.engine`) and what is left to train. So
does the same one where the last checkpoint is gone or damaged and an earlier one is left: that is how to train the end
again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dataflex.checkpoint.files import holds_weights
from dataflex.checkpoint.folders import latest_valid, newest_first, step_of
from dataflex.data.fingerprint import fingerprint
from dataflex.distributed import rank0_says
from dataflex.errors import ConfigError
from dataflex.record.run import RunInfo, RunRecord, hide_secrets
from dataflex.trainers.layout import global_batch

if TYPE_CHECKING:
    from dataflex.schedule import Schedule
    from dataflex.trainers.session import Session

logger = logging.getLogger("dataflex")

_HOW = ("resume_from_checkpoint", "overwrite_output_dir")  # say where to begin, not what to train


class HasEnded(SystemExit):
    """The run has ended before: LlamaFactory is left before it loads a model. The exit code is 0."""

    def __init__(self) -> None:
        super().__init__(0)


def leave_if_ended(session: Session, schedule: Schedule, pool: Sized, args: Any) -> None:
    """Leave, on every rank, if this is the command of a run that has ended; called when the pool is known.

    Args:
        session: The run.
        schedule: Its stages.
        pool: The tokenised pool.
        args: The ``transformers.TrainingArguments``.

    Raises:
        HasEnded: if it is.
    """
    info = None if args.process_index else _record_of_an_end(session)
    now = (schedule.warmup, schedule.update, schedule.total, int(args.seed), global_batch(args), len(pool))
    if info and (info.warmup, info.update, info.total, info.seed, info.global_batch, info.pool) != now:
        info = None
    same = info is not None and info.pool_fingerprint == fingerprint(pool)
    ended = rank0_says(_how(info) if info is not None and same else "")
    if ended:
        _leave(session, ended)


def leave_if_ended_without_checkpoints(session: Session) -> None:
    """Leave if this is the command of a run that has ended and kept no checkpoint.

    LlamaFactory refuses such an output directory before it reads data, so the pool is not looked at.

    Raises:
        HasEnded: if it is.
    """
    info = end_without_checkpoints(session)
    if info is not None:
        _leave(session, _how(info))


def end_without_checkpoints(session: Session) -> RunInfo | None:
    """The record of a run that has ended and kept no checkpoint, if this is its command; ``None`` if it is not."""
    return None if newest_first(session.run.facts.output_dir) else _record_of_an_end(session)


def _leave(session: Session, ended: str) -> NoReturn:
    logger.info(
        "%s %s: nothing is left to train. To train on, raise train_step, update_times or early_stopping_steps; to "
        "begin anew, name another output_dir or set overwrite_output_dir: true.",
        *(session.run.facts.output_dir, ended),
    )
    raise HasEnded


def _how(info: RunInfo) -> str:
    assert info.ending is not None
    early = f"ended early at step {info.ending.steps} by {info.ending.ended_by}"
    return early if info.ending.ended_by else f"ended at step {info.ending.steps}"


def _record_of_an_end(session: Session) -> RunInfo | None:
    """The record of the run, if it has ended with all it writes and this command has the same keys."""
    facts = session.run.facts
    given = facts.arguments.get("resume_from_checkpoint")
    named = isinstance(given, str) and given.lower() != "true"
    if named or facts.arguments.get("overwrite_output_dir"):
        return None
    try:
        info = RunRecord(facts.output_dir).info()
    except ConfigError:
        return None
    if info is None or info.ending is None or not info.ending.written or not holds_weights(facts.output_dir):
        return None
    if _lost_its_last_checkpoint(facts.output_dir, info.ending.checkpoint):
        return None
    asked = _what({**info.arguments, **info.unchecked})
    then: tuple[Any, ...] = (info.train_type, info.component, info.params, info.settings, asked)
    params, arguments = hide_secrets(facts.params), _what(hide_secrets(facts.arguments))
    return (
        info if then == (facts.train_type.value, facts.component.name, params, session.settings(), arguments) else None
    )


def _lost_its_last_checkpoint(output_dir: Path, last: int) -> bool:
    """Whether the checkpoint of step ``last`` is not whole any more though others are left, to resume from."""
    if not last or not newest_first(output_dir):
        return False
    whole, _ = latest_valid(output_dir)
    return whole is None or step_of(whole) < last


def _what(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key not in _HOW}
