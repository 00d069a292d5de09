"""What callbacks remember across a resume: what they export is given back, what they cannot keep is refused.

A callback that is an ``ExportableState`` of transformers has its state in every checkpoint. Its attributes are given
back; its arguments are those of the run that resumes, so that a raised ``early_stopping_steps`` is at work.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState, TrainerControl, TrainerState

from dataflex.errors import ConfigError, shown
from dataflex.trainers.resume.endings import RunEnd

logger = logging.getLogger("dataflex")

_FORGETFUL: Mapping[str, str] = {
    "SyncRefModelCallback": "its reference model has moved with the steps before the checkpoint",
    "BEMACallback": "its average of the weights began with those before training",
    "WinRateCallback": "it compares with what the model wrote before training",
}
"""Callbacks of libraries that keep in memory alone what a resumed run would need, and what that is."""

_KNOWN = ("transformers.", "trl.", "llamafactory.", "dataflex.")
"""Packages whose callbacks were looked at: those that are not named above begin anew without harm."""


def saved_states(checkpoint: Path) -> Mapping[str, Any]:
    """The callbacks' part of a checkpoint, by the names of their classes."""
    path = checkpoint / "trainer_state.json"
    found = json.loads(path.read_text(encoding="utf-8")).get("stateful_callbacks") if path.is_file() else None
    return found if isinstance(found, Mapping) else {}


def give_back(states: Mapping[str, Any], callbacks: Sequence[TrainerCallback]) -> None:
    """Set the attributes that callbacks had at a checkpoint. What they are called with stays that of this run.

    Args:
        states: ``stateful_callbacks`` of the checkpoint's ``trainer_state.json``.
        callbacks: Those of this run, in order; :class:`RunEnd` is not touched.
    """
    for callback, saved in _pairs(states, callbacks):
        for name, value in saved.get("attributes", {}).items():
            setattr(callback, name, value)


def report_changes(states: Mapping[str, Any], callbacks: Sequence[TrainerCallback]) -> None:
    """Say which arguments of callbacks are not those the checkpoint was written under."""
    for callback, saved in _pairs(states, callbacks):
        now = callback.state().get("args", {})
        for name, before in saved.get("args", {}).items():
            if name in now and now[name] != before:
                logger.info(
                    "%s.%s was %s and is now %s.", type(callback).__name__, name, shown(before), shown(now[name])
                )


def exported(callbacks: Sequence[TrainerCallback], control: TrainerControl) -> dict[str, Any]:
    """``stateful_callbacks`` as a new run of these callbacks begins with: one the checkpoint lacks has its place."""
    own: Any = [one for one in [*callbacks, control] if isinstance(one, ExportableState)]
    states: Any = TrainerState(stateful_callbacks=own).stateful_callbacks
    return dict(states)


def refuse_forgetful(callbacks: Sequence[TrainerCallback], checkpoint: Path) -> None:
    """Refuse to resume with a callback that needs, later on, what it stored when training began the first time.

    That is one named above, and one of the user's own that does something both when training begins and when it ends,
    unless it exports its state.

    Raises:
        ConfigError: names the callback.
    """
    for callback in callbacks:
        kind = type(callback)
        why = next((_FORGETFUL[base.__name__] for base in kind.__mro__ if base.__name__ in _FORGETFUL), "")
        if isinstance(callback, ExportableState) or kind.__module__.startswith("dataflex."):
            continue
        if not why and not kind.__module__.startswith(_KNOWN) and _begins_and_ends(kind):
            why = "what it stores when training begins, for the end, would be of this checkpoint"
        if why:
            raise ConfigError(
                f"cannot resume from {checkpoint} with the callback {kind.__name__}: {why}. Leave it out, start anew, "
                "or let it inherit transformers' ExportableState, whose state() says what a checkpoint is to keep."
            )


def _begins_and_ends(kind: type) -> bool:
    return all(
        getattr(kind, event, None) is not getattr(TrainerCallback, event)
        for event in ("on_train_begin", "on_train_end")
    )


def _pairs(states: Mapping[str, Any], callbacks: Sequence[TrainerCallback]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Each callback with its state. Of several of one class, the last states are theirs: the Trainer only adds."""
    for name, found in states.items():
        own = [
            one
            for one in callbacks
            if type(one).__name__ == name and isinstance(one, ExportableState) and not isinstance(one, RunEnd)
        ]
        listed = found if isinstance(found, list) else [found]
        for callback, saved in zip(own, listed[-len(own) :] if own else (), strict=False):
            if isinstance(saved, Mapping):
                yield callback, saved
