"""The source of labels: inner products of the rows of each step with what the selector aims at.

    first micro-batch of a step ──> selector.directions(model, step_id)     kept, or made anew; None for no labels
    each micro-batch            ──> forward and backward under a TrainingRecorder
    after its backward          ──> labels [B, S]

Shapes: B rows of a micro-batch, S directions.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dataflex.components.asking import Asking
from dataflex.components.labels import LabelDirections
from dataflex.errors import ComponentError
from dataflex.gradients.coverage import Coverage, Scope, cover
from dataflex.gradients.in_training import TrainingRecorder, directions_for
from dataflex.gradients.measuring import refuse_spread
from dataflex.rng import key_seed, rng_scope
from dataflex.trainers.clock import DECISIONS, Clock
from dataflex.trainers.host import Host

logger = logging.getLogger("dataflex")


class TrainingLabels:
    """A label source of the run.

    Args:
        host: The Trainer.
        asking: The selector, which defines ``directions``.
        clock: Counts making directions as deciding.
        seed: The run's seed.
    """

    def __init__(self, host: Host, asking: Asking, clock: Clock, seed: int) -> None:
        self._host, self._asking, self._clock, self._seed = host, asking, clock, seed
        self._step = -1  # whose directions are known
        self._directions: LabelDirections | None = None
        self._recorder: TrainingRecorder | None = None
        self._told = False

    @contextlib.contextmanager
    def watching(self, model: Any, inputs: Mapping[str, Any]) -> Iterator[None]:
        """Record one micro-batch, forward and backward.

        Raises:
            ComponentError: when the selector has no directions for this model, or a layer's rows cannot be told apart.
        """
        step = int(self._host.state.global_step)
        if step != self._step:
            self._ask(step)
            self._step = step
        if self._recorder is None:
            yield
            return
        labels_BT = inputs.get("labels")
        if not isinstance(labels_BT, torch.Tensor):
            raise ComponentError("the batches hold no labels, so the gradients of their rows cannot be told apart.")
        with self._recorder.micro_batch(len(labels_BT)):
            yield

    def take(self) -> torch.Tensor | None:
        """Labels of the micro-batch that has ended, fp64, shape [B, S]; ``None`` without directions."""
        return None if self._recorder is None else self._recorder.labels()

    def _ask(self, step: int) -> None:
        """Ask for directions, on every rank, before the first forward of a step."""
        model = self._host.accelerator.unwrap_model(self._host.model_wrapped)
        own_draws = rng_scope(key_seed(self._seed, "directions", step), devices=True)
        with self._clock.spending(DECISIONS), self._asking.agreed(f"step {step}"), own_draws:
            found = self._asking.call("directions", model=model, step_id=step)
            if found is self._directions:
                return
            if found is not None and not isinstance(found, LabelDirections):
                raise ComponentError(
                    f"directions() returned {type(found).__name__}; it must return LabelDirections or None"
                )
            self._recorder = None if found is None else self._made(model, found)
        self._directions = found

    def _made(self, model: Any, found: LabelDirections) -> TrainingRecorder:
        refuse_spread(model, self._host.accelerator, self._asking.name)
        coverage = cover(model, Scope.LINEAR)
        self._tell(coverage)
        summed = not found.exact_gradients and not getattr(model, "peft_config", None)
        return TrainingRecorder(coverage, directions_for(coverage, found.vectors), summed=summed)

    def _tell(self, coverage: Coverage) -> None:
        if self._told or not self._host.is_world_process_zero():
            return
        self._told = True
        left_out = coverage.excluded
        logger.info(
            "labels are made of the gradients of %d linear layers (%d numbers).%s",
            len(coverage.layers),
            coverage.size,
            f" {len(left_out)} other trainable parameters are left out: {', '.join(left_out)}." if left_out else "",
        )
