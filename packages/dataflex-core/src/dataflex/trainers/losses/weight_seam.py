"""Where weighters act: inside the Trainer's own ``compute_loss``, through its ``compute_loss_func``.

    training_step ── compute_loss ──> stock code: pops the labels, runs the model
                                         └─> weighted(outputs, labels, num_items_in_batch)
                                               token losses ── per sample ── weights ── sum w/c S / N
                  <── stock code: scales for ranks and accumulation, as for any loss function

Under ``statistics: batch`` the samples of the whole step are gathered before any is weighed
(:mod:`dataflex.trainers.losses.step_samples`).

``compute_loss_func`` is set for the time of one ``compute_loss`` only: the rest of the Trainer asks whether there is
one and would count and scale differently. Warm-up steps and evaluation go through stock code.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.asking import Asking
from dataflex.components.weight_context import StepLosses, WeightContext, WeightedStep
from dataflex.errors import ComponentError
from dataflex.math.losses import CHUNK_TOKENS, IGNORE_INDEX, SampleLosses, output_logits, token_losses
from dataflex.math.segments import segment_ids, unit_losses
from dataflex.math.weighting import weighted_loss
from dataflex.trainers.divergence import ADVICE
from dataflex.trainers.host import Host
from dataflex.trainers.losses.loss_seam import loss_function
from dataflex.trainers.losses.router_loss import with_router_loss
from dataflex.trainers.losses.step_samples import AheadOfStep, gathered_table, weigh_step

logger = logging.getLogger("dataflex")

BATCH = "batch"
"""The value of a weighter's ``statistics`` under which it sees all samples of a step before it weighs them."""


@dataclass(frozen=True, eq=False)
class TakenStep:
    """A step that has ended.

    Attributes:
        stats: What the component is told of it.
        asked: The weights the component gave, before they were normalised, fp64, shape ``[N]``.
    """

    stats: WeightedStep
    asked: npt.NDArray[np.float64]


