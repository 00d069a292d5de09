"""The Select Trainer's planner: a selector's answer, checked, recorded and agreed on, is the plan of a stage."""

from __future__ import annotations

import inspect
import logging
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.build import call_by_name
from dataflex.components.selector import Selection
from dataflex.distributed import assert_same_on_all_ranks, first_failure
from dataflex.errors import ComponentError, DataFlexError
from dataflex.schedule import Schedule
from dataflex.trainers.session import Session

logger = logging.getLogger("dataflex")


class SelectPlanner:
    """Asks a selector for the samples of each stage.

    Args:
        trainer: The ``transformers.Trainer``.
        session: The run.
        schedule: Its stages.
        selector: The component.
    """

    def __init__(self, trainer: Any, session: Session, schedule: Schedule, selector: Any) -> None:
        self._trainer, self._session, self._schedule, self._selector = trainer, session, schedule, selector

    def plan(self, stage: int, step: int, num_samples: int) -> npt.NDArray[np.int64]:
        """Warm-up rows for stage 0, selected rows for every other; the same on all ranks.

        Raises:
            ComponentError: on every rank, when the selector fails on one or returns something unusable.
        """
        started = time.perf_counter()
        rows, selection = np.zeros(0, np.int64), Selection(())
        failure, cause = "", None
        try:
            selection = self._ask(stage, step, num_samples)
            rows = valid_rows(selection.rows, num_samples, len(self._trainer.train_dataset))
        except Exception as error:
            failure, cause = self._describe(error, stage, step), error
        failure = first_failure(failure, self._trainer.accelerator)
        if failure:
            raise ComponentError(failure + self._keep_progress()) from cause
        assert_same_on_all_ranks(f"rows chosen at step {step}", rows, self._trainer.accelerator)
        if stage > 0 and self._trainer.is_world_process_zero():
            self._record(stage, step, rows, selection, time.perf_counter() - started)
        return rows

    def _ask(self, stage: int, step: int, num_samples: int) -> Selection:
        if stage == 0:
            answer = self._selector.warmup(num_samples, False) if hasattr(self._selector, "warmup") else None
            if answer is None:
                raise ComponentError("it has no warmup(num_samples, replacement); inherit from dataflex.Selector")
        else:
            trainer = self._trainer
            model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
            arguments = {
                "optimizer_state": trainer.optimizer.state_dict() if trainer.optimizer is not None else None,
                "scheduler_state": trainer.lr_scheduler.state_dict() if trainer.lr_scheduler is not None else None,
                "current_update_times": stage,
                "update_times": len(self._schedule.boundaries),
                "tokenizer": getattr(trainer, "processing_class", None),
            }
            given = {"model": model, "step_id": step, "num_samples": num_samples}
            wanted = call_by_name(inspect.signature(self._selector.select), {**given, **arguments})
            answer = self._selector.select(**wanted)
        return answer if isinstance(answer, Selection) else Selection(answer)

    def _keep_progress(self) -> str:
        kept = self._trainer.keep_progress()
        return f". Nothing is lost: once it is mended, resume from {kept}" if kept is not None else ""

    def _describe(self, error: Exception, stage: int, step: int) -> str:
        where = "the warm-up" if stage == 0 else f"step {step}"
        reason = str(error) if isinstance(error, DataFlexError) else f"{type(error).__name__}: {error}"
        return f"{self._session.title} failed at {where}: {reason}"

    def _record(
        self, stage: int, step: int, rows: npt.NDArray[np.int64], selection: Selection, seconds: float
    ) -> None:
        pool_size = len(self._trainer.train_dataset)
        distinct = len(np.unique(rows))
        self._session.record(
            step=step,
            stage=stage,
            seed=int(self._trainer.args.seed),
            seconds=seconds,
            metrics={"pool": pool_size, "selected": len(rows), "distinct": distinct, **selection.metrics},
            result=rows,
        )
        logger.info(
            "step %d: %s chose %d samples (%d distinct) of %d in %.1f s",
            step,
            self._session.run.plan.component.name,
            len(rows),
            distinct,
            pool_size,
            seconds,
        )


def valid_rows(answer: Any, num_samples: int, pool_size: int) -> npt.NDArray[np.int64]:
    """Check a selector's answer before it is used.

    Args:
        answer: Any sequence or array of row indices.
        num_samples: How many there must be.
        pool_size: Rows of the pool.

    Returns:
        The rows, shape ``[num_samples]``.

    Raises:
        ComponentError: says which of count, type or range is wrong, with the first offending value.
    """
    try:
        values = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer)
    except (TypeError, ValueError) as error:
        raise ComponentError(f"it returned {type(answer).__name__}, not a list of row indices ({error})") from error
    if values.ndim != 1 or len(values) != num_samples:
        raise ComponentError(f"it returned shape {list(values.shape)} where {num_samples} row indices were asked for")
    if not np.issubdtype(values.dtype, np.integer):
        if not np.issubdtype(values.dtype, np.floating):
            raise ComponentError(f"it returned {values.dtype} values; row indices are integers")
        bad = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))
        if len(bad):
            raise ComponentError(f"it returned {values[bad[0]]} at position {bad[0]}; row indices are integers")
    outside = np.flatnonzero((values < 0) | (values >= pool_size))
    if len(outside):
        raise ComponentError(
            f"it returned row {values[outside[0]]} at position {outside[0]}; the pool has rows 0 to {pool_size - 1}"
        )
    return values.astype(np.int64)
