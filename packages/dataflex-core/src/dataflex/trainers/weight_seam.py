"""Where weighters act: inside the Trainer's own ``compute_loss``, through its ``compute_loss_func``.

    training_step ── compute_loss ──> stock code: pops the labels, runs the model
                                         └─> weighted(outputs, labels, num_items_in_batch)
                                               token losses ── per sample ── weights ── sum w/c S / N
                  <── stock code: scales for ranks and accumulation, as for any loss function

``compute_loss_func`` is set for the time of one ``compute_loss`` only: the rest of the Trainer asks whether there is
one and would count and scale differently. Warm-up steps and evaluation go through stock code.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.weight_context import WeightContext, WeightedStep
from dataflex.errors import ComponentError, OneRankError, reason
from dataflex.math.losses import CHUNK_TOKENS, SampleLosses, output_logits, token_losses
from dataflex.math.segments import segment_ids, unit_losses
from dataflex.math.weighting import weighted_loss
from dataflex.trainers.loss_seam import loss_function
from dataflex.trainers.planner import what_is_kept
from dataflex.trainers.router_loss import with_router_loss

logger = logging.getLogger("dataflex")

_PADDING = -1.0  # no sample has so many target tokens


class WeightSeam:
    """Replaces the loss of training micro-batches past the warm-up by the weighted one.

    Args:
        trainer: The ``transformers.Trainer``.
        component: The weighter, with ``weights`` or ``get_weighted_loss``.
        native: Whether it is ``weights``.
        warmup: Optimizer steps before it acts.
        title: The component, for messages.
    """

    def __init__(self, trainer: Any, component: Any, *, native: bool, warmup: int, title: str) -> None:
        self._trainer, self._component, self._native = trainer, component, native
        self._warmup, self._title = warmup, title
        self.normaliser = 1.0  # of the current step
        self._watching = self._probed = False
        self._watches_warmup = native and bool(getattr(component, "watches_warmup", False))
        self._units_said: set[bool] = set()
        self._parts_3U: list[torch.Tensor] = []

    @property
    def watching(self) -> bool:
        """Whether a training step is under way."""
        return self._watching

    @contextlib.contextmanager
    def micro_batch(self, rows_B: npt.NDArray[np.int64]) -> Iterator[None]:
        """Weigh the loss computed in this block."""
        self._watching = True
        try:
            yield
        finally:
            self._watching = False

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the stock ``compute_loss`` with the weighted loss in place, past the warm-up."""
        trainer = self._trainer
        if trainer.state.global_step < self._warmup:
            return self._plain(stock, model, inputs, *args, **kwargs)
        weighted = functools.partial(self._weighted, model, dict(inputs))  # stock code pops the labels
        with loss_function(trainer, weighted):
            return stock(model, inputs, *args, **kwargs)

    def take(self) -> WeightedStep | None:
        """The step's samples over all ranks; begins the next step. Called on every rank.

        Returns:
            ``None`` in the warm-up, unless the component watches it: all weights are 1 then. The weights of a class
            with ``get_weighted_loss`` are not known: NaN.
        """
        step = int(self._trainer.state.global_step)
        if step <= self._warmup and not self._watches_warmup:
            return None
        accelerator = self._trainer.accelerator
        dtype = torch.float32 if accelerator.device.type == "mps" else torch.float64
        parts_3U = [torch.zeros(3, 0, dtype=dtype, device=accelerator.device), *self._parts_3U]
        local_3U = torch.cat([part.to(dtype) for part in parts_3U], dim=1)
        self._parts_3U = []
        losses, tokens, weights = _of_all_ranks(local_3U, accelerator).cpu().double().numpy()
        normaliser = self.normaliser if step > self._warmup else 1.0
        return WeightedStep(step=step, losses=losses, tokens=tokens, weights=weights / normaliser)

    def _plain(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The stock loss; the first outputs are looked at, so that a model without logits is found at once."""
        if self._probed and not self._watches_warmup:
            return stock(model, inputs, *args, **kwargs)
        batch = dict(inputs)
        loss, outputs = stock(model, inputs, *args, **{**kwargs, "return_outputs": True})
        logits_BTV = output_logits(outputs, _require_labels(batch.get("labels")), model)
        self._probed = True
        if self._watches_warmup:
            with torch.no_grad():
                units = self._units(logits_BTV, batch["labels"], batch)
            self._parts_3U.append(torch.stack([units.means, units.counts_B, torch.ones_like(units.means)]))
        return (loss, outputs) if kwargs.get("return_outputs") else loss

    def _units(self, logits_BTV: torch.Tensor, labels_BT: torch.Tensor, inputs: Mapping[str, Any]) -> SampleLosses:
        """Losses of what has a weight of its own: rows, or the samples in packed rows; those with a target only."""
        losses_BT, mask_BT = token_losses(
            logits_BTV,
            labels_BT,
            chunk_tokens=getattr(self._component, "chunk_tokens", None) or CHUNK_TOKENS,
            label_smoothing=float(self._trainer.args.label_smoothing_factor),
        )
        segments_BT = segment_ids(inputs)
        self._say_unit(segments_BT is not None)
        every = unit_losses(losses_BT, mask_BT, segments_BT)
        used = every.counts_B > 0
        return every if bool(used.all()) else SampleLosses(every.sums_B[used], every.counts_B[used])

    def _weighted(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        outputs: Any,
        labels_BT: Any,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """A ``compute_loss_func``."""
        logits_BTV = output_logits(outputs, _require_labels(labels_BT), model)
        units = self._units(logits_BTV, labels_BT, inputs)
        tokens = units.counts_B.sum()
        target_tokens = tokens.clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        if not len(units.sums_B):
            loss = units.sums_B.sum()  # 0, but in the graph, so that backward finds it
        elif self._native:
            loss = self._weigh(units, target_tokens, model, inputs)
        else:
            loss = self._reduce(units, model, inputs) * tokens / target_tokens
        return with_router_loss(loss, outputs, model, self._trainer.accelerator)

    def _weigh(
        self, units: SampleLosses, target_tokens: torch.Tensor | int, model: Any, inputs: Mapping[str, Any]
    ) -> torch.Tensor:
        losses_U, step = units.means.detach(), int(self._trainer.state.global_step)
        context = WeightContext(step=step, tokens_B=units.counts_B, model=model, inputs=inputs)
        with self._named_failures(step):
            weights_U = valid_weights(self._component.weights(losses_U, context), losses_U, self.normaliser)
        self._parts_3U.append(torch.stack([losses_U, units.counts_B, weights_U]))
        return weighted_loss(units.sums_B, weights_U, self.normaliser, target_tokens)

    def _reduce(self, units: SampleLosses, model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
        losses_U, step = units.means, int(self._trainer.state.global_step)
        with self._named_failures(step):
            mean = self._component.get_weighted_loss(losses_U, ctx=self._trainer, model=model, inputs=dict(inputs))
            if not isinstance(mean, torch.Tensor) or mean.numel() != 1:
                found = list(mean.shape) if isinstance(mean, torch.Tensor) else type(mean).__name__
                raise ComponentError(f"get_weighted_loss() returned {found}; it must return a scalar tensor")
            if losses_U.requires_grad and not mean.requires_grad:
                raise ComponentError("get_weighted_loss() returned a number that does not depend on the losses")
            if not bool(torch.isfinite(mean)) and bool(torch.isfinite(losses_U).all()):
                raise ComponentError(f"get_weighted_loss() returned {mean.item()} for losses {losses_U.tolist()}")
        unknown_U = torch.full_like(losses_U, torch.nan)
        self._parts_3U.append(torch.stack([losses_U.detach(), units.counts_B, unknown_U]))
        return mean.reshape(())

    @contextlib.contextmanager
    def _named_failures(self, step: int) -> Iterator[None]:
        """Name the component and the step; on one process, keep the steps done before."""
        try:
            yield
        except Exception as error:
            failure = f"{self._title} failed at step {step}: {reason(error)}".removesuffix(".")
            if int(self._trainer.accelerator.num_processes) > 1:  # a checkpoint needs the ranks that have not failed
                raise OneRankError(f"{failure}.") from error
            raise ComponentError(failure + what_is_kept(self._trainer)) from error

    def _say_unit(self, segmented: bool) -> None:
        if segmented in self._units_said or not self._trainer.is_world_process_zero():
            return
        self._units_said.add(segmented)
        unit = "each sample of a packed row" if segmented else "each row"
        logger.info("from step %d on: one weight for %s.", self._trainer.state.global_step, unit)


def _of_all_ranks(local_3U: torch.Tensor, accelerator: Any) -> torch.Tensor:
    """Join what the ranks hold, along the samples; their numbers may differ."""
    if accelerator.num_processes == 1:
        return local_3U
    padded_3U = accelerator.pad_across_processes(local_3U, dim=1, pad_index=int(_PADDING))
    gathered: torch.Tensor = accelerator.gather(padded_3U).unflatten(0, (int(accelerator.num_processes), 3))
    samples_3N = gathered.transpose(0, 1).flatten(1)
    return samples_3N[:, samples_3N[1] != _PADDING]


def valid_weights(answer: Any, losses_U: torch.Tensor, normaliser: float = 1.0) -> torch.Tensor:
    """Check what ``weights`` returned, and that its quotient by the normaliser is a number.

    Raises:
        ComponentError: says which of type, shape or values is wrong.
    """
    if not isinstance(answer, torch.Tensor):
        raise ComponentError(f"weights() returned {type(answer).__name__}; it must return a tensor")
    if answer.shape != losses_U.shape:
        raise ComponentError(
            f"weights() returned shape {list(answer.shape)} for losses of shape {list(losses_U.shape)}"
        )
    weights_U = answer.detach().to(losses_U)
    if not bool((torch.isfinite(weights_U / normaliser) & (weights_U >= 0)).all()):
        beside = "" if normaliser == 1.0 else f", where the mean weight of the latest steps was {normaliser:.3g}"
        raise ComponentError(
            f"weights() returned {weights_U.tolist()} for losses {losses_U.tolist()}{beside}; none may be negative or "
            "infinite"
        )
    return weights_U


def _require_labels(labels_BT: Any) -> torch.Tensor:
    if not isinstance(labels_BT, torch.Tensor):
        raise ComponentError("the batches hold no labels, so the losses of their samples cannot be told apart.")
    return labels_BT