class WeightSeam:
    """Replaces the loss of training micro-batches past the warm-up by the weighted one.

    Args:
        trainer: The ``transformers.Trainer``.
        asking: The weighter, with ``weights`` or ``get_weighted_loss``.
        warmup: Optimizer steps before it acts.

    Attributes:
        normaliser: Mean weight that those of the current step are divided by.
        acts: Whether the weights of the current step count in its loss; if not, they are computed and the loss is the
            plain one.
        announce: Called once, before the first step.
        saw_loss: Whether the loss of the latest micro-batch came by.
    """

    def __init__(self, trainer: Host, asking: Asking, *, warmup: int) -> None:
        self._trainer, self._asking, self._warmup = trainer, asking, warmup
        self._native = native = asking.defines("weights")
        self.normaliser, self.acts = 1.0, True
        self.announce: Callable[[], None] | None = None
        whole = native and sees_whole_steps(asking)
        self._ahead = AheadOfStep(trainer.accelerator, self._sample_losses) if whole else None
        self._watching = self._probed = self.saw_loss = False
        self._places_B: torch.Tensor | None = None
        self._watches_warmup = native and bool(asking.attribute("watches_warmup"))
        self._units_said: set[bool] = set()
        self._parts_3U: list[torch.Tensor] = []

    @property
    def watching(self) -> bool:
        """Whether a training step is under way."""
        return self._watching

    @property
    def whole_steps(self) -> bool:
        """Whether the weights depend on all samples of the step they are for."""
        return self._ahead is not None

    def begin_step(self, batches: Sequence[Mapping[str, Any]]) -> None:
        """Take this rank's micro-batches of the next step, before its first forward. Called on every rank."""
        if self.announce is not None:
            self.announce()
            self.announce = None
        if self._ahead is not None:
            self._ahead.begin(batches)

    @contextlib.contextmanager
    def micro_batch(self, rows_B: npt.NDArray[np.int64], places_B: torch.Tensor | None = None) -> Iterator[None]:
        """Weigh the loss computed in this block; ``places_B`` are the plan's weights of its rows, if it has any."""
        self._watching, self.saw_loss, self._places_B = True, False, places_B
        try:
            yield
        finally:
            self._watching, self._places_B = False, None

    def compute_loss(self, stock: Callable[..., Any], model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the stock ``compute_loss`` with the weighted loss in place, past the warm-up."""
        trainer, self.saw_loss = self._trainer, True
        if trainer.state.global_step < self._warmup:
            return self._plain(stock, model, inputs, *args, **kwargs)
        if self._ahead is not None and self._ahead.looks_ahead:
            self._weigh_step(self._ahead.look_ahead(model, trainer._prepare_inputs), model)
        weighted = functools.partial(self._weighted, model, dict(inputs))  # stock code pops the labels
        with loss_function(trainer, weighted):
            return stock(model, inputs, *args, **kwargs)

    def take(self) -> TakenStep | None:
        """The step's samples over all ranks; begins the next step. Called on every rank.

        Returns:
            ``None`` in the warm-up, unless the component watches it: all weights are 1 then. The weights of a class
            with ``get_weighted_loss`` are not known: NaN.
        """
        step = int(self._trainer.state.global_step)
        if step <= self._warmup and not self._watches_warmup:
            return None
        losses, tokens, asked = gathered_table(self._parts_3U, 3, self._trainer.accelerator)
        self._parts_3U = []
        plain = step <= self._warmup or not self.acts
        weights = np.ones_like(asked) if plain else asked / self.normaliser
        return TakenStep(WeightedStep(step=step, losses=losses, tokens=tokens, weights=weights), asked)

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

    def _sample_losses(self, model: Any, outputs: Any, inputs: Mapping[str, Any]) -> SampleLosses:
        labels_BT = _require_labels(inputs.get("labels"))
        return self._units(output_logits(outputs, labels_BT, model), labels_BT, inputs)

    def _units(self, logits_BTV: torch.Tensor, labels_BT: torch.Tensor, inputs: Mapping[str, Any]) -> SampleLosses:
        """Losses of what has a weight of its own: rows, or the samples in packed rows; those with a target only."""
        losses_BT, mask_BT = token_losses(
            logits_BTV,
            labels_BT,
            chunk_tokens=self._asking.attribute("chunk_tokens") or CHUNK_TOKENS,
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
        with self._asking.alone(f"step {int(self._trainer.state.global_step)}"):
            require_finite(units.means.detach())
        tokens = units.counts_B.sum()
        target_tokens = tokens.clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        if self._ahead is not None and self._ahead.due:
            self._weigh_step([(units, inputs)], model)
        places_U = self._places_of_units(_require_labels(labels_BT), inputs, units)
        if not len(units.sums_B):
            loss = units.sums_B.sum()  # 0, but in the graph, so that backward finds it
        elif self._native:
            loss = self._weigh(units, places_U, target_tokens, model, inputs)
        else:
            loss = self._reduce(units, places_U, model, inputs) * tokens / target_tokens
        return with_router_loss(loss, outputs, model, self._trainer.accelerator)

    def _places_of_units(
        self, labels_BT: torch.Tensor, inputs: Mapping[str, Any], units: SampleLosses
    ) -> torch.Tensor | float:
        """The plan's weight of the row that each unit is in; 1 in a stage without weights."""
        if self._places_B is None:
            return 1.0
        mask_BT = (labels_BT[:, 1:] != IGNORE_INDEX).to(units.sums_B.device)
        places_BT = torch.where(mask_BT, self._places_B.to(units.sums_B)[:, None], 0)
        every = unit_losses(places_BT, mask_BT, segment_ids(inputs))
        return every.means[every.counts_B > 0]

    def _weigh(
        self,
        units: SampleLosses,
        places_U: torch.Tensor | float,
        target_tokens: torch.Tensor | int,
        model: Any,
        inputs: Mapping[str, Any],
    ) -> torch.Tensor:
        weights_U = self._ask(units, model, inputs) if self._ahead is None else self._ahead.take()
        self._parts_3U.append(torch.stack([units.means.detach(), units.counts_B, weights_U]))
        sums_U = units.sums_B * places_U  # after the weighter's own have been normalised
        if not self.acts:
            return weighted_loss(sums_U, torch.ones_like(weights_U), 1.0, target_tokens)
        return weighted_loss(sums_U, weights_U, self.normaliser, target_tokens)

    def _ask(self, units: SampleLosses, model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
        """Weights of a micro-batch that has samples."""
        losses_U, step = units.means.detach(), int(self._trainer.state.global_step)
        context = WeightContext(step=step, tokens_B=units.counts_B, model=model, inputs=inputs)
        normaliser = self.normaliser if self.acts and self._ahead is None else 1.0
        with self._asking.alone(f"step {step}"):
            return valid_weights(self._asking.call("weights", losses_B=losses_U, context=context), losses_U, normaliser)

    def _weigh_step(self, parts: Sequence[tuple[SampleLosses, Mapping[str, Any]]], model: Any) -> None:
        """Weigh all samples of a step. Called on every rank, once a step."""
        assert self._ahead is not None
        step = int(self._trainer.state.global_step)
        weighed = weigh_step(
            parts,
            lambda units, inputs: self._ask(units, model, inputs),
            self._tell,
            step=step,
            accelerator=self._trainer.accelerator,
        )
        self.normaliser = weighed.normaliser
        self._ahead.keep(weighed)

    def _tell(self, losses: StepLosses) -> None:
        with self._asking.alone(f"step {losses.step}"):
            self._asking.call("on_losses", losses=losses)

    def _reduce(
        self, units: SampleLosses, places_U: torch.Tensor | float, model: Any, inputs: Mapping[str, Any]
    ) -> torch.Tensor:
        losses_U, step = units.means * places_U, int(self._trainer.state.global_step)
        with self._asking.alone(f"step {step}"):
            mean = self._asking.call(
                "get_weighted_loss", losses=losses_U, ctx=self._trainer, model=model, inputs=dict(inputs)
            )
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

    def _say_unit(self, segmented: bool) -> None:
        if segmented in self._units_said or not self._trainer.is_world_process_zero():
            return
        self._units_said.add(segmented)
        unit = "each sample of a packed row" if segmented else "each row"
        logger.info("from step %d on: one weight for %s.", self._trainer.state.global_step, unit)


def sees_whole_steps(asking: Asking) -> bool:
    """Whether a native weighter asks for all samples of a step before it weighs them (``statistics: batch``)."""
    asked = asking.attribute("statistics")
    return isinstance(asked, str) and asked == BATCH


def require_finite(losses_U: torch.Tensor) -> None:
    """Check that the losses a weighter is to look at are numbers: of others it could not tell high from low.

    Raises:
        ComponentError: says that the model has diverged.
    """
    broken = int((~torch.isfinite(losses_U)).sum())
    if broken:
        raise ComponentError(f"the training loss of {broken} of {len(losses_U)} samples is not a number. {ADVICE}")


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
