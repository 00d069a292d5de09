"""Where a selector hears what training saw: the rows of each step, their losses, and a number a label source makes.

    training_step ── rows of the micro-batch ──┐
    compute_loss  ── outputs of the forward ───┼──> mean token loss of each row, before the step's update
    backward      ── label source, if any ─────┘         all ranks, in the order of the plan
    on_step_end   ──────────────────────────────────> on_rows(step, rows, losses, labels)

It stands around whoever shapes the loss, so that a weighter may act in the same run. Without losses and labels nothing
is exchanged but the verdict whether ``on_rows`` went well: every rank knows the plan.

Shapes: B rows of a micro-batch, A micro-batches of a step on one rank, R ranks, C columns, G rows of a step, S labels
of a row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from dataflex.errors import ComponentError
from dataflex.math.losses import output_logits, sample_losses
from dataflex.trainers.clock import DECISIONS, Clock
from dataflex.trainers.divergence import ADVICE
from dataflex.trainers.hooks import loss_not_seen
from dataflex.trainers.host import Host
from dataflex.trainers.losses.domain_tally import sum_dtype
from dataflex.trainers.losses.loss_seam import row_labels
from dataflex.trainers.losses.shaper import Batches, LossShaper, Rows

Numbers = npt.NDArray[np.float64]

INFLUENCE = "influence"
"""What the mean label of a step is called in the Trainer's log."""


