"""A weighter's weights of the samples of a step, and the loss that they make.

    begin_step   ──> the step's micro-batches, for weights that depend on all of them
    compute_loss ──> token losses (:mod:`.step_loss`) ── per sample ── weights ── sum w/c_d S / N
    on_step_end  ──> what the weights were, over all ranks

Under ``statistics: batch`` the samples of the whole step are gathered before any is weighed
(:mod:`dataflex.trainers.losses.step_samples`).

Shapes: B rows of a micro-batch, U units of it (rows, or the samples in packed rows), N units of a step, D domains.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.asking import Asking
from dataflex.components.weight_context import StepLosses, WeightContext, WeightedStep
from dataflex.errors import ComponentError
from dataflex.math.losses import CHUNK_TOKENS, SampleLosses, output_logits
from dataflex.math.segments import segment_ids, unit_losses, unit_rows
from dataflex.math.weighting import weighted_loss
from dataflex.trainers.host import Host
from dataflex.trainers.losses.checked_weights import reduced_mean, require_finite, require_labels, valid_weights
from dataflex.trainers.losses.shaper import Batches, Rows
from dataflex.trainers.losses.step_samples import AheadOfStep, gathered_table, weigh_step
from dataflex.trainers.losses.units import TakenStep, Units
from dataflex.trainers.losses.weigher_sight import WeigherSight, noted_of_step

logger = logging.getLogger("dataflex")

BATCH = "batch"
"""The value of a weighter's ``statistics`` under which it sees all samples of a step before it weighs them."""

DomainOf = Callable[[Rows], npt.NDArray[np.int64]]


