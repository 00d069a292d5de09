"""A model that has diverged: said once, with the step, and the last checkpoint of finite weights is kept."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.checkpoint.folders import newest_first
from dataflex.components.passes import PoolLosses
from dataflex.errors import ComponentError
from dataflex.failures.saying import DIVERGED
from dataflex.trainers.host import Host

logger = logging.getLogger("dataflex")

ADVICE = DIVERGED


class Divergence:
    """Watches the losses of training steps, without waiting for the device but where the Trainer does so itself.

    Args:
        resumed: The checkpoint that the run goes on from.

    Attributes:
        last_finite: The last checkpoint whose weights are numbers, as far as this process knows; ``None`` before one.
    """

    def __init__(self, resumed: Path | None = None) -> None:
        self.last_finite = self._resumed = resumed
        self._began_broken: torch.Tensor | None = None  # whether the first loss was no number
        self._older: list[Path] = []  # checkpoints before a resumed one whose weights are none: one of them is sound
        self._broken: torch.Tensor | None = None  # whether a loss since the last look was no number
        self._said = False

    def note(self, loss: Any) -> None:
        """Take in the loss of a micro-batch."""
        if not isinstance(loss, torch.Tensor) or self._said:
            return
        broken = ~torch.isfinite(loss.detach()).all()
        self._began_broken = broken if self._began_broken is None else self._began_broken
        self._broken = broken if self._broken is None else self._broken | broken.to(self._broken.device)

    def look(self, trainer: Host, logs: dict[str, Any]) -> None:
        """Say so if a loss or gradient since the last log is no number. Called as the Trainer logs, which waits anyhow.

        Args:
            trainer: The ``transformers.Trainer``.
            logs: What it logs. A gradient that is no number says nothing under fp16, whose scaler skips such steps.
        """
        norm = logs.get("grad_norm")
        skips = getattr(trainer.accelerator, "scaler", None) is not None
        gradient = norm is not None and not skips and not math.isfinite(float(norm))
        loss = self._broken is not None and bool(self._broken)
        self._broken = None
        if self._said or not (loss or gradient):
            return
        self._said = True
        self._look_at_the_resumed()
        if trainer.is_world_process_zero():
            kept = f" The last checkpoint with finite weights is {self.last_finite}." if self.last_finite else ""
            if self._older:
                kept = f" The run went on from such weights: resume from a checkpoint before it, {self._older[0]}."
            logger.warning(
                "the %s of step %d or of one since the log before is not a number. %s.%s",
                *("training loss" if loss else "gradient", int(trainer.state.global_step), ADVICE, kept),
            )

    def checkpointed(self, trainer: Host, folder: Path) -> list[Path]:
        """Note a checkpoint that was just written.

        Returns:
            Those that are not to be rotated away: the last of finite weights, once there are others.
        """
        if weights_are_finite(trainer.model):
            self.last_finite, self._older = folder, []
            return []
        self._look_at_the_resumed()
        return self._older if self.last_finite is None else [self.last_finite]

    def _look_at_the_resumed(self) -> None:
        """Tell by the first loss whether the run goes on from weights that are no numbers."""
        resumed, first = self._resumed, self._began_broken
        if resumed is None or first is None:
            return
        self._resumed = None
        if bool(first) and self.last_finite == resumed:
            others = newest_first(resumed.parent)
            self.last_finite, self._older = None, others[others.index(resumed) + 1 :] if resumed in others else others


def require_some_loss(found: PoolLosses, rows: npt.NDArray[np.int64]) -> None:
    """Check that among losses that rows are ordered by there is a number, if a row has one.

    Raises:
        ComponentError: says that the model has diverged. Rows without a loss would keep their places.
    """
    if found.non_finite and not np.isfinite(found.means[rows]).any():
        raise ComponentError(f"none of the losses of {len(rows)} rows is a number. {ADVICE}")


def weights_are_finite(model: Any) -> bool:
    """Whether all trainable parameters, as far as this rank holds them, are numbers."""
    with torch.no_grad():
        return all(
            bool(torch.isfinite(getattr(parameter, "_local_tensor", parameter)).all())
            for parameter in model.parameters()
            if parameter.requires_grad
        )
