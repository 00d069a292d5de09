"""From a component's answer to the plan of a stage: the part that selecting and mixing share."""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dataflex.components.asking import Asking
from dataflex.components.context import RunContext
from dataflex.distributed import all_gather, assert_same_on_all_ranks
from dataflex.errors import ComponentError
from dataflex.schedule import Schedule
from dataflex.trainers.clock import DECISIONS
from dataflex.trainers.host import Host
from dataflex.trainers.recording.announce import announce
from dataflex.trainers.recording.metrics import decision_metrics, log_metrics
from dataflex.trainers.recording.outcome import Outcome
from dataflex.trainers.recording.recorder import Recorder
from dataflex.trainers.session import Session


class Planner(Protocol):
    """The first slot of a run, who orders the rows: makes the plan of a stage from the current model.

    Attributes:
        domains: Names of the domains it draws from; empty if it knows none.
        epoch_samples: Samples of an epoch over all ranks, if the stages are epochs that end as the stock Trainer's do,
            with a step that may be short; ``None`` if every step is full.
        weighs_places: Whether its plans may have weights.
        weights: Of the plan made last, one for each of its rows; ``None`` for the stock loss.
    """

    domains: Sequence[str]
    epoch_samples: int | None
    weighs_places: bool
    weights: npt.NDArray[np.float64] | None

    def plan(self, stage: int, step: int, num_samples: int) -> npt.NDArray[np.int64]:
        """Return row indices in training order, over all ranks; shape ``[num_samples]``."""

    def state_dict(self) -> dict[str, Any]:
        """What the planner must remember across a resume, as JSON values."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; ``state`` may hold more."""

    def finish(self, step: int, stage: int) -> None:
        """Note the end of the run, after ``step`` optimizer steps, in ``stage``."""

    def log_values(self) -> Mapping[str, float]:
        """Numbers that stand beside the training loss in the Trainer's log."""


class ComponentPlanner(abc.ABC):
    """Asks a component at each boundary; checks, agrees on, records and returns the plan.

    Args:
        host: The Trainer.
        session: The run.
        schedule: Its stages.
        context: What a component may see of the run.
        recorder: Writes down what is decided.
        asking: The selector or mixer.

    Attributes:
        domains: Names of the domains it draws from; empty for a selector.
        epoch_samples: ``None``: the stages are not the stock Trainer's epochs.
        weighs_places: Whether its plans may have weights.
        weights: Of the plan made last.
    """

    domains: Sequence[str] = ()
    epoch_samples: int | None = None
    weighs_places = False
    weights: npt.NDArray[np.float64] | None = None

    def __init__(
        self,
        host: Host,
        session: Session,
        schedule: Schedule,
        context: RunContext,
        recorder: Recorder | None,
        asking: Asking,
    ) -> None:
        self.host, self.session, self.schedule = host, session, schedule
        self.context, self.asking = context, asking
        self._recorder = recorder
        self._asked_seconds = 0.0

    def plan(self, stage: int, step: int, num_samples: int) -> npt.NDArray[np.int64]:
        """Make the plan of a stage; the same on all ranks.

        Raises:
            ComponentError: on every rank, when the component fails on one, returns something unusable or differs
                between ranks. A checkpoint of the current step has been written by then.
        """
        started = time.perf_counter()
        cpu = 0.0 if self._recorder is None else self._recorder.clock.cpu()
        outcome = self.outcome(stage, step, num_samples)
        if self._recorder is not None:
            self._record(self._recorder, stage, step, outcome, time.perf_counter() - started, cpu)
        self.weights = outcome.weights
        return outcome.rows

    def outcome(self, stage: int, step: int, num_samples: int) -> Outcome:
        """Ask the component and see that all ranks got the same; nothing is recorded.

        Raises:
            ComponentError: as :meth:`plan`.
        """
        before = self.state_dict()

        def kept() -> str:
            self.load_state_dict(before)  # the resumed run comes to this boundary as if nothing had been tried
            return self.asking.progress.keep()

        self._asked_seconds = 0.0
        where = "the warm-up" if stage == 0 and self.schedule.boundaries else f"step {step}"
        with self.asking.agreed(where, kept):
            outcome = self.decide(stage, step, num_samples)
        try:
            assert_same_on_all_ranks(f"the plan made at step {step}", to_agree_on(outcome), self.host.accelerator)
        except ComponentError as error:
            raise ComponentError(f"{self.asking.title}: {error}{kept()}") from error
        return outcome

    def _record(
        self, recorder: Recorder, stage: int, step: int, outcome: Outcome, seconds: float, cpu_began: float
    ) -> None:
        """Write the plan down and, where the component decided, what it was. Called on every rank."""
        entries: dict[str, float] = {}
        decided = stage > 0 and outcome.decided
        if decided:
            recorder.clock.add(DECISIONS, seconds, recorder.clock.cpu() - cpu_began)
        if recorder.writes and not decided:
            recorder.undecided(step, outcome, stage=stage)
        elif recorder.writes:
            decision = recorder.boundary(
                stage=stage, step=step, outcome=outcome, seconds=seconds, component_seconds=self._asked_seconds
            )
            announce(decision, self.describe(outcome))
            entries = decision_metrics(decision)
        if decided:
            log_metrics(self.host, all_gather(entries, self.host.accelerator)[0])

    def ask(self, method: str, **available: Any) -> Any:
        """Call a method of the component and note how long it took."""
        try:
            return self.asking.call(method, **available)
        finally:
            self._asked_seconds = self.asking.spent

    @abc.abstractmethod
    def decide(self, stage: int, step: int, num_samples: int) -> Outcome:
        """Ask the component, on every rank; raise for an unusable answer."""

    @abc.abstractmethod
    def describe(self, outcome: Outcome) -> str:
        """One line about a decision, for the log."""

    def state_dict(self) -> dict[str, Any]:
        """What the planner itself must remember across a resume, as JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - a default: most have no state
        """Take back what :meth:`state_dict` gave."""

    def finish(self, step: int, stage: int) -> None:  # noqa: B027 - a default: most have nothing to add at the end
        """Note the end of the run, on every rank, after its last optimizer step ``step``."""

    def log_values(self) -> dict[str, float]:
        """Numbers that stand beside the training loss in the Trainer's log."""
        return {}

    def model(self) -> Any:
        """The current model, without the wrapper that spreads it over ranks."""
        return model_of(self.host)

    def runtime_arguments(self, stage: int) -> dict[str, Any]:
        """Facts that a component's ``select`` or ``mix`` may ask for by name."""
        return runtime_arguments(self.host, self.schedule, self.context, stage)


def model_of(host: Host) -> Any:
    """The current model, without the wrapper that spreads it over ranks."""
    return host.accelerator.unwrap_model(host.model_wrapped)


def runtime_arguments(host: Host, schedule: Schedule, context: RunContext, stage: int) -> dict[str, Any]:
    """Facts that a component's ``select`` or ``mix`` may ask for by name."""
    return {
        "optimizer_state": host.optimizer.state if host.optimizer is not None else None,
        "scheduler_state": host.lr_scheduler.state_dict() if host.lr_scheduler is not None else None,
        "current_update_times": stage,
        "update_times": len(schedule.boundaries),
        "dataset": context.dataset,
        "data_collator": context.data_collator,
        "tokenizer": getattr(host, "processing_class", None),
    }


def to_agree_on(outcome: Outcome) -> npt.NDArray[np.int64]:
    """The rows and, bit by bit, their weights."""
    if outcome.weights is None:
        return outcome.rows
    return np.concatenate([outcome.rows, outcome.weights.view(np.int64)])