class WeightSeam:
    """Weighs the samples of training micro-batches past the warm-up.

    Args:
        trainer: The ``transformers.Trainer``.
        asking: The weighter, with ``weights`` or ``get_weighted_loss``.
        warmup: Optimizer steps before it acts.
        domain_of: Domain of each of some rows, where the weights are normalised by domain.
        domains: How many there are.
        sees_hidden: Whether it is shown the hidden states of the training forward.

    Attributes:
        sight: What it is shown beside the losses.
        normalisers: Mean weight of each domain that those of the current step are divided by; shape [D].
        acts: Whether the weights of the current step count in its loss; if not, they are computed and the loss is the
            plain one.
        announce: Called once, before the first step.
        probed: Whether the outputs of a model were looked at in the warm-up.
        watches_warmup: Whether the component is told of the samples of the warm-up, too.
        token_losses: Makes the token losses of a micro-batch, with their mask, from logits and labels.
    """

    token_losses: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

    def __init__(
        self,
        trainer: Host,
        asking: Asking,
        *,
        warmup: int,
        domain_of: DomainOf | None = None,
        domains: int = 1,
        sees_hidden: bool = False,
    ) -> None:
        self._trainer, self._asking, self._warmup = trainer, asking, warmup
        self._domain_of = domain_of
        self._native = native = asking.defines("weights")
        self.sight = WeigherSight(trainer, asking, sees_hidden=sees_hidden and native)
        self.normalisers, self.acts = np.ones(domains), True
        self.announce: Callable[[], None] | None = None
        whole = native and sees_whole_steps(asking)
        self._ahead = AheadOfStep(trainer.accelerator, self._losses_ahead) if whole else None
        self._rows_ahead: deque[Rows] = deque()
        self.probed = False
        self.watches_warmup = native and bool(asking.attribute("watches_warmup"))
        self._units_said: set[bool] = set()
        self._parts_5U: list[torch.Tensor] = []

    @property
    def weighs(self) -> bool:
        """Whether the warm-up is over."""
        return int(self._trainer.state.global_step) >= self._warmup

    @property
    def whole_steps(self) -> bool:
        """Whether the weights depend on all samples of the step they are for."""
        return self._ahead is not None

    @property
    def chunk_tokens(self) -> int:
        """Target tokens whose logits are held in fp32 at one time."""
        return int(self._asking.attribute("chunk_tokens") or CHUNK_TOKENS)

    @property
    def normaliser(self) -> float:
        """The first of :attr:`normalisers`: the only one without domains."""
        return float(self.normalisers[0])

    def begin_step(self, batches: Batches, rows: Sequence[Rows]) -> None:
        """Take this rank's micro-batches of the next step, before its first forward. Called on every rank."""
        if self.announce is not None:
            self.announce()
            self.announce = None
        if self._ahead is not None:
            self._ahead.begin(batches)
            self._rows_ahead = deque(rows)
        if self.weighs:
            self.sight.begin_step(batches, rows)

    def look_ahead(self, model: Any) -> None:
        """Weigh the whole step now, if its weights depend on all of it and its first backward comes before its end."""
        if self._ahead is not None and self._ahead.looks_ahead:
            parts = self._ahead.look_ahead(model, self._trainer._prepare_inputs)
            self._weigh_step([(units, inputs) for units, inputs in parts], model)

    def units(self, losses_BT: torch.Tensor, mask_BT: torch.Tensor, inputs: Mapping[str, Any]) -> Units:
        """Sum token losses by what has a weight of its own."""
        segments_BT = segment_ids(inputs)
        self._say_unit(segments_BT is not None)
        every, places_U = unit_losses(losses_BT, mask_BT, segments_BT), unit_rows(mask_BT, segments_BT)
        used = every.counts_B > 0
        samples_BT = self.sight.shown(inputs, inputs["labels"], segments_BT, used) if self.sight.sees_hidden else None
        if bool(used.all()):
            return Units(every.sums_B, every.counts_B, places_U, samples_BT)
        return Units(every.sums_B[used], every.counts_B[used], places_U[used], samples_BT)

    def require_finite(self, units: Units) -> None:
        """Check that the losses are numbers.

        Raises:
            ComponentError: says that the model has diverged.
        """
        with self._asking.alone(f"step {int(self._trainer.state.global_step)}"):
            require_finite(units.means.detach())

    def watch(self, units: Units, rows_B: Rows) -> None:
        """Keep the samples of a micro-batch of the warm-up, whose weights are 1."""
        self._keep(units, torch.ones_like(units.means), rows_B)

    def loss(
        self,
        units: Units,
        target_tokens: torch.Tensor | float,
        *,
        model: Any,
        inputs: Mapping[str, Any],
        rows_B: Rows,
        domains_B: torch.Tensor | None,
        places_B: torch.Tensor | None,
    ) -> torch.Tensor:
        """The weighted loss of a micro-batch.

        Args:
            units: Its samples, with gradient.
            target_tokens: What their sum is divided by.
            model: As the Trainer calls it.
            inputs: The micro-batch.
            rows_B: Its rows of the pool.
            domains_B: What the loss of each row is multiplied by, as one of its domain; ``None`` for 1.
            places_B: Likewise, as one of the plan.
        """
        if self._ahead is not None and self._ahead.due:
            self._rows_ahead = deque([rows_B])
            self._weigh_step([(units, inputs)], model)
        if not len(units.sums_B):
            return units.sums_B.sum()  # 0, but in the graph, so that backward finds it
        if not self._native:
            mean = self._reduce(units, model, inputs, rows_B, domains_B, places_B)
            return mean * units.counts_B.sum() / target_tokens
        weights_U = self._ask(units, model, inputs, rows_B) if self._ahead is None else self._ahead.take()
        self._keep(units, weights_U, rows_B, self.sight.notes(weights_U))
        normaliser: float | torch.Tensor = 1.0
        if not self.acts:
            weights_U = torch.ones_like(weights_U)
        else:
            normaliser = self._normalisers_of(units, rows_B)
        sums_U = units.sums_B if places_B is None else units.sums_B * places_B[units.places_U]
        if domains_B is None and isinstance(normaliser, float):
            return weighted_loss(sums_U, weights_U, normaliser, target_tokens)
        combined_U = weights_U.to(units.sums_B.dtype) / normaliser
        if domains_B is not None:
            combined_U = combined_U * domains_B[units.places_U]
        return weighted_loss(sums_U, combined_U, 1.0, target_tokens)

    def take(self) -> TakenStep | None:
        """The step's samples over all ranks; begins the next step. Called on every rank.

        Returns:
            ``None`` in the warm-up, unless the component watches it: all weights are 1 then. The weights of a class
            with ``get_weighted_loss`` are not known: NaN.
        """
        step = int(self._trainer.state.global_step)
        if step <= self._warmup and not self.watches_warmup:
            return None
        losses, tokens, asked, numbers, noted = gathered_table(self._parts_5U, 5, self._trainer.accelerator)
        self._parts_5U, domains = [], numbers.astype(np.int64)
        plain = step <= self._warmup or not self.acts
        weights = np.ones_like(asked) if plain else asked / self.normalisers[domains]
        stats = WeightedStep(step=step, losses=losses, tokens=tokens, weights=weights, noted=noted_of_step(noted))
        return TakenStep(stats, asked, domains)

    def _losses_ahead(self, model: Any, outputs: Any, inputs: Mapping[str, Any]) -> Units:
        labels_BT = require_labels(inputs.get("labels"))
        losses_BT, mask_BT = self.token_losses(output_logits(outputs, labels_BT, model), labels_BT)
        return self.units(losses_BT, mask_BT, inputs)

    def _keep(self, units: Units, weights_U: torch.Tensor, rows_B: Rows, noted_U: torch.Tensor | None = None) -> None:
        domains_U, losses_U = self._domains(units, rows_B), units.means.detach()
        numbers_U = torch.zeros_like(losses_U) if domains_U is None else domains_U.to(losses_U)
        noted_U = torch.full_like(losses_U, torch.nan) if noted_U is None else noted_U
        self._parts_5U.append(torch.stack([losses_U, units.counts_B, weights_U, numbers_U, noted_U]))

    def _domains(self, units: Units, rows_B: Rows) -> torch.Tensor | None:
        if self._domain_of is None:
            return None
        return torch.from_numpy(self._domain_of(rows_B)).to(units.places_U.device)[units.places_U]

    def _normalisers_of(self, units: Units, rows_B: Rows) -> float | torch.Tensor:
        domains_U = self._domains(units, rows_B)
        if domains_U is None:
            return self.normaliser
        return torch.from_numpy(self.normalisers).to(units.sums_B.device, units.sums_B.dtype)[domains_U]

    def _ask(self, units: Units, model: Any, inputs: Mapping[str, Any], rows_B: Rows) -> torch.Tensor:
        """Weights of a micro-batch that has samples."""
        losses_U, step = units.means.detach(), int(self._trainer.state.global_step)
        places_U = units.places_U.cpu().numpy()
        normalisers: float | torch.Tensor = 1.0
        if self.acts and self._ahead is None:
            normalisers = self._normalisers_of(units, rows_B)
        with self._asking.alone(f"step {step}"), self.sight.noting(losses_U) as note:
            context = WeightContext(
                step=step,
                tokens_B=units.counts_B,
                model=model,
                inputs=inputs,
                rows_B=rows_B[places_U],
                domains_B=None if self._domain_of is None else self._domain_of(rows_B)[places_U],
                hidden_BTH=self.sight.hidden(units.samples_BT),
                segments_BT=units.samples_BT,
                note=note,
            )
            answer = self._asking.call("weights", losses_B=losses_U, context=context)
            return valid_weights(answer, losses_U, normalisers)

    def _weigh_step(self, parts: Sequence[tuple[SampleLosses, Mapping[str, Any]]], model: Any) -> None:
        """Weigh all samples of a step. Called on every rank, once a step."""
        assert self._ahead is not None
        step, rows = int(self._trainer.state.global_step), list(self._rows_ahead)
        units = [part for part, _ in parts if isinstance(part, Units)]
        weighed = weigh_step(
            [(part, (inputs, rows_B)) for part, (_, inputs), rows_B in zip(units, parts, rows, strict=True)],
            lambda part, given: self._ask(part, model, *given),
            self._tell,
            [self._domains(part, rows_B) for part, rows_B in zip(units, rows, strict=True)],
            domains=len(self.normalisers),
            step=step,
            accelerator=self._trainer.accelerator,
        )
        self.normalisers = weighed.normalisers
        self._ahead.keep(weighed)

    def _tell(self, losses: StepLosses) -> None:
        with self._asking.alone(f"step {losses.step}"):
            self._asking.call("on_losses", losses=losses)

    def _reduce(
        self,
        units: Units,
        model: Any,
        inputs: Mapping[str, Any],
        rows_B: Rows,
        domains_B: torch.Tensor | None,
        places_B: torch.Tensor | None,
    ) -> torch.Tensor:
        losses_U, step = units.means, int(self._trainer.state.global_step)
        if places_B is not None:
            losses_U = losses_U * places_B[units.places_U]
        with self._asking.alone(f"step {step}"):
            if domains_B is not None:
                raise ComponentError(
                    "get_weighted_loss() reduces the losses of a micro-batch to one number, which cannot be split by "
                    "the domains that the mixer weighs. Use a weighter with weights()"
                )
            answer = self._asking.call(
                "get_weighted_loss", losses=losses_U, ctx=self._trainer, model=model, inputs=dict(inputs)
            )
            mean = reduced_mean(answer, losses_U)
        self._keep(units, torch.full_like(losses_U, torch.nan).detach(), rows_B)
        return mean

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
