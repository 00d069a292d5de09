"""Where the weights of a plan act: ``Selection.weights``, one for each place of the plan.

    training_step ── weights of the micro-batch (engine) ──┐
    compute_loss ──> stock code: pops the labels, runs the model
                       └─> compute_loss_func: token losses ── per row ── sum w_i S_i / N
                 <── stock code: scales for ranks and accumulation, as for any loss function

``S_i`` is the summed loss of row i, ``N`` the target tokens of the whole step as the Trainer counts them: nothing is
normalised. A stage without weights goes through the stock loss. A weighter beside it multiplies with these weights in
its own loss, after its own have been normalised.

Shapes: B rows of a micro-batch, T tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.errors import ComponentError, ConfigError
from dataflex.math.losses import output_logits, token_losses
from dataflex.math.weighting import weighted_loss
from dataflex.trainers.hooks import loss_not_seen
from dataflex.trainers.host import DynamicHost, Host
from dataflex.trainers.losses.loss_seam import loss_function, row_labels
from dataflex.trainers.losses.router_loss import with_router_loss
from dataflex.trainers.losses.shaper import Batches, LossShaper, Rows

Weights = npt.NDArray[np.float64]


def refuse_other_loss(host: Host) -> None:
    """Refuse weights where the Trainer has a loss function that they would replace.

    Raises:
        ConfigError: says so.
    """
    if host.compute_loss_func is not None:
        raise ConfigError(
            "the Trainer has a compute_loss_func of its own, which the selector's weights of rows would replace. Use "
            "one of the two."
        )


def valid_weights(answer: Any, num_samples: int) -> Weights:
    """Check the weights a selector returns with its rows.

    Args:
        answer: Any sequence or array of numbers.
        num_samples: Rows of the plan.

    Returns:
        The weights, shape ``[num_samples]``.

    Raises:
        ComponentError: for another shape, or a weight that is negative or not finite.
    """
    try:
        weights = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer, np.float64)
    except (TypeError, ValueError) as error:
        raise ComponentError(f"it returned weights that are no numbers ({error})") from error
    if weights.shape != (num_samples,):
        raise ComponentError(
            f"it returned weights of shape {list(weights.shape)}; there must be one for each of the {num_samples} rows "
            "that it chose, in their order"
        )
    wrong = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if len(wrong):
        raise ComponentError(
            f"it returned the weight {weights[wrong[0]]} at position {wrong[0]}; weights are finite and not negative"
        )
    return weights


class PlaceWeights:
    """Weighs the rows of training micro-batches by their places in the plan, around whoever shapes the loss.

    Args:
        inner: Who shapes the loss.
        host: The Trainer.
        declared: Whether the selector says that it gives weights.

    Raises:
        ConfigError: when it does, and the Trainer has a loss function of its own.
    """

    def __init__(self, inner: LossShaper, host: DynamicHost, *, declared: bool) -> None:
        if declared:
            refuse_other_loss(host)
        self._inner, self._host = inner, host
        self.sees_steps = inner.sees_steps
        self.places_B: torch.Tensor | None = None
        self._rows_B: Rows | None = None
        self._saw_loss = False

    def begin_step(self, batches: Batches, rows: Sequence[Rows]) -> None:
        """Begin the step for whoever shapes the loss."""
        self._inner.begin_step(batches, rows)

    def training_step(self, stock: Callable[[], Any], model: Any, inputs: Any, rows: Callable[[], Rows]) -> Any:
        """Do the micro-batch as it is done anyway, with the weights of its places in the loss.

        Raises:
            ConfigError: when its loss did not come by.
        """
        weights_B: Weights | None = self._host.running.weights_of_next()
        if weights_B is None:
            return self._inner.training_step(stock, model, inputs, rows)
        rows_B = rows()
        self._rows_B, self._saw_loss = rows_B, False
        self.places_B = self._inner.places_B = torch.from_numpy(weights_B)
        try:
            loss = self._inner.training_step(stock, model, inputs, lambda: rows_B)
        finally:
            self.places_B = self._inner.places_B = None
        if not self._saw_loss:
            raise loss_not_seen(self._host)
        return loss

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss as it is made anyway; in a training step of a weighted stage, with the weights in it."""
        if self.places_B is None:
            return self._inner.compute_loss(stock, model, inputs, *args, **kwargs)
        self._saw_loss = True

        def weighed(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if self._host.compute_loss_func is not None:  # a weighter's, which has the weights and multiplies with them
                return stock(model, inputs, *args, **kwargs)
            with loss_function(self._host, functools.partial(self._weighted, model, dict(inputs))):
                return stock(model, inputs, *args, **kwargs)

        return self._inner.compute_loss(weighed, model, inputs, *args, **kwargs)

    def _weighted(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        outputs: Any,
        labels_BT: Any,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """A ``compute_loss_func``."""
        assert self.places_B is not None and self._rows_B is not None
        labels_BT = row_labels({"labels": labels_BT}, self._rows_B)
        smoothing = float(self._host.args.label_smoothing_factor)
        logits_BTV = output_logits(outputs, labels_BT, model)
        losses_BT, mask_BT = token_losses(logits_BTV, labels_BT, label_smoothing=smoothing)
        tokens = mask_BT.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        loss = weighted_loss(losses_BT.sum(dim=1), self.places_B.to(losses_BT), 1.0, tokens)
        return with_router_loss(loss, outputs, model, self._host.accelerator)

    def step_end(self, step: int) -> None:
        """End the step for whoever shapes the loss."""
        self._inner.step_end(step)

    def resumed(self) -> None:
        """Go on for whoever shapes the loss."""
        self._inner.resumed()

    def finish(self, step: int) -> None:
        """End the run for whoever shapes the loss."""
        self._inner.finish(step)

    def log_values(self) -> Mapping[str, float]:
        """Those of whoever shapes the loss."""
        return self._inner.log_values()

    def log_histogram(self) -> Mapping[str, Sequence[float]]:
        """That of whoever shapes the loss."""
        return self._inner.log_histogram()

    def state_dict(self) -> dict[str, Any]:
        """What whoever shapes the loss remembers: the weights are kept beside the plan."""
        return self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._inner.load_state_dict(state)