class LabelSource(Protocol):
    """Makes a number of each row in the training step itself, such as an inner product of its gradient."""

    def watching(self, model: Any, inputs: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Stand around the training step of one micro-batch, backward included."""

    def take(self) -> torch.Tensor | None:
        """The numbers of the micro-batch that has ended, in the order of its rows; shape [B] or, several each, [B, S].

        ``None`` where none were made, on every rank and for all micro-batches of a step.
        """


class Told(Protocol):
    """Who may hear of the rows of a step: one component, or one for each domain."""

    def defines(self, method: str) -> bool:
        """Whether it has a method of its own."""

    def tell(self, method: str, step: int, told: Mapping[str, Any], untold: Callable[[], None]) -> None:
        """Call it on every rank, as :meth:`Asking.tell`."""


@dataclass(frozen=True)
class SeenRows:
    """What a selector is told of an optimizer step.

    Attributes:
        step: Optimizer steps done, this one included.
        rows: Rows of all ranks in the order of the plan, shape ``[G]``.
        losses: Their mean token losses before the step's update, NaN for a row without a target; ``None`` if nobody
            asked.
        labels: What the run's label source made of them, shape ``[G]`` or ``[G, S]``; ``None`` if it made none.
    """

    step: int
    rows: Rows
    losses: Numbers | None = None
    labels: Numbers | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        losses, labels = (None if each is None else each.tolist() for each in (self.losses, self.labels))
        return {"step": self.step, "rows": self.rows.tolist(), "losses": losses, "labels": labels}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> SeenRows:
        """From what :meth:`to_json` gave."""
        losses, labels = (
            None if values[name] is None else np.array(values[name], np.float64) for name in ("losses", "labels")
        )
        return SeenRows(int(values["step"]), np.array(values["rows"], np.int64), losses, labels)


class RowTelling:
    """Tells a selector of the rows of each step, around whoever shapes the loss.

    Args:
        inner: Who shapes the loss.
        host: The Trainer.
        asking: The selector, which defines ``on_rows``.
        rows_of: Rows of all ranks of the step after which so many are done.
        clock: Counts what the selector takes as deciding.
        sees_losses: Whether it is told of losses.
        labels: The run's label source, if it has one.
        key: Under which a step that was not told is remembered; another one for a second selector, a screen.
    """

    sees_steps = True
    places_B: torch.Tensor | None = None

    def __init__(
        self,
        inner: LossShaper,
        host: Host,
        asking: Told,
        rows_of: Callable[[int], Rows],
        clock: Clock,
        *,
        sees_losses: bool,
        labels: LabelSource | None = None,
        key: str = "untold_rows",
    ) -> None:
        self._key = key
        self._inner, self._host, self._asking, self._rows_of, self._clock = inner, host, asking, rows_of, clock
        self._sees_losses, self._labels = sees_losses, labels
        self._micro_batch: Rows | None = None  # its rows, while a training step is under way
        self._losses_B: torch.Tensor | None = None  # of that micro-batch
        self._parts_CB: list[torch.Tensor] = []
        self._labels_of_a_row: tuple[int, ...] = ()  # () for one each, (S,) for several
        self._untold: SeenRows | None = None
        self._influence: float | None = None

    def begin_step(self, batches: Batches, rows: Sequence[Rows]) -> None:
        """Begin the step for whoever shapes the loss."""
        self._parts_CB = []
        self._inner.begin_step(batches, rows)

    def training_step(self, stock: Callable[[], Any], model: Any, inputs: Any, rows: Callable[[], Rows]) -> Any:
        """Do the micro-batch as it is done anyway; keep its losses and labels.

        Raises:
            ConfigError: when its loss did not come by.
        """
        if not self._sees_losses and self._labels is None:
            return self._inner.training_step(stock, model, inputs, rows)
        rows_B = self._micro_batch = rows()
        self._losses_B = None
        watching = contextlib.nullcontext() if self._labels is None else self._labels.watching(model, inputs)
        try:
            with watching:
                loss = self._inner.training_step(stock, model, inputs, lambda: rows_B)
        finally:
            self._micro_batch = None
        columns = self._labels_of(rows_B)
        if self._sees_losses:
            if self._losses_B is None:
                raise loss_not_seen(self._host)
            columns = [self._losses_B, *columns]
        if columns:
            device = self._host.accelerator.device
            self._parts_CB.append(torch.stack([column.to(device, sum_dtype(device)) for column in columns]))
        return loss

    def _labels_of(self, rows_B: Rows) -> list[torch.Tensor]:
        """The columns of the micro-batch's labels."""
        labels = None if self._labels is None else self._labels.take()
        if labels is None:
            return []
        if len(labels) != len(rows_B):
            raise ComponentError(
                f"the collator made {len(labels)} rows of {len(rows_B)} samples; their gradients cannot be told apart."
            )
        self._labels_of_a_row = labels.shape[1:]
        return [labels] if labels.ndim == 1 else list(labels.T)

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss as it is made anyway; in a training step the outputs behind it are looked at."""
        rows_B = self._micro_batch
        if not self._sees_losses or rows_B is None or self._losses_B is not None:
            return self._inner.compute_loss(stock, model, inputs, *args, **kwargs)

        def watched(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            given = dict(inputs)  # stock code may pop the labels
            loss, outputs = stock(model, inputs, *args, **{**kwargs, "return_outputs": True})
            labels_BT = row_labels(given, rows_B)
            with torch.no_grad():
                seen = sample_losses(output_logits(outputs, labels_BT, model), labels_BT)
                # NaN says that a row has no target.
                self._losses_B = torch.where((seen.counts_B > 0) & seen.means.isnan(), torch.inf, seen.means)
            return (loss, outputs) if kwargs.get("return_outputs") else loss

        return self._inner.compute_loss(watched, model, inputs, *args, **kwargs)

    def step_end(self, step: int) -> None:
        """Tell the selector, after whoever shapes the loss."""
        with self._clock.spending(DECISIONS):
            seen = self._untold = self._seen(step)  # so that it is told at the resume, if the next line fails
        self._influence = _mean(seen.labels)
        self._inner.step_end(step)
        with self._clock.spending(DECISIONS):
            self._tell(seen)

    def _seen(self, step: int) -> SeenRows:
        rows_G = self._rows_of(step)
        if not self._parts_CB:
            return SeenRows(step, rows_G)
        accelerator = self._host.accelerator
        ranks, micro_batches = int(accelerator.num_processes), len(self._parts_CB)
        local_ACB = torch.stack(self._parts_CB)
        self._parts_CB = []
        every_RACB = accelerator.gather(local_ACB).unflatten(0, (ranks, micro_batches))
        # Whole micro-batches are dealt out to the ranks in turn, so the plan has them in this order.
        columns_CG = every_RACB.permute(2, 1, 0, 3).flatten(1).cpu().double().numpy()
        if columns_CG.shape[1] != len(rows_G):
            raise RuntimeError(f"the losses of {columns_CG.shape[1]} rows were seen in a step of {len(rows_G)}")
        columns = [np.ascontiguousarray(column) for column in columns_CG]
        losses = columns.pop(0) if self._sees_losses else None
        if losses is not None and (broken := int(np.isinf(losses).sum())):
            raise ComponentError(f"the training loss of {broken} of {len(losses)} rows is not a number. {ADVICE}")
        labels = np.stack(columns, axis=1).reshape(len(rows_G), *self._labels_of_a_row) if columns else None
        return SeenRows(step, rows_G, losses, labels)

    def _tell(self, seen: SeenRows) -> None:
        def untold() -> None:
            self._untold = seen

        self._untold = None
        told = {"step": seen.step, "rows": seen.rows, "losses": seen.losses, "labels": seen.labels}
        self._asking.tell("on_rows", seen.step, told, untold)

    def resumed(self) -> None:
        """Tell the selector of the step that it was not told of before the checkpoint."""
        self._inner.resumed()
        if self._untold is not None:
            self._tell(self._untold)

    def finish(self, step: int) -> None:
        """End the run for whoever shapes the loss."""
        self._inner.finish(step)

    def log_values(self) -> Mapping[str, float]:
        """Those of whoever shapes the loss, and the mean label of the latest step."""
        own = {} if self._influence is None else {INFLUENCE: self._influence}
        return {**self._inner.log_values(), **own}

    def log_histogram(self) -> Mapping[str, Sequence[float]]:
        """That of whoever shapes the loss."""
        return self._inner.log_histogram()

    def state_dict(self) -> dict[str, Any]:
        """What whoever shapes the loss remembers, and the step that was not told."""
        untold = {} if self._untold is None else {self._key: self._untold.to_json()}
        return {**self._inner.state_dict(), **untold}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._inner.load_state_dict(state)
        untold = state.get(self._key)
        self._untold = None if untold is None else SeenRows.from_json(untold)


def _mean(labels: Numbers | None) -> float | None:
    """The mean of a step's labels; ``None`` where no row has one."""
    if labels is None or not np.isfinite(labels).any():
        return None
    return float(labels[np.isfinite(labels)].mean())
