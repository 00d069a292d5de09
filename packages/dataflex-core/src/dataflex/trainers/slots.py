"""Who orders the rows and who shapes the loss: the two slots of a run, filled from its parts.

The table of kinds names the function that makes what a part puts into them; what no part fills is as in a stock run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dataflex.components.context import RunContext
from dataflex.kinds import KINDS, Kind, load
from dataflex.schedule import Schedule
from dataflex.trainers.host import DynamicHost
from dataflex.trainers.layout import epoch_samples
from dataflex.trainers.losses.place_weights import PlaceWeights
from dataflex.trainers.losses.shaper import LossShaper, PlainLoss
from dataflex.trainers.parts import Parts
from dataflex.trainers.planners.planner import Planner
from dataflex.trainers.planners.stock import StockPlanner
from dataflex.trainers.recording.recorder import Recorder
from dataflex.trainers.session import Session

Around = Callable[[LossShaper], LossShaper]
"""Puts something around whoever shapes the loss."""


@dataclass(frozen=True)
class Opening:
    """What a part is opened with.

    Attributes:
        host: The Trainer.
        session: The run.
        parts: Opens its components.
        schedule: Its stages.
        context: What a component may see of the run.
        recorder: Writes down what is decided.
    """

    host: DynamicHost
    session: Session
    parts: Parts
    schedule: Schedule
    context: RunContext
    recorder: Recorder


@dataclass(frozen=True)
class Filled:
    """What a part puts into the slots; ``None`` leaves one to another part.

    Attributes:
        order: Who orders the rows.
        loss: Who shapes the loss.
        around: Stands around whoever shapes the loss, another part included.
    """

    order: Planner | None = None
    loss: LossShaper | None = None
    around: Around | None = None


@dataclass(frozen=True)
class Slots:
    """The two slots, both filled.

    Attributes:
        order: Who orders the rows.
        loss: Who shapes the loss.
    """

    order: Planner
    loss: LossShaper


def fill_slots(opening: Opening) -> Slots:
    """Open the parts of a run, each in its slot. Called on every rank.

    Raises:
        ComponentError, ConfigError: when a component cannot be constructed or does not fit the run.
    """
    from dataflex.trainers.composing import composes, fill_together

    parts = opening.session.run.parts
    filled: Filled
    filled = fill_together(opening) if composes(parts) else load(KINDS[parts[0].kind].slot)(opening, parts[0])
    shaper: LossShaper = filled.loss or PlainLoss()
    gives_weights = next((part.entry.spec.gives_weights for part in parts if part.kind is Kind.SELECTOR), False)
    if filled.order is not None and filled.order.weighs_places and gives_weights is not False:
        shaper = PlaceWeights(shaper, opening.host, declared=bool(gives_weights))
    if filled.around is not None:
        shaper = filled.around(shaper)
    return Slots(filled.order or _stock_order(opening), shaper)


def _stock_order(opening: Opening) -> StockPlanner:
    host, facts = opening.host, opening.session.run.facts
    return StockPlanner(
        host.stock_sampler(),
        opening.recorder,
        samples=epoch_samples(facts, host.train_dataset, host.args),
        seed=opening.context.seed,
        data_seed=host.args.data_seed,
        global_batch=opening.context.global_batch,
    )
