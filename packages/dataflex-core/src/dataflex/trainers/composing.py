"""Several components in one run: who orders the rows together, and who shapes the loss together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.config.parts import Part
from dataflex.kinds import Kind
from dataflex.trainers.losses import weighing
from dataflex.trainers.losses.domain_loss import DomainLoss
from dataflex.trainers.losses.joint_loss import JointLoss
from dataflex.trainers.losses.shaper import LossShaper
from dataflex.trainers.losses.weighed_domains import WeighedDomains
from dataflex.trainers.losses.weighing import Weighing
from dataflex.trainers.planners import mix as mixing
from dataflex.trainers.planners import order as ordering
from dataflex.trainers.planners import select as selecting
from dataflex.trainers.planners.compose import ComposedPlanner
from dataflex.trainers.planners.mix import MixPlanner
from dataflex.trainers.planners.planner import Planner
from dataflex.trainers.slots import Around, Filled, Opening


def composes(parts: Sequence[Part]) -> bool:
    """Whether the slots of a run are filled by its components together, rather than by its only one."""
    return len(parts) > 1 or plans_ahead(parts[0])


def plans_ahead(part: Part) -> bool:
    """Whether a selector chooses for more, or for less, than the stage that begins."""
    return part.kind is Kind.SELECTOR and (part.every > 1 or part.keep != "stage")


def fill_together(opening: Opening) -> Filled:
    """Open the parts of a run with several. Called on every rank.

    Raises:
        ComponentError, ConfigError: as those of single parts.
    """
    run = opening.session.run
    mixer, selector, orderer, weighter = map(run.part, (Kind.MIXER, Kind.SELECTOR, Kind.ORDERER, Kind.WEIGHTER))
    order: Planner | None = None
    mix: MixPlanner | None = None
    loss: LossShaper | None = None
    weighs: LossShaper | None = None
    composed: ComposedPlanner | None = None
    around: Around | None = None
    if mixer is not None:
        filled = mixing.fill(opening, mixer)
        assert isinstance(filled.order, MixPlanner)
        order = mix = filled.order
        loss = filled.loss
    alone = sum(part is not None for part in (mixer, selector, orderer)) == 1
    if selector is not None and not (alone and not plans_ahead(selector)):
        order = composed = ComposedPlanner(opening, selector, mix, orderer)
        around = selecting.telling(opening, selector, composed.told)
    elif orderer is not None and not alone:
        order = composed = ComposedPlanner(opening, None, mix, orderer)
    elif orderer is not None:
        order = ordering.fill(opening, orderer).order
    elif selector is not None:
        filled = selecting.fill(opening, selector)
        order, around = filled.order, filled.around
    if weighter is not None:
        domains = None if mix is None else WeighedDomains(tuple(mix.domains), mix.sampler.domain_of)
        weighs = weighing.fill(opening, weighter, domains).loss
    if order is not None and composed is None:
        order = ByKind(order, next(part.kind for part in (mixer, selector, orderer) if part is not None))
    if weighs is not None and not isinstance(weighs, Weighing):  # it does the training step itself
        return Filled(order, weighs, around)
    seen = loss if isinstance(loss, DomainLoss) else None
    return Filled(order, JointLoss(opening.host, domains=seen, weighing=weighs), around)


class ByKind:
    """A planner of one component in a run with several: its state stands under its kind.

    Args:
        inner: The planner.
        kind: Of its component.
    """

    def __init__(self, inner: Planner, kind: Kind) -> None:
        self._inner, self._kind = inner, kind.value
        self.domains, self.epoch_samples = inner.domains, inner.epoch_samples
        self.weighs_places = inner.weighs_places
        self.weights: npt.NDArray[np.float64] | None = None

    def plan(self, stage: int, step: int, num_samples: int) -> npt.NDArray[np.int64]:
        """As the planner."""
        rows = self._inner.plan(stage, step, num_samples)
        self.weights = self._inner.weights
        return rows

    def state_dict(self) -> dict[str, Any]:
        """The planner's, under the kind."""
        return {self._kind: self._inner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self._inner.load_state_dict(state[self._kind])

    def finish(self, step: int, stage: int) -> None:
        """As the planner."""
        self._inner.finish(step, stage)

    def log_values(self) -> Mapping[str, float]:
        """As the planner."""
        return self._inner.log_values()
