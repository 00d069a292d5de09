"""From a component's answer to the plan of a stage: the part that selecting and mixing share."""

from __future__ import annotations

import abc
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.distributed import assert_same_on_all_ranks, first_failure
from dataflex.errors import ComponentError, DataFlexError
from dataflex.schedule import Schedule
from dataflex.trainers.loss_seam import LossSeam
from dataflex.trainers.session import Session

logger = logging.getLogger("dataflex")


@dataclass(frozen=True)
class Outcome:
    """What came of asking a component.

    Attributes:
        rows: The plan of the stage: row indices in training order, over all ranks; shape ``[num_samples]``.
        result: What was decided, for the record (the rows, or the proportions).
        metrics: Numbers for the record.
    """

    rows: npt.NDArray[np.int64]
    result: npt.NDArray[np.generic]
    metrics: Mapping[str, float | list[float]] = field(default_factory=dict)


class ComponentPlanner(abc.ABC):
    """Asks a component at each boundary; checks, agrees on, records and returns the plan.

    Args:
        trainer: The ``transformers.Trainer``.
        session: The run.
        schedule: Its stages.
        component: The selector or mixer.

    Attributes:
        domains: Names of the domains it draws from; empty for a selector.
        loss_seam: Where it sees the losses of training steps; ``None`` if the component asked for none.
    """

    domains: Sequence[str] = ()
    loss_seam: LossSeam | None = None

    def __init__(self, trainer: Any, session: Session, schedule: Schedule, component: Any) -> None:
        self.trainer, self.session, self.schedule, self.component = trainer, session, schedule, component

    def plan(self, stage: int, step: int, num_samples: int) -> npt.NDArray[np.int64]:
        """Make the plan of a stage; the same on all ranks.

        Raises:
            ComponentError: on every rank, when the component fails on one, returns something unusable or differs
                between ranks. A checkpoint of the current step has been written by then.
        """
        started = time.perf_counter()
        outcome, failure, cause = None, "", None
        try:
            outcome = self.decide(stage, step, num_samples)
        except Exception as error:
            failure, cause = self._describe(error, stage, step), error
        failure = first_failure(failure, self.trainer.accelerator)
        if failure or outcome is None:
            raise ComponentError(failure + self._keep_progress()) from cause
        try:
            assert_same_on_all_ranks(f"the plan made at step {step}", outcome.rows, self.trainer.accelerator)
        except ComponentError as error:
            raise ComponentError(f"{self.session.title}: {error}{self._keep_progress()}") from error
        if stage > 0 and self.trainer.is_world_process_zero():
            decision = self.session.record(
                step=step,
                stage=stage,
                seed=int(self.trainer.args.seed),
                seconds=time.perf_counter() - started,
                metrics=outcome.metrics,
                result=outcome.result,
            )
            logger.info("step %d: %s, in %.1f s", step, self.describe(outcome), decision.seconds)
        return outcome.rows

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

    def model(self) -> Any:
        """The current model, without the wrapper that spreads it over ranks."""
        return self.trainer.accelerator.unwrap_model(self.trainer.model_wrapped)

    def runtime_arguments(self, stage: int) -> dict[str, Any]:
        """Facts that a component's ``select`` or ``mix`` may ask for by name."""
        trainer = self.trainer
        return {
            "optimizer_state": trainer.optimizer.state_dict() if trainer.optimizer is not None else None,
            "scheduler_state": trainer.lr_scheduler.state_dict() if trainer.lr_scheduler is not None else None,
            "current_update_times": stage,
            "update_times": len(self.schedule.boundaries),
            "tokenizer": getattr(trainer, "processing_class", None),
        }

    def _keep_progress(self) -> str:
        kept = self.trainer.keep_progress()
        return f". Nothing is lost: once it is mended, resume from {kept}" if kept is not None else ""

    def _describe(self, error: Exception, stage: int, step: int) -> str:
        where = "the warm-up" if stage == 0 else f"step {step}"
        reason = str(error) if isinstance(error, DataFlexError) else f"{type(error).__name__}: {error}"
        return f"{self.session.title} failed at {where}: {reason}"
