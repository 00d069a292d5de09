"""The table of component kinds: everything in core that differs from one kind to the next.

A new kind is a member of :class:`Kind`, its train types in :class:`TrainType`, and a record in :data:`KINDS` that names
the new files. Classes are named as ``"module:Class"`` and imported where they are used, so that the table costs nothing
and rooms below them can read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any


class Kind(StrEnum):
    """The decision a component makes."""

    SELECTOR = "selector"
    MIXER = "mixer"
    WEIGHTER = "weighter"
    ORDERER = "orderer"

    @property
    def plural(self) -> str:
        """Key of this kind in a ``components.yaml``."""
        return KINDS[self].plural

    @property
    def with_article(self) -> str:
        """As a sentence names one of it: ``a mixer``, ``an orderer``."""
        return f"{'an' if self[0] in 'aeiou' else 'a'} {self}"


class TrainType(StrEnum):
    """The ``train_type`` key of a run file."""

    STATIC = "static"
    SELECT = "dynamic_select"
    MIX = "dynamic_mix"
    STATIC_MIX = "static_mix"
    WEIGHT = "dynamic_weight"
    ORDER = "dynamic_order"
    COMPOSED = "dynamic"
    """Several components, at most one of a kind, under the key ``components``."""

    @property
    def kind(self) -> Kind | None:
        """The kind of component this train type needs; ``None`` for static, and for dynamic, which names its own."""
        return next((kind for kind, record in KINDS.items() if self in record.train_types), None)


class StepKeys(StrEnum):
    """How a train type reads ``warmup_step``, ``update_step``, ``update_times`` and ``train_step``."""

    BOUNDARIES = "boundaries"
    """A decision after the warm-up and every ``update_step`` steps: the plan replaces the Trainer's order of rows."""
    ONE_STAGE = "one stage"
    """No boundary, and no component to choose: one plan of ``train_step`` steps, or of what the others add up to."""
    EVERY_STEP = "every step"
    """A decision at every step past the warm-up: order and length of the run are the Trainer's."""
    PASSES = "passes"
    """Whole passes in an order of ours; the length of the run is the Trainer's. Boundaries only matter to scores that
    change while the model trains."""


@dataclass(frozen=True, kw_only=True)
class KindRecord:
    """What core knows about a kind.

    Attributes:
        plural: Its section of a ``components.yaml``; ``dataflex-PLURAL`` is the distribution that brings ours.
        train_types: The train types that need it, and how each reads the step keys.
        base: Its base class.
        slot: The function that lets one act while training (``trainers``): who orders the rows, who shapes the loss.
        bench: What asks it in a check (``testing``).
        checks: The conformance checks of this kind alone.
        template: Folder of its files under ``scaffold/templates``.
        library: What the class of that template imports besides core, as a requirement.
        turn: Its place among the kinds that decide in one run, from the first: mix, select, order, weigh.
        keeps: Whether ``keep`` may be said of one: how much of a domain it chooses.
        mixes: Whether it decides over domains: the names under ``dataset`` and the mixture keys are read.
        weighs: Whether it acts on the loss of single tokens, which the run must then offer.
        orders: Whether it goes by scores that the framework finds, from where its parameter ``by`` says.
        old_plural: The section by another name, as files of PyPI dataflex 1.x have it.
    """

    plural: str
    train_types: Mapping[TrainType, StepKeys]
    base: str
    slot: str
    bench: str
    checks: str
    template: str
    library: str
    turn: int = 0
    keeps: bool = False
    mixes: bool = False
    weighs: bool = False
    orders: bool = False
    old_plural: str = ""


KINDS: dict[Kind, KindRecord] = {
    Kind.SELECTOR: KindRecord(
        plural="selectors",
        train_types={TrainType.SELECT: StepKeys.BOUNDARIES},
        base="dataflex.components.selector:Selector",
        slot="dataflex.trainers.planners.select:fill",
        bench="dataflex.testing.selector_bench:SelectorBench",
        checks="dataflex.testing.checks.selectors:SELECTORS",
        template="selector",
        library="numpy>=1.26",
        turn=2,
        keeps=True,
    ),
    Kind.MIXER: KindRecord(
        plural="mixers",
        train_types={TrainType.MIX: StepKeys.BOUNDARIES, TrainType.STATIC_MIX: StepKeys.ONE_STAGE},
        base="dataflex.components.mixer:Mixer",
        slot="dataflex.trainers.planners.mix:fill",
        bench="dataflex.testing.mixer_bench:MixerBench",
        checks="dataflex.testing.checks.mixers:MIXERS",
        template="mixer",
        library="numpy>=1.26",
        turn=1,
        mixes=True,
    ),
    Kind.WEIGHTER: KindRecord(
        plural="weighters",
        train_types={TrainType.WEIGHT: StepKeys.EVERY_STEP},
        base="dataflex.components.weighter:Weighter",
        slot="dataflex.trainers.losses.weighing:fill",
        bench="dataflex.testing.weighter_bench:WeighterBench",
        checks="dataflex.testing.checks.weighters:WEIGHTERS",
        template="weighter",
        library="torch>=2.4",
        turn=4,
        weighs=True,
    ),
    Kind.ORDERER: KindRecord(
        plural="orderers",
        train_types={TrainType.ORDER: StepKeys.PASSES},
        base="dataflex.components.orderer:Orderer",
        slot="dataflex.trainers.planners.order:fill",
        bench="dataflex.testing.orderer_bench:OrdererBench",
        checks="dataflex.testing.checks.orderers:ORDERERS",
        template="orderer",
        library="numpy>=1.26",
        turn=3,
        orders=True,
        old_plural="reorders",
    ),
}
"""Every kind, in the order of lists."""


OLD_TRAIN_TYPES: Mapping[str, TrainType] = {"dynamic_reorder": TrainType.ORDER}
"""Train types by the names of PyPI dataflex 1.x, where they are others."""


def load(reference: str) -> Any:
    """Import what a ``"module:Class"`` of the table names."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def step_keys(train_type: TrainType, kinds: Iterable[Kind] = ()) -> StepKeys | None:
    """How a train type reads the step keys; ``None`` for static, which has none.

    Args:
        train_type: The train type.
        kinds: Those of the run's components. Only ``dynamic`` looks at them: it has boundaries as soon as one of them
            decides at boundaries.
    """
    if train_type is TrainType.COMPOSED:
        ways = {way for kind in kinds for way in KINDS[kind].train_types.values()}
        return StepKeys.EVERY_STEP if ways == {StepKeys.EVERY_STEP} else StepKeys.BOUNDARIES
    return None if train_type.kind is None else KINDS[train_type.kind].train_types[train_type]


def in_turn(kinds: Iterable[Kind]) -> list[Kind]:
    """Kinds in the order in which they decide."""
    return sorted(kinds, key=lambda kind: KINDS[kind].turn)


def train_types(*ways: StepKeys, mixes: bool | None = None) -> frozenset[TrainType]:
    """The train types that read the step keys in one of these ways.

    Args:
        ways: Which; all of them if none is given.
        mixes: Only those of kinds that mix, or that do not.
    """
    found = {
        train_type
        for record in KINDS.values()
        for train_type, keys in record.train_types.items()
        if keys in (ways or StepKeys) and mixes in (None, record.mixes)
    }
    return frozenset(found | ({TrainType.COMPOSED} if StepKeys.BOUNDARIES in (ways or StepKeys) else set()))


def enumerated(words: Iterable[str], conjunction: str) -> str:
    """Words as a sentence lists them: ``selectors, mixers and weighters``."""
    *others, last = words
    return f"{', '.join(others)} {conjunction} {last}" if others else last
