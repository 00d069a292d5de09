"""From a component's answer to the plan of a stage: the part that selecting and mixing share."""

from __future__ import annotations

import abc
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.build import call_by_name
from dataflex.components.context import RunContext
from dataflex.distributed import AnotherRankFailed, all_gather, assert_same_on_all_ranks, first_failure
from dataflex.errors import ComponentError, ConfigError, reason
from dataflex.schedule import Schedule
from dataflex.trainers.announce import announce
from dataflex.trainers.clock import DECISIONS
from dataflex.trainers.loss_seam import LossSeam
from dataflex.trainers.metrics import decision_metrics, log_metrics
from dataflex.trainers.resuming import advice
from dataflex.trainers.session import Session
from dataflex.trainers.time_limit import time_limit


@dataclass(frozen=True)
class Outcome:
    """What came of asking a component.

    Attributes:
        rows: The plan of the stage: row indices in training order, over all ranks; shape ``[num_samples]``.
        result: What was decided, for the record (the rows, or the proportions).
        metrics: Numbers for the record.
        decided: Whether the component was asked; otherwise there is no decision to record.
        scores: Score of every row of the pool, shape ``[pool]``, NaN where a row was not scored; ``None`` if the
            component gave none.
    """

    rows: npt.NDArray[np.int64]
    result: npt.NDArray[np.generic]
    metrics: Mapping[str, float | list[float]] = field(default_factory=dict)
    decided: bool = True
    scores: npt.NDArray[np.float64] | None = None


class ComponentPlanner(abc.ABC):
    """Asks a component at each boundary; checks, agrees on, records and returns the plan.

    Args:
        trainer: The ``transformers.Trainer``.
        session: The run.
        schedule: Its stages.
        context: What a component may see of the run.
        component: The selector or mixer.

    Attributes:
        domains: Names of the domains it draws from; empty for a selector.
        epoch_samples: ``None``: the stages are not the stock Trainer's epochs.
        loss_seam: Where it sees the losses of training steps; ``None`` if the component asked for none.
    """

    domains: Sequence[str] = ()
    epoch_samples: int | None = None
    loss_seam: LossSeam | None = None

    def __init__(self, trainer: Any, session: Session, schedule: Schedule, context: RunContext, component: Any) -> None:
        self.trainer, self.session, self.schedule = trainer, session, schedule
        self.context, self.component = context, component
        self._asked_seconds = 0.0

    def plan(self, stage: int, step: int, num_samples: int) -> npt.NDArray[np.int64]:
        """Make the plan of a stage; the same on all ranks.

        Raises:
            ComponentError: on every rank, when the component fails on one, returns something unusable or differs
                between ranks. A checkpoint of the current step has been written by then.
        """
        clock = self.trainer.recorder.clock
        started, cpu = time.perf_counter(), clock.cpu()
        outcome = self.outcome(stage, step, num_samples)
        seconds = time.perf_counter() - started
        if stage > 0 and outcome.decided:
            clock.add(DECISIONS, seconds, clock.cpu() - cpu)
        self._record(stage, step, outcome, seconds)
        return outcome.rows

    def outcome(self, stage: int, step: int, num_samples: int) -> Outcome:
        """Ask the component and see that all ranks got the same; nothing is recorded.

        Raises:
            ComponentError: as :meth:`plan`.
        """
        before = self.state_dict()
        self._asked_seconds = 0.0
        outcome, failure = None, ""
        cause: Exception | None = None
        try:
            outcome = self.decide(stage, step, num_samples)
        except AnotherRankFailed as error:
            cause = error
        except Exception as error:
            failure, cause = self._describe(error, stage, step), error
        failure = first_failure(failure, self.trainer.accelerator, last=True)
        if failure or outcome is None:
            raise ComponentError(failure + self._keep_progress(before)) from cause
        try:
            assert_same_on_all_ranks(f"the plan made at step {step}", outcome.rows, self.trainer.accelerator)
        except ComponentError as error:
            raise ComponentError(f"{self.session.title}: {error}{self._keep_progress(before)}") from error
        return outcome

    def _record(self, stage: int, step: int, outcome: Outcome, seconds: float) -> None:
        """Write the plan down and, where the component decided, what it was. Called on every rank."""
        recorder, entries = self.trainer.recorder, {}
        decided = stage > 0 and outcome.decided
        if recorder.writes and not decided:
            recorder.undecided(step, outcome)
        elif recorder.writes:
            decision = recorder.boundary(
                stage=stage, step=step, outcome=outcome, seconds=seconds, component_seconds=self._asked_seconds
            )
            announce(decision, self.describe(outcome))
            entries = decision_metrics(decision)
        if decided:
            log_metrics(self.trainer, all_gather(entries, self.trainer.accelerator)[0])

    def ask(self, method: Callable[..., Any], available: Mapping[str, Any]) -> Any:
        """Call a method of the component with those arguments that it names, for at most component_timeout seconds."""
        started = time.perf_counter()
        with time_limit(self.session.run.timeout):
            answer = method(**call_by_name(inspect.signature(method), available))
        self._asked_seconds = time.perf_counter() - started
        return answer

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

    def step_end(self, step: int) -> None:  # noqa: B027 - a default: most do nothing between boundaries
        """Note the end of an optimizer step, on every rank; ``step`` are done."""

    def finish(self, step: int) -> None:  # noqa: B027 - a default: most have nothing to add at the end
        """Note the end of the run, on every rank, after its last optimizer step ``step``."""

    def log_values(self) -> dict[str, float]:
        """Numbers that stand beside the training loss in the Trainer's log."""
        return {}

    def log_histogram(self) -> Mapping[str, Sequence[float]]:
        """A histogram to record with them: ``edges`` and ``counts``; empty if there is none."""
        return {}

    def model(self) -> Any:
        """The current model, without the wrapper that spreads it over ranks."""
        return self.trainer.accelerator.unwrap_model(self.trainer.model_wrapped)

    def runtime_arguments(self, stage: int) -> dict[str, Any]:
        """Facts that a component's ``select`` or ``mix`` may ask for by name."""
        trainer = self.trainer
        return {
            "optimizer_state": trainer.optimizer.state if trainer.optimizer is not None else None,
            "scheduler_state": trainer.lr_scheduler.state_dict() if trainer.lr_scheduler is not None else None,
            "current_update_times": stage,
            "update_times": len(self.schedule.boundaries),
            "dataset": self.context.dataset,
            "data_collator": self.context.data_collator,
            "tokenizer": getattr(trainer, "processing_class", None),
        }

    def _keep_progress(self, before: Mapping[str, Any]) -> str:
        self.load_state_dict(before)  # the resumed run comes to this boundary as if nothing had been tried
        return what_is_kept(self.trainer)

    def _describe(self, error: Exception, stage: int, step: int) -> str:
        where = "the warm-up" if stage == 0 and self.schedule.boundaries else f"step {step}"
        who = f"at {where}" if isinstance(error, ConfigError) else f"{self.session.title} failed at {where}"
        return f"{who}: {reason(error)}".removesuffix(".")


def what_is_kept(trainer: Any) -> str:
    """Write a checkpoint because a component has failed, on every rank; the end of its message."""
    kept = trainer.keep_progress()
    if kept is None:
        return "."
    return f". {advice(trainer.session.run.plan, kept, when='Nothing is lost: once it is mended,')}"
