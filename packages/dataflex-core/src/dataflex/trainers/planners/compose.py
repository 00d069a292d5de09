"""The planner of several components: turns from the mixer, queues from the selector, their order from the orderer.

    boundary ── mix ───> shares ──> how many rows each domain will give, until the selector is asked again
             └─ select ─> within each domain, so many rows ──> its queue; all of it without a selector
             └─ order ──> of each queue, by itself
             └─ draw ──> whose turn it is, and the next row of its queue ──> global batches, shuffled within themselves

The shares fix whose turn each draw is, before anything is selected; so they are met exactly whatever is selected.
Without a mixer the pool is one domain. Nothing is written until the whole plan is there: a run that is killed between
two of its decisions takes all of them again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.asking import Asking
from dataflex.config.mixture import Unit
from dataflex.config.plan import Part
from dataflex.distributed import assert_same_on_all_ranks
from dataflex.errors import ComponentError
from dataflex.kinds import Kind
from dataflex.mixing.ordered_queues import OrderedQueues
from dataflex.mixing.packed import packed, unpacked
from dataflex.mixing.proportions import Proportions
from dataflex.mixing.queues import Queues
from dataflex.mixing.sampler import MixtureSampler, MixtureState, permute_global_batches
from dataflex.rng import key_seed
from dataflex.trainers.planners.arranging import Arranging
from dataflex.trainers.planners.mix import MixPlanner
from dataflex.trainers.planners.planner import model_of, runtime_arguments, to_agree_on
from dataflex.trainers.planners.rows_ahead import RowsAhead
from dataflex.trainers.planners.selecting import EachDomain, Picked, Selecting
from dataflex.trainers.recording.outcome import Made, Outcome
from dataflex.trainers.recording.several import record_all, with_numbers
from dataflex.trainers.slots import Opening

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

POOL = "pool"
"""The only domain of a run without a mixer."""


class ComposedPlanner:
    """Turns from the mixer, queues from the selector, their order from the orderer.

    Args:
        opening: What parts are opened with.
        selector: The selector; ``None`` for whole domains, which an orderer then puts in order.
        mix: The mixer, opened; ``None`` for a pool of one domain.
        orderer: The orderer, if there is one.

    Attributes:
        domains: Names of the domains; empty without a mixer.
        epoch_samples: ``None``: the stages are not the stock Trainer's epochs.
        weighs_places: The selector may give its rows weights.
        weights: Of the plan made last, one for each of its rows; ``None`` for the stock loss.
    """

    epoch_samples: int | None = None
    weighs_places = True
    weights: npt.NDArray[np.float64] | None = None

    def __init__(
        self, opening: Opening, selector: Part | None, mix: MixPlanner | None, orderer: Part | None = None
    ) -> None:
        self._host, self._schedule, self._context = opening.host, opening.schedule, opening.context
        self._recorder, self._part, self._mix = opening.recorder, selector, mix
        self._mixer = opening.session.run.part(Kind.MIXER)
        context = opening.context
        pool = len(opening.host.train_dataset)
        self._sampler = MixtureSampler([pool], [POOL], seed=context.seed) if mix is None else mix.sampler
        self.domains: Sequence[str] = () if mix is None else mix.domains
        self._select: Selecting | None = None
        if selector is not None:
            self._select = Selecting(
                opening.host,
                selector,
                opening.parts,
                context,
                self._sampler.names,
                self._sampler.sizes.tolist(),
                self._facts,
            )
        self._orderer = orderer
        self._arrange = None if orderer is None else Arranging(opening, orderer, self._sampler)
        self._queues: Queues | OrderedQueues = (
            Queues(self._sampler.names, seed=context.seed, spare=self._unselected)
            if self._arrange is None
            else self._arrange.queues
        )
        self._until = 0  # optimizer step up to which rows were chosen
        self._total = opening.schedule.total  # steps of the run for which passes were thinned
        self._drawn_from, self._before = 0, self._sampler.state()
        self._position: Any = self._queues.position()  # of the queues where the plan begins
        self._recycled: Rows = np.zeros(len(self._sampler.names), np.int64)  # since the last record
        self._stage = 0
        self._asked: list[tuple[Asking, dict[str, Any] | None]] = []
        self._at: tuple[int, Mapping[str, Any]] = (0, {})  # optimizer steps done, and every part as it was before
        self._ahead = RowsAhead(
            opening.schedule,
            self._sampler,
            context.global_batch,
            *(selector, mix),
            lambda mix: self._agreed(mix.asking, *self._at),
        )
        if mix is not None:
            mix.source = self._queues

    def plan(self, stage: int, step: int, num_samples: int) -> Rows:
        """Make the plan of a stage; the same on all ranks.

        Raises:
            ComponentError: on every rank, when a component fails on one, returns something unusable or differs between
                ranks. A checkpoint of the current step has been written by then.
        """
        if step == 0 and self._select is not None:
            self._select.begin(model_of(self._host), self._recorder.clock)
        started, cpu = time.perf_counter(), self._recorder.clock.cpu()
        before, self._asked, self._stage = self.state_dict(), [], stage
        self._at = step, before
        begins = step == self._schedule.bounds(stage)[0]
        made: list[Made] = []
        if not begins:
            self._rewind(step)
        shares = self._shares
        if self._mix is not None and begins and stage > 0 and self._mix.is_due(stage):
            shares, each = self._ask_mixer(self._mix, stage, step, before)
            made.append(each)
        if self._selects(stage, step, begins=begins):
            each = self._ask_selector(stage, step, num_samples, shares, before)
            made += [each] if stage > 0 else []
        if self._arrange is not None:
            self._extend(self._arrange, shares, stage, step)
            made += self._order(self._arrange, stage, step, num_samples, shares, before, begins=begins)
        rows, weights, numbers = self._draw(shares, step, num_samples)
        if self._mix is not None and begins and (stage == 0 or self._mix.is_due(stage)):
            self._mix.forget_losses()
        places = np.arange(len(rows))
        if self._mix is not None or self._arrange is not None:
            places = permute_global_batches(places, self._context.global_batch, self._context.seed, step)
        plan = rows[places]
        try:
            weights = None if weights is None else weights[places]
            outcome = Outcome(rows=plan, result=plan, weights=weights)
            assert_same_on_all_ranks(f"the plan made at step {step}", to_agree_on(outcome), self._host.accelerator)
        except ComponentError as error:
            titles = " and ".join(asking.title for asking in self._askings())
            raise ComponentError(f"{titles}: {error}{self._kept(before)}") from error
        self.weights = weights
        made = list(self._with_numbers(made, numbers))
        seconds = time.perf_counter() - started
        record_all(self._host, self._recorder, made, stage=stage, step=step, plan=plan, seconds=seconds, cpu_began=cpu)
        return plan

    @property
    def told(self) -> Asking | EachDomain:
        """Who hears of the rows of each step."""
        assert self._select is not None
        return self._select.told

    def finish(self, step: int, stage: int) -> None:
        """Tell the mixer that the run has ended, on every rank."""
        if self._mix is not None:
            if step < self._schedule.bounds(max(0, stage))[1]:
                self._queues.go_to(self._position)  # what was drawn for steps that were not made
            self._mix.finish(step, stage)

    def log_values(self) -> Mapping[str, float]:
        """What the mixer reports."""
        return {} if self._mix is None else self._mix.log_values()

    def state_dict(self) -> dict[str, Any]:
        """What every part of the plan must remember, by kind, as JSON values."""
        own: dict[str, Any] = {
            "queues": self._queues.state_dict(),
            "until": self._until,
            "total": self._total,
            "drawn_from": self._drawn_from,
            "position": self._position,
            "recycled": self._recycled.tolist(),
        }
        if self._arrange is not None and self._arrange.scores is not None and self._arrange.moves:
            own["scores"] = packed(self._arrange.scores)
        if self._mix is None:
            own |= {"turns": dataclasses.asdict(self._sampler.state()), "before": dataclasses.asdict(self._before)}
            return {self._key: own}
        return {Kind.MIXER.value: self._mix.state_dict(), self._key: own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back.

        Raises:
            ConfigError: as :meth:`MixPlanner.load_state_dict`.
        """
        own = state[self._key]
        if self._mix is None:
            self._sampler.restore(MixtureState.from_json(own["turns"]))
            self._before = MixtureState.from_json(own["before"])
        else:
            self._mix.load_state_dict(state[Kind.MIXER.value])
        self._queues.load_state_dict(own["queues"])
        self._until, self._drawn_from, self._total = (int(own[name]) for name in ("until", "drawn_from", "total"))
        self._position = own["position"]
        self._recycled = np.array(own["recycled"], np.int64)
        if self._arrange is not None and self._arrange.moves:
            self._arrange.scores = unpacked(own["scores"]) if "scores" in own else None

    @property
    def _key(self) -> str:
        """The kind that fills the queues."""
        return Kind.ORDERER.value if self._part is None else Kind.SELECTOR.value

    @property
    def _shares(self) -> Proportions:
        return np.ones(1) if self._mix is None else self._mix.view.proportions

    def _selects(self, stage: int, step: int, *, begins: bool) -> bool:
        """Whether rows are to be chosen: in the warm-up, when it is the selector's turn, when none were chosen so far
        ahead.
        """
        if self._part is None:
            return False
        if stage == 0 or self._part.keep == "stage":
            missing = step >= self._until or not begins
            return missing or (stage > 0 and self._part.is_due(stage))
        return begins and self._part.is_due(stage)

    def _ask_mixer(self, mix: MixPlanner, stage: int, step: int, before: Mapping[str, Any]) -> tuple[Proportions, Made]:
        with self._agreed(mix.asking, step, before):
            self._asked.append((mix.asking, mix.asking.copy_state()))
            shares = mix.propose(stage, step)
        facts = self._mixer
        assert facts is not None
        return shares, Made(facts.facts, Outcome(rows=np.zeros(0, np.int64), result=shares), mix.asking.spent)

    def _ask_selector(
        self, stage: int, step: int, num_samples: int, shares: Proportions, before: Mapping[str, Any]
    ) -> Made:
        assert self._part is not None and self._select is not None
        keeps = stage > 0 and self._part.keep != "stage"
        end = self._ahead.chosen_until(stage)
        with self._agreed(self._select.askings[0], step, before, where="the warm-up" if stage == 0 else ""):
            for asking in self._select.askings:
                self._asked.append((asking, asking.copy_state()))
            counts_K = self._ahead.wanted(shares, (end - step) * self._context.global_batch, num_samples, keeps=keeps)
            if stage == 0:
                picked = self._select.warm_up(counts_K, step)
            else:
                picked = self._select.choose(counts_K, step, model_of(self._host), distinct=keeps)
        overlap = self._overlap(picked, first=stage <= 1)
        if self._arrange is not None:
            places = self._ahead.places(shares, stage, step, end, self._arrange.say_reach, counts_K) if keeps else None
            self._arrange.fill(picked.rows, step, picked.scores, places, picked.weights)
        elif isinstance(self._queues, Queues):
            for domain, rows in enumerate(picked.rows):
                self._queues.fill(domain, rows, key=step if keeps else None, weights=picked.weights[domain])
        self._until = end
        chosen = np.concatenate(picked.rows)
        outcome = Outcome(rows=chosen, result=chosen, metrics={**overlap, **picked.metrics}, scores=picked.scores)
        return Made(self._part.facts, outcome, picked.seconds)

    def _order(
        self,
        arrange: Arranging,
        stage: int,
        step: int,
        num_samples: int,
        shares: Proportions,
        before: Mapping[str, Any],
        *,
        begins: bool,
    ) -> list[Made]:
        """Fill queues that are empty, and have what is left of their passes put in order."""
        due = begins and stage > 0 and self._orderer is not None and self._orderer.is_due(stage)
        started = time.perf_counter()
        empty = np.flatnonzero(arrange.queues.sizes == 0).tolist()
        whole = self._part is None and bool(empty)
        places = self._ahead.places(shares, stage, step, self._schedule.total, arrange.say_reach) if whole else None
        with self._agreed(arrange.asking, step, before):
            self._asked.append((arrange.asking, arrange.asking.copy_state()))
            counts_K = self._sampler.expected(shares, num_samples)
            for domain in empty:
                if self._part is None:
                    every = self._sampler.offsets[domain] + np.arange(self._sampler.sizes[domain])
                    arrange.fill_one(domain, every, step, None if places is None else places[domain])
                elif counts_K[domain] or self._sampler.unit is Unit.TOKENS:
                    arrange.fill_one(domain, self._unselected(domain), step, None)
            if due:
                arrange.rescore(step, counts_K)
            made = arrange.made(0.0) if due else None  # the rows of every pass are in order from here on
        return [] if made is None else [dataclasses.replace(made, seconds=time.perf_counter() - started)]

    def _extend(self, arrange: Arranging, shares: Proportions, stage: int, step: int) -> None:
        """Have passes that were thinned for a run of another length go on as part of this one."""
        total, self._total = self._total, self._schedule.total
        keeps = self._part is not None and stage > 0 and self._part.keep != "stage"
        if total == self._total or not (self._part is None or keeps):
            return
        end = self._ahead.chosen_until(stage) if keeps else self._total
        left = self._ahead.places(shares, stage, step, end, arrange.say_reach)
        for domain, places in enumerate(left or ()):
            arrange.queues.extend(domain, int(arrange.queues.served[domain]) + places)

    def _draw(self, shares: Proportions, step: int, num_samples: int) -> tuple[Rows, Floats | None, dict[str, Any]]:
        """Draw from the queues: rows, their weights if a selector gave any, and numbers to record."""
        self._position = self._queues.position()
        self._queues.weights.begin()
        recycled = self._queues.recycled.copy()
        if self._mix is not None:
            rows, numbers = self._mix.draw(shares, step, num_samples)
        else:
            self._before, numbers = self._sampler.state(), {}
            rows = self._sampler.draw(shares, num_samples, self._queues)
        self._drawn_from = step
        self._recycled += self._queues.recycled - recycled
        return rows, self._queues.weights.of(self._sampler.domain_of(rows)), numbers

    def _unselected(self, domain: int) -> Rows:
        """All rows of a domain that nothing was expected of, and so nothing chosen, in the selector's place."""
        size, name = int(self._sampler.sizes[domain]), self._sampler.names[domain]
        rng = np.random.default_rng(key_seed("unselected", self._context.seed, name))
        rows: Rows = int(self._sampler.offsets[domain]) + rng.permutation(size)
        return rows

    def _rewind(self, step: int) -> None:
        """Go back to where the plan has come to: in the middle of a stage, a resumed run has another length."""
        self._queues.go_to(self._position)
        if self._mix is not None:
            self._mix.rewind(step)
            return
        self._sampler.restore(self._before)
        done = (step - self._drawn_from) * self._context.global_batch
        self._sampler.draw(self._shares, done, self._queues)

    def _overlap(self, picked: Picked, *, first: bool) -> dict[str, Any]:
        """Share of the distinct rows that the selection before held too; nothing after the warm-up."""
        held = [self._queues.rows(domain) for domain in range(len(picked.rows))]
        if first or not any(map(len, held)):
            return {}
        rows = np.unique(np.concatenate(picked.rows))
        return {"overlap": float(np.isin(rows, np.unique(np.concatenate(held)), assume_unique=True).mean())}

    def _facts(self, context: Any) -> dict[str, Any]:
        return runtime_arguments(self._host, self._schedule, context, self._stage)

    def _askings(self) -> list[Asking]:
        mixer = [] if self._mix is None else [self._mix.asking]
        selectors = [] if self._select is None else self._select.askings
        return [*mixer, *selectors, *([] if self._arrange is None else [self._arrange.asking])]

    @contextlib.contextmanager
    def _agreed(self, asking: Asking, step: int, before: Mapping[str, Any], where: str = "") -> Iterator[None]:
        """Ask one part on every rank; if it fails, all parts are as they were before the boundary."""
        select = self._select
        speaker: Callable[[], Asking] | None = None
        if select is not None and asking in select.askings:
            select.asking = asking
            speaker = lambda: select.asking  # noqa: E731 - it changes from domain to domain
        with asking.agreed(where or f"step {step}", lambda: self._kept(before), speaker):
            yield

    def _kept(self, before: Mapping[str, Any]) -> str:
        """Keep the steps done, with every part as it was before the boundary; how the sentence about it ends."""
        self.load_state_dict(before)
        progress = self._askings()[0].progress
        with contextlib.ExitStack() as held:
            for asking, state in self._asked:
                if state is None:  # too large to copy
                    return progress.last_whole()
                held.enter_context(asking.holding(state))
            return progress.keep()

    def _with_numbers(self, made: Sequence[Made], drawn: Mapping[str, Any]) -> Sequence[Made]:
        """Decisions with what was drawn after them: a mixer's shares realised, what the queues served again."""
        if not made:
            return made
        again: Any = self._recycled.tolist() if self._mix is not None else int(self._recycled[0])
        self._recycled = np.zeros_like(self._recycled)
        named = {"domains": list(self.domains)} if self.domains else {}
        return with_numbers(made, drawn, {**named, "recycled": again})
