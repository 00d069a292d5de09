"""The plans of whole runs of several components without a Trainer or a model: one run in a few milliseconds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
from doubles import IdleTrainer

from dataflex import Mixer, Pattern, Selection, Selector
from dataflex.components.asking import Asking
from dataflex.config.bind import BoundParams
from dataflex.config.parts import Part
from dataflex.kinds import KINDS, load
from dataflex.mixing.domains import Domains
from dataflex.mixing.opening import Mixture
from dataflex.mixing.sampler import MixtureSampler
from dataflex.plugins.catalog import CatalogEntry
from dataflex.schedule import Schedule
from dataflex.spec import API, ComponentSpec, Kind
from dataflex.testing import make_context
from dataflex.trainers.planners import compose, mix
from dataflex.trainers.slots import Opening
from dataflex.trainers.token_counts import Counting


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        sizes: Rows of each domain; of one without a mixer.
        shares: In twentieths, of the warm-up and then of each boundary; empty without a mixer.
        batch: Samples of a step.
        warmup, update, times: Steps.
        mixes: ``every`` of the mixer; 0 without one.
        selects: ``every`` of the selector; 0 without one.
        keep: Of the selector.
        orders: ``every`` of the orderer; 0 without one.
        candidates: Whether the selector is asked once for all domains.
        foresees: Whether the mixer knows its shares in advance.
    """

    sizes: tuple[int, ...]
    shares: tuple[tuple[int, ...], ...]
    batch: int
    warmup: int
    update: int
    times: int
    mixes: int
    selects: int
    keep: float | str = "stage"
    orders: int = 0
    candidates: bool = False
    foresees: bool = False

    @property
    def schedule(self) -> Schedule:
        """Its stages."""
        return Schedule(self.warmup, self.update, self.warmup + self.update * self.times)

    @property
    def names(self) -> tuple[str, ...]:
        """Of its domains."""
        return tuple("abcd"[: len(self.sizes)]) if self.mixes else ("pool",)

    def share_of(self, stage: int) -> tuple[int, ...]:
        """In twentieths, as a stage is drawn: those of the last boundary at which the mixer was asked."""
        return self.shares[0 if stage == 0 else (stage - 1) // self.mixes * self.mixes + 1] if self.mixes else (20,)


@dataclass
class Stage:
    """What a planner made of a stage.

    Attributes:
        step: Optimizer steps done.
        plan: Its rows.
        decided: Kinds that decided at its boundary.
        chosen: What the selector chose there, by domain; ``None`` if it was not asked, or only for the warm-up.
        recycled: As recorded there.
        scores: Of the pool's rows, as each kind recorded them; in JSON, where NaN equals NaN.
    """

    step: int
    plan: list[int]
    decided: list[str] = field(default_factory=list)
    chosen: list[list[int]] | None = None
    recycled: Any = None
    scores: list[str] = field(default_factory=list)


class Told(Mixer):
    """The shares of the run."""

    asked = 0

    def mix(self, model: Any, step_id: int, **kwargs: Any) -> npt.NDArray[np.float64]:
        """Those of this boundary."""
        self.asked += 1
        return self._at(step_id)

    def _at(self, step: int) -> npt.NDArray[np.float64]:
        stage = self.params.schedule.stage_at(step)
        return np.asarray(self.params.share_of(stage)) / 20

    def state_dict(self) -> dict[str, Any]:
        """How often it was asked."""
        return {"asked": self.asked}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.asked = state["asked"]


class Foreseen(Told):
    """A mixer that says its shares in advance."""

    def planned(self, step_id: int) -> npt.NDArray[np.float64]:
        """Those of a later boundary."""
        return self._at(step_id)


class Draws(Selector):
    """Rows at random; other ones each time it is asked, by its own count."""

    asked = 0

    def select(self, model: Any, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Of the rows of one domain, each once."""
        return Selection(self._drawn(np.arange(len(self.dataset)), step_id, num_samples), scores=self._scores(step_id))

    def _scores(self, step: int) -> Any:
        return np.arange(len(self.dataset)) * 7.0 % (11 + step)

    def _drawn(self, rows: Any, step: int, count: int) -> Any:
        self.asked += 1
        assert self.context is not None
        return self.context.rng(step, self.asked).permutation(rows)[:count]

    def state_dict(self) -> dict[str, Any]:
        """How often it was asked."""
        return {"asked": self.asked}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        self.asked = state["asked"]


class DrawsOfAll(Draws):
    """The same, asked once for all domains."""

    def select(self, model: Any, step_id: int, num_samples: int, candidates: Any = None, **kwargs: Any) -> Selection:
        """Of the rows of each group, each once."""
        if candidates is None:
            return super().select(model, step_id, num_samples)
        groups = zip(candidates.rows, candidates.counts, strict=True)
        drawn = np.concatenate([self._drawn(rows, step_id, count) for rows, count in groups])
        return Selection(drawn, scores=self._scores(step_id))


class Folds(Pattern):
    """Every third rank, then the others."""

    def ranks(self, n: int, rng: Any) -> list[int]:
        """As folding does."""
        return [rank for first in range(3) for rank in range(first, n, 3)]


class Parts:
    """Opens the components above."""

    def __init__(self) -> None:
        self.opened: dict[str, Asking] = {}

    def open(self, part: Part, context: Any, frame: Any = None, *, domain: str = "") -> Asking:
        """Construct one."""
        made = part.entry.load()(part.bound.params, context)
        kind = part.kind
        asking = Asking(made, load(KINDS[kind].base), f"{kind} {part.entry.spec.name}", name=part.entry.spec.name)
        self.opened[f"{kind}@{domain}"] = asking
        return asking


@dataclass(frozen=True)
class PlannedParts:
    """The components of a run, by kind."""

    by_kind: Mapping[Kind, Part]

    def part(self, kind: Kind) -> Part | None:
        return self.by_kind.get(kind)


@dataclass(frozen=True)
class PlannedSession:
    """What a planner asks of a run: how its pool is mixed, and scores that an order is given."""

    run: PlannedParts
    open_mixture: Callable[[int, int], Mixture]
    lengths: Any
    counting: Counting = Counting.COLUMNS

    def mixture_settings(self) -> dict[str, Any]:
        return {}

    def given_scores(self, source: Any, rows: Any) -> Any:
        return self.lengths


class Unrecorded:
    """A recorder whose clock stands still."""

    @property
    def clock(self) -> Unrecorded:
        return self

    def cpu(self) -> float:
        return 0.0


def _part(kind: Kind, target: str, run: Run, every: int, **values: Any) -> Part:
    spec = ComponentSpec(kind=kind, name=target.lower(), target=f"{__name__}:{target}", api=API)
    bound = BoundParams(params=run, values=values, run_values={}, sources={})
    keep = run.keep if kind is Kind.SELECTOR else "stage"
    return Part(CatalogEntry(spec=spec, dist="tests"), bound, every, keep)


def _planner(run: Run, parts: Parts) -> compose.ComposedPlanner:
    mixer, selector, orderer = (
        _part(Kind.MIXER, "Foreseen" if run.foresees else "Told", run, run.mixes) if run.mixes else None,
        _part(Kind.SELECTOR, "DrawsOfAll" if run.candidates else "Draws", run, run.selects) if run.selects else None,
        _part(Kind.ORDERER, "Folds", run, run.orders, by="selector" if run.selects else "length")
        if run.orders
        else None,
    )
    by_kind = {part.kind: part for part in (mixer, selector, orderer) if part is not None}
    pool = list(range(sum(run.sizes)))
    lengths = np.arange(len(pool)) % 5 + 1

    def open_mixture(samples: int, seed: int) -> Mixture:
        domains = Domains(run.names, run.sizes, lengths)
        return Mixture(domains, MixtureSampler(run.sizes, run.names, seed=seed), np.array(run.shares[0]) / 20)

    host = IdleTrainer(args=None, train_dataset=pool)
    session = PlannedSession(PlannedParts(by_kind), open_mixture, lengths.astype(float))
    context = make_context(pool, lambda rows: {}, seed=3, global_batch=run.batch)
    opening = Opening(host, session, parts, run.schedule, context, Unrecorded())  # type: ignore[arg-type]
    mixed = None if mixer is None else mix.fill(opening, mixer).order
    return compose.ComposedPlanner(opening, selector, mixed, orderer)  # type: ignore[arg-type]


def planned(run: Run, *, breaks: Sequence[int] = ()) -> list[Stage]:
    """The plans of every stage of a run.

    Args:
        run: The run.
        breaks: Stages before which all is taken down and built up again from what a checkpoint would hold.
    """
    parts = Parts()
    planner, stages = _planner(run, parts), []

    def record_all(host: Any, recorder: Any, made: Any, *, stage: int, step: int, plan: Any, **times: Any) -> None:
        found = Stage(step, plan.tolist(), [each.part.component.kind.value for each in made])
        for each in made:
            if each.part.component.kind is Kind.SELECTOR:
                ends = np.cumsum(run.sizes)
                of = np.searchsorted(ends, each.outcome.rows, side="right")
                found.chosen = [each.outcome.rows[of == domain].tolist() for domain in range(len(ends))]
                assert (np.diff(of) >= 0).all()
            found.recycled = each.outcome.metrics.get("recycled", found.recycled)
            scores = each.outcome.scores
            found.scores.append(json.dumps(None if scores is None else scores.tolist()))
        stages.append(found)

    with patch.object(compose, "record_all", record_all):
        for stage, (first, end) in enumerate(run.schedule.stages()):
            if stage in breaks:
                state = json.loads(json.dumps(planner.state_dict()))
                kept = {name: json.loads(json.dumps(asking.state_dict())) for name, asking in parts.opened.items()}
                parts = Parts()
                planner = _planner(run, parts)
                planner.load_state_dict(state)
                for name, asking in parts.opened.items():
                    asking.load_state_dict(kept[name])
            if end > first:
                planner.plan(stage, first, (end - first) * run.batch)
    return stages


def without(run: Run, *kinds: str) -> Run:
    """The same run without some of its components."""
    nothing: dict[str, Any] = dict.fromkeys(kinds, 0)
    return dataclasses.replace(run, **nothing)
