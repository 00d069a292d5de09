"""Who orders the rows and who shapes the loss: the two slots of a run, filled from its parts."""

from __future__ import annotations

from dataclasses import dataclass

from dataflex.components.context import RunContext
from dataflex.schedule import Schedule
from dataflex.spec import Kind, Need
from dataflex.trainers.domain_loss import DomainLoss, refuse_unseen_losses
from dataflex.trainers.host import DynamicHost
from dataflex.trainers.layout import epoch_samples
from dataflex.trainers.loss import LossShaper, PlainLoss
from dataflex.trainers.mix import MixPlanner
from dataflex.trainers.parts import Parts
from dataflex.trainers.planner import Planner
from dataflex.trainers.recorder import Recorder
from dataflex.trainers.select import SelectPlanner
from dataflex.trainers.session import Session
from dataflex.trainers.stock import StockPlanner
from dataflex.trainers.weighing import weighing


@dataclass(frozen=True)
class Slots:
    """The two slots.

    Attributes:
        order: Who orders the rows.
        loss: Who shapes the loss.
    """

    order: Planner
    loss: LossShaper


def fill_slots(
    host: DynamicHost, session: Session, parts: Parts, schedule: Schedule, context: RunContext, recorder: Recorder
) -> Slots:
    """Open the parts of a run, each in its slot. Called on every rank.

    Args:
        host: The Trainer.
        session: The run.
        parts: Opens its components.
        schedule: Its stages.
        context: What a component may see of the run.
        recorder: Writes down what is decided.

    Raises:
        ComponentError, ConfigError: when a component cannot be constructed, or does not fit the run.
    """
    run = session.run
    selector, mixer, weighter = (run.part(kind) for kind in (Kind.SELECTOR, Kind.MIXER, Kind.WEIGHTER))
    order: Planner
    loss: LossShaper = PlainLoss()
    if mixer is not None:
        mix = MixPlanner(host, session, schedule, context, recorder, lambda seen: parts.open(mixer, seen))
        watched = Need.DOMAIN_LOSSES in mixer.entry.spec.needs
        if watched:
            loss = DomainLoss(host, mix.asking, mix.view, mix.sampler, warmup=schedule.warmup)
            mix.losses_are_seen = True
        else:
            refuse_unseen_losses(mix.asking)
        order = mix
    elif selector is not None:
        order = SelectPlanner(host, session, schedule, context, recorder, parts.open(selector, context))
    else:
        order = StockPlanner(
            host.stock_sampler(),
            recorder,
            samples=epoch_samples(run.facts, host.train_dataset, host.args),
            seed=context.seed,
            data_seed=host.args.data_seed,
            global_batch=context.global_batch,
        )
    if weighter is not None:
        loss = weighing(
            host,
            parts.open(weighter, context),
            warmup=session.run.facts.steps.warmup,
            total=schedule.total,
            global_batch=context.global_batch,
        )
    return Slots(order, loss)
