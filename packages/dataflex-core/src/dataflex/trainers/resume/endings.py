"""Ends before the last planned step: which callback asked for one, and a checkpoint that says so.

    a callback sets should_training_stop ──► RunEnd notes who ──► a checkpoint of this step, with the note in it
                                                                        │
    the same command ──► ended_by(checkpoint) ──► nothing is left to train, unless something was raised since

A run that was only interrupted (SIGTERM, LlamaBoard's abort) has not ended: the same command goes on.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback, ExportableState

from dataflex.errors import ConfigError
from dataflex.failures.foreign import foreign
from dataflex.trainers.stopping import StopAtSignal

EARLY_STOPPING = "early stopping"
INTERRUPTS = "dataflex_interrupts"
"""Attribute of a callback that only interrupts a run, which the same command is to go on with: a time budget."""

_ALWAYS_INTERRUPT = frozenset({"LogCallback", "JITCheckpointCallback"})  # LlamaBoard's abort; the Trainer's own SIGTERM
_SAVES_AT_THE_END = frozenset({"steps", "epoch"})
_CALLBACK = "the callback "


class RunEnd(TrainerCallback, ExportableState):
    """Notes who ends a run early, and has a checkpoint written there as the Trainer has at the last planned step.

    It has to stand last among the callbacks. Its note goes into ``trainer_state.json``, as states of callbacks do.

    Args:
        total: Planned steps of the run.

    Attributes:
        by: Who ended it early, for messages; ``""`` while nobody has.
        interrupts: Whether that was an interruption, so that the run has not ended.
        give_back: Gives callbacks the states of a checkpoint; called again once they have all begun, as some set
            their attributes there.
    """

    def __init__(self, total: int) -> None:
        self.total, self.by, self.interrupts = total, "", False
        self.give_back: Callable[[], None] | None = None
        self._saved: tuple[int, str] | None = None  # step and note of the last checkpoint
        self._within_a_step = False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: ``by``, if the run has ended."""
        return {"args": {}, "attributes": {"by": "" if self.interrupts else self.by}}

    @contextlib.contextmanager
    def watching(
        self, handler: CallbackHandler, stop: StopAtSignal, kept: Collection[TrainerCallback] = ()
    ) -> Iterator[None]:
        """See, for as long as the context lasts, which callback sets ``should_training_stop``.

        Args:
            handler: The Trainer's.
            stop: Ours for SIGTERM, after which another callback may still say that the run is over.
            kept: Callbacks whose ``on_train_begin`` is left out, as what it stores is there already.
        """

        def call_event(event: str, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            if event == "on_save":  # the checkpoint has been written with the note as it is before anyone is told
                self._saved = (int(state.global_step), self.by)
            for callback in handler.callbacks:
                if event == "on_train_begin" and any(callback is one for one in kept):
                    continue
                hidden = bool(control.should_training_stop and stop.stopped and not self.by)
                before = control.should_training_stop and not hidden
                epoch_ended = control.should_epoch_stop
                if hidden:
                    control.should_training_stop = False
                alone = copy.copy(handler)
                alone.callbacks = [callback]
                with foreign():
                    control = type(handler).call_event(alone, event, args, state, control, **kwargs)
                if control.should_training_stop and not before and callback is not stop:
                    self._note(callback, state)
                elif control.should_epoch_stop and not epoch_ended and event != "on_epoch_end":
                    raise ConfigError(
                        f"{_CALLBACK}{type(callback).__name__} ended an epoch early at step {state.global_step} "
                        "(should_epoch_stop), which the stages of a dynamic run have no place for. Let it set "
                        "should_training_stop, or leave it out."
                    )
                control.should_training_stop = control.should_training_stop or hidden
            if event == "on_train_begin" and self.give_back is not None:
                self.give_back()
            return control

        vars(handler)["call_event"] = call_event  # in front of the method, for this handler only
        try:
            yield
        finally:
            del vars(handler)["call_event"]

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is under way: what is stopped within it has no state to go on from."""
        self._within_a_step = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Have a checkpoint written if the run ends here."""
        self._within_a_step = False
        self._save_here(args, state, control)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """As at the end of a step: the checkpoint comes after the log."""
        self._save_here(args, state, control)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """As at the end of a step: the checkpoint comes after the evaluation."""
        self._save_here(args, state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Have it written now, if the end was asked for after the checkpoint of the step."""
        self._save_here(args, state, control)

    def _save_here(self, args: Any, state: Any, control: Any) -> None:
        early = self.by and not self._within_a_step and 0 < state.global_step < self.total
        saves = str(getattr(args.save_strategy, "value", args.save_strategy)) in _SAVES_AT_THE_END
        if early and saves and self._saved != (int(state.global_step), self.by):
            control.should_save = True

    def _note(self, callback: TrainerCallback, state: Any) -> None:
        if isinstance(callback, DefaultFlowCallback) and state.global_step >= self.total:
            return  # the planned end
        name = type(callback).__name__
        if isinstance(callback, EarlyStoppingCallback):
            self.by = EARLY_STOPPING
        elif isinstance(callback, DefaultFlowCallback):
            self.by = f"a callback that set max_steps to {state.max_steps}"
        else:
            self.by = _CALLBACK + name
        self.interrupts = bool(getattr(callback, INTERRUPTS, name in _ALWAYS_INTERRUPT))


def ended_by(states: Mapping[str, Any], callbacks: Collection[TrainerCallback]) -> str:
    """Who ended the run at a checkpoint early, if it has ended for this run too.

    Early stopping with more patience than has been spent goes on; so does a run without the callback that ended it.

    Args:
        states: ``stateful_callbacks`` of the checkpoint's ``trainer_state.json``.
        callbacks: Those of this run.

    Returns:
        As :attr:`RunEnd.by`; ``""`` if the run goes on.
    """
    by = str(_attributes(states, RunEnd.__name__).get("by", _before_there_were_notes(states)))
    if by == EARLY_STOPPING:
        stoppers = [one for one in callbacks if isinstance(one, EarlyStoppingCallback)]
        spent = [_attributes(states, type(one).__name__).get("early_stopping_patience_counter", 0) for one in stoppers]
        over = any(count >= one.early_stopping_patience for one, count in zip(stoppers, spent, strict=True))
        return by if over else ""
    if by.startswith(_CALLBACK):
        return by if any(type(one).__name__ == by.removeprefix(_CALLBACK) for one in callbacks) else ""
    return by


def _before_there_were_notes(states: Mapping[str, Any]) -> str:
    """What a checkpoint of an older version tells: its control, and how much patience was spent."""
    name = EarlyStoppingCallback.__name__
    stops = _last(states, "TrainerControl").get("args", {}).get("should_training_stop")
    patience = _last(states, name).get("args", {}).get("early_stopping_patience")
    counter = _attributes(states, name).get("early_stopping_patience_counter", 0)
    return EARLY_STOPPING if stops and patience is not None and counter >= patience else ""


def _attributes(states: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = _last(states, name).get("attributes", {})
    return found if isinstance(found, Mapping) else {}


def _last(states: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The newest state by a name: of several callbacks of one class, the Trainer keeps a list that grows."""
    found = states.get(name, {})
    found = found[-1] if isinstance(found, list) and found else found
    return found if isinstance(found, Mapping) else {}
