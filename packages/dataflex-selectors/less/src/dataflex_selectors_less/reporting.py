"""What the log says of a selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataflex.components.context import logger
from dataflex.components.passes import Subtask

Metrics = dict[str, float | list[float]]
"""Numbers of a decision, by name."""


def report(
    metrics: Metrics, subtasks: Sequence[Subtask], step: int, accelerator: Any = None, component: str = "less"
) -> None:
    """Log a selection by what its decision records, and warn of rows that have no score or count for nothing."""
    logger.info(
        "%s at step %d: scored %d samples against %s in %.1f s (%.1f samples/s).",
        component,
        step,
        metrics["scored"],
        ", ".join(f"{subtask.name} ({len(subtask.rows)})" for subtask in subtasks),
        metrics["seconds"],
        metrics["samples_per_second"],
    )
    if metrics["validation_non_finite"] or metrics["validation_zero"]:
        logger.warning(
            "of the %d rows of the eval sets, %d have a gradient that is not finite and are left out, and %d have "
            "one that is zero and count as no likeness at all.%s",
            metrics["validation"],
            metrics["validation_non_finite"],
            metrics["validation_zero"],
            _fp16_advice(accelerator),
        )
    if metrics["non_finite"] or metrics["without_targets"]:
        logger.warning(
            "%d samples have a gradient that is zero or not finite and %d have no target token; none is chosen.%s",
            metrics["non_finite"],
            metrics["without_targets"],
            _fp16_advice(accelerator) if metrics["non_finite"] else "",
        )


def _fp16_advice(accelerator: Any) -> str:
    """What to do where half precision may have been too small for a gradient."""
    if str(getattr(accelerator, "mixed_precision", "no")) != "fp16":
        return ""
    return " In fp16 a gradient may be too large or too small for the numbers there are: bf16: true has room for both."
