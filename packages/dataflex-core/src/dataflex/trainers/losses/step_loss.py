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


class StepLoss:
    """Looks at the loss of training micro-batches, or puts a weighted one in its place.

    Args:
        trainer: The ``transformers.Trainer``.
        tally: Shown the losses of every micro-batch, unweighted.
        objective: Weighs the domains.
        weighing: Weighs the samples.

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
    ) -> None:
        self._trainer, self._tally, self._objective = trainer, tally, objective
        self._weighing = weighing
        self._rows_B: Rows | None = None
        self._places_B: torch.Tensor | None = None
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
    def micro_batch(self, rows_B: Rows, places_B: torch.Tensor | None = None) -> Iterator[None]:
        """Act on the loss computed in this block.

        Args:
            rows_B: Its rows of the pool.
            places_B: The plan's weights of them, if it has any.
        """
        self._rows_B, self._places_B, self.saw_loss = rows_B, places_B, False
        try:
            yield
        finally:
            self._rows_B = self._places_B = None

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the stock ``compute_loss``, with the weighted loss in place where there is one."""
        assert self._rows_B is not None
        self.saw_loss, weighing = True, self._weighing
        weighs, factors = weighing is not None and weighing.weighs, self._objective is not None and self._objective.acts
        if not (weighs or factors or self._places_B is not None):
            return self._look(stock, model, inputs, *args, **kwargs)
        if weighing is not None and weighs:
            weighing.look_ahead(model)
        loss = functools.partial(self._weighted, model, dict(inputs), weighs)  # stock code pops the labels
        sight = weighing.sight.forward(model) if weighing is not None and weighs else contextlib.nullcontext()
        with loss_function(self._trainer, loss), sight:
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
        weighs: bool,
        outputs: Any,
        labels_BT: Any,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """A ``compute_loss_func``."""
        labels_BT = self._labels(inputs, labels_BT)
        losses_BT, mask_BT = self._token_losses(output_logits(outputs, labels_BT, model), labels_BT)
        self._show(inputs, losses_BT.detach(), mask_BT)
        if self._weighing is None or not weighs:
            losses = SampleLosses(losses_BT.sum(dim=1), mask_BT.sum(dim=1))
            factors_B = self._factors(losses_BT)
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
                domains_B=self._of_domains(losses_BT),
                places_B=None if self._places_B is None else self._places_B.to(losses_BT),
            )
        return with_router_loss(loss, outputs, model, self._trainer.accelerator)

    def _factors(self, like: torch.Tensor) -> torch.Tensor | None:
        """What the losses of rows are multiplied by where no weighter acts; ``None`` for 1."""
        domains_B, places_B = self._of_domains(like), self._places_B
        if places_B is None:
            return domains_B
        return places_B.to(like) if domains_B is None else domains_B * places_B.to(like)

    def _of_domains(self, like: torch.Tensor) -> torch.Tensor | None:
        objective = self._objective
        return None if objective is None or not objective.acts else objective.weights(self._rows, like)

    def _target_tokens(
        self, units: SampleLosses, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor | float:
        """``N``, as the stock scaling that follows wants it."""
        if self._objective is not None and self._objective.acts:
            return self._objective.target_tokens(num_items_in_batch)
        return units.counts_B.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch

    def _token_losses(self, logits_BTV: torch.Tensor, labels_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weighing = self._weighing
        trains = weighing is not None or self._places_B is not None
        return token_losses(
            logits_BTV,
            labels_BT,
            chunk_tokens=CHUNK_TOKENS if weighing is None else weighing.chunk_tokens,
            label_smoothing=float(self._trainer.args.label_smoothing_factor) if trains else 0.0,
        )

    def _show(self, inputs: Mapping[str, Any], losses_BT: torch.Tensor, mask_BT: torch.Tensor) -> None:
        if self._tally is not None:
            with torch.no_grad():
                self._tally.note(self._rows, inputs, losses_BT, mask_BT)

    def _labels(self, inputs: Mapping[str, Any], labels_BT: Any = None) -> torch.Tensor:
        if self._tally is not None or self._places_B is not None:
            return row_labels(inputs, self._rows)
        return require_labels(inputs.get("labels") if labels_BT is None else labels_BT)

    @property
    def _rows(self) -> Rows:
        assert self._rows_B is not None
        return self._rows_B
