"""The loss of a training step's micro-batches, from one cross entropy, whoever looks at it or weighs it.

    compute_loss ──> stock code: pops the labels, runs the model
                       └─> compute_loss_func: token losses ─┬─> shown to the mixer's tally
                                                            └─> sum_i  a_d N / n_d * v_i * w_i / c_d * S_i  / N
                 <── stock code: scales for ranks and accumulation, as for any loss function

``a_d``: the mixer's weight of the domain (:mod:`.objective_seam`). ``v_i``: the weight that a selector gave the chosen
row, never normalised. ``w_i``: the weighter's (:mod:`.weight_seam`); ``c_d``: their mean in the domain. Each is 1 where
nobody gives it. Where none is given the loss is the stock one, bit for bit, and is only looked at, if somebody asked.

Only while a training step runs: evaluation goes through stock code.

Shapes: B rows, T tokens, V vocabulary, U units (rows, or the samples in packed rows).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.math.losses import CHUNK_TOKENS, SampleLosses, output_logits, token_losses
from dataflex.math.weighting import weighted_loss
from dataflex.trainers.host import Host
from dataflex.trainers.losses.checked_weights import require_labels
from dataflex.trainers.losses.loss_seam import LossSeam, loss_function, row_labels
from dataflex.trainers.losses.objective_seam import ObjectiveSeam
from dataflex.trainers.losses.router_loss import with_router_loss
from dataflex.trainers.losses.shaper import Batches, Rows
from dataflex.trainers.losses.weight_seam import WeightSeam

RowWeights = Callable[[Rows], "npt.NDArray[np.float64] | None"]
"""Gives the weight of each of some rows; ``None`` where all are 1."""


class StepLoss:
    """Looks at the loss of training micro-batches, or puts a weighted one in its place.

    Args:
        trainer: The ``transformers.Trainer``.
        tally: Shown the losses of every micro-batch, unweighted.
        objective: Weighs the domains.
        weighing: Weighs the samples.
        row_weights: Weighs the rows that were chosen.

    Attributes:
        saw_loss: Whether the loss of the latest micro-batch came by.
    """

    def __init__(
        self,
        trainer: Host,
        *,
        tally: LossSeam | None = None,
        objective: ObjectiveSeam | None = None,
        weighing: WeightSeam | None = None,
        row_weights: RowWeights | None = None,
    ) -> None:
        self._trainer, self._tally, self._objective = trainer, tally, objective
        self._weighing, self._row_weights = weighing, row_weights
        self._rows_B: Rows | None = None
        self.saw_loss = False
        if weighing is not None:
            weighing.token_losses = self._token_losses

    def begin_step(self, batches: Batches, rows: Sequence[Rows]) -> None:
        """Take this rank's micro-batches of the next step and their rows of the pool. Called on every rank."""
        if self._objective is not None:
            self._objective.begin_step(batches, rows)
        if self._weighing is not None:
            self._weighing.begin_step(batches, rows)

    @property
    def watching(self) -> bool:
        """Whether a training step is under way."""
        return self._rows_B is not None

    @contextlib.contextmanager
    def micro_batch(self, rows_B: Rows) -> Iterator[None]:
        """Act on the loss computed in this block: that of the pool's rows ``rows_B``."""
        self._rows_B, self.saw_loss = rows_B, False
        try:
            yield
        finally:
            self._rows_B = None

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the stock ``compute_loss``, with the weighted loss in place where there is one."""
        assert self._rows_B is not None
        self.saw_loss, weighing = True, self._weighing
        v_B = None if self._row_weights is None else self._row_weights(self._rows_B)
        weighs = weighing is not None and weighing.weighs
        if not (weighs or v_B is not None or (self._objective is not None and self._objective.acts)):
            return self._look(stock, model, inputs, *args, **kwargs)
        if weighing is not None and weighs:
            weighing.look_ahead(model)
        loss = functools.partial(self._weighted, model, dict(inputs), v_B, weighs)  # stock code pops the labels
        with loss_function(self._trainer, loss):
            return stock(model, inputs, *args, **kwargs)

    def _look(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The stock loss. A weighter looks at the first outputs, so that a model without logits is found at once."""
        weighing = self._weighing
        watched = weighing is not None and weighing.watches_warmup
        if self._tally is None and (weighing is None or (weighing.probed and not watched)):
            return stock(model, inputs, *args, **kwargs)
        given = dict(inputs)  # stock code may pop the labels
        loss, outputs = stock(model, inputs, *args, **{**kwargs, "return_outputs": True})
        labels_BT = self._labels(given)
        logits_BTV = output_logits(outputs, labels_BT, model)
        if self._tally is not None or watched:
            with torch.no_grad():
                losses_BT, mask_BT = self._token_losses(logits_BTV, labels_BT)
                self._show(given, losses_BT, mask_BT)
                if weighing is not None and watched:
                    weighing.watch(weighing.units(losses_BT, mask_BT, given), self._rows)
        if weighing is not None:
            weighing.probed = True
        return (loss, outputs) if kwargs.get("return_outputs") else loss

    def _weighted(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        v_B: npt.NDArray[np.float64] | None,
        weighs: bool,
        outputs: Any,
        labels_BT: Any,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """A ``compute_loss_func``."""
        labels_BT = self._labels(inputs, labels_BT)
        losses_BT, mask_BT = self._token_losses(output_logits(outputs, labels_BT, model), labels_BT)
        self._show(inputs, losses_BT.detach(), mask_BT)
        factors_B = self._factors(v_B, losses_BT)
        if self._weighing is None or not weighs:
            losses = SampleLosses(losses_BT.sum(dim=1), mask_BT.sum(dim=1))
            assert factors_B is not None  # nothing else replaces the stock loss
            target_tokens = self._target_tokens(losses, num_items_in_batch)
            loss = weighted_loss(losses.sums_B, factors_B, 1.0, target_tokens)
        else:
            units = self._weighing.units(losses_BT, mask_BT, inputs)
            self._weighing.require_finite(units)
            loss = self._weighing.loss(
                units,
                self._target_tokens(units, num_items_in_batch),
                model=model,
                inputs=inputs,
                rows_B=self._rows,
                factors_B=factors_B,
            )
        return with_router_loss(loss, outputs, model, self._trainer.accelerator)

    def _factors(self, v_B: npt.NDArray[np.float64] | None, like: torch.Tensor) -> torch.Tensor | None:
        """What the losses of rows are multiplied by besides the weighter's weights; ``None`` for 1."""
        factors_B: torch.Tensor | None = None
        if self._objective is not None and self._objective.acts:
            factors_B = self._objective.weights(self._rows, like)
        if v_B is not None:
            chosen_B = torch.from_numpy(v_B).to(like.device, like.dtype)
            factors_B = chosen_B if factors_B is None else factors_B * chosen_B
        return factors_B

    def _target_tokens(
        self, units: SampleLosses, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor | float:
        """``N``, as the stock scaling that follows wants it."""
        if self._objective is not None and self._objective.acts:
            return self._objective.target_tokens(num_items_in_batch)
        return units.counts_B.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch

    def _token_losses(self, logits_BTV: torch.Tensor, labels_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weighing = self._weighing
        return token_losses(
            logits_BTV,
            labels_BT,
            chunk_tokens=CHUNK_TOKENS if weighing is None else weighing.chunk_tokens,
            label_smoothing=0.0 if weighing is None else float(self._trainer.args.label_smoothing_factor),
        )

    def _show(self, inputs: Mapping[str, Any], losses_BT: torch.Tensor, mask_BT: torch.Tensor) -> None:
        if self._tally is not None:
            with torch.no_grad():
                self._tally.note(self._rows, inputs, losses_BT, mask_BT)

    def _labels(self, inputs: Mapping[str, Any], labels_BT: Any = None) -> torch.Tensor:
        if self._tally is not None or self._row_weights is not None:
            return row_labels(inputs, self._rows)
        return require_labels(inputs.get("labels") if labels_BT is None else labels_BT)

    @property
    def _rows(self) -> Rows:
        assert self._rows_B is not None
        return self._rows_B
