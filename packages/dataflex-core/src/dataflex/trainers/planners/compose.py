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

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.asking import Asking
from dataflex.config.mixture import Unit
from dataflex.config.parts import Part
from dataflex.distributed import assert_same_on_all_ranks
from dataflex.errors import ComponentError
from dataflex.kinds import Kind
from dataflex.mixing.packed import packed, unpacked
from dataflex.mixing.proportions import Proportions
from dataflex.mixing.sampler import MixtureSampler, permute_global_batches
from dataflex.trainers.planners.agreement import Agreement
from dataflex.trainers.planners.arranging import Arranging
from dataflex.trainers.planners.drawing import Drawing
from dataflex.trainers.planners.each_domain import EachDomain
from dataflex.trainers.planners.mix import MixPlanner
from dataflex.trainers.planners.planner import model_of, runtime_arguments, to_agree_on
from dataflex.trainers.planners.rows_ahead import RowsAhead
from dataflex.trainers.planners.selecting import Selecting
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
        self._drawing = Drawing(self._sampler, mix, context, None if self._arrange is None else self._arrange.queues)
        self._until = 0  # optimizer step up to which rows were chosen
        self._total = opening.schedule.total  # steps of the run for which passes were thinned
        self._stage = 0
        self._agreement = Agreement(self._askings(), self._select, self.load_state_dict)
        self._ahead = RowsAhead(
            opening.schedule,
            self._sampler,
            context.global_batch,
            *(selector, mix),
            lambda mix: self._agreement.of(mix.asking),
        )

    def plan(self, stage: int, step: int, num_samples: int) -> Rows:
        """Make the plan of a stage; the same on all ranks.

        Raises:
            ComponentError: on every rank, when a component fails on one, returns something unusable or differs between
                ranks. A checkpoint of the current step has been written by then.
        """
        if step == 0 and self._select is not None:
            self._select.begin(model_of(self._host), self._recorder.clock)
        started, cpu = time.perf_counter(), self._recorder.clock.cpu()
        self._stage = stage
        self._agreement.begin(step, self.state_dict())
        begins = step == self._schedule.bounds(stage)[0]
        made: list[Made] = []
        if not begins:
            self._drawing.rewind(self._shares, step)
        shares = self._shares
        if self._mix is not None and begins and stage > 0 and self._mix.is_due(stage):
            shares, each = self._ask_mixer(self._mix, stage, step)
            made.append(each)
        if self._selects(stage, step, begins=begins):
            each = self._ask_selector(stage, step, num_samples, shares)
            made += [each] if stage > 0 else []
        if self._arrange is not None:
            self._extend(self._arrange, shares, stage, step)
            made += self._order(self._arrange, stage, step, num_samples, shares, begins=begins)
        rows, weights, numbers = self._drawing.draw(shares, step, num_samples)
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
            raise ComponentError(f"{titles}: {error}{self._agreement.kept()}") from error
        self.weights = weights
        if made:
            made = list(with_numbers(made, numbers, self._drawing.since_last()))
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
                self._drawing.go_back()  # what was drawn for steps that were not made
            self._mix.finish(step, stage)

    def log_values(self) -> Mapping[str, float]:
        """What the mixer reports."""
        return {} if self._mix is None else self._mix.log_values()

    def state_dict(self) -> dict[str, Any]:
        """What every part of the plan must remember, by kind, as JSON values."""
        own = {"until": self._until, "total": self._total, **self._drawing.state_dict()}
        if self._arrange is not None and self._arrange.scores is not None and self._arrange.keeps_scores:
            own["scores"] = packed(self._arrange.scores)
        return {self._key: own} if self._mix is None else {Kind.MIXER.value: self._mix.state_dict(), self._key: own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            ConfigError: as :meth:`MixPlanner.load_state_dict`.
        """
        own = state[self._key]
        if self._mix is not None:
            self._mix.load_state_dict(state[Kind.MIXER.value])
        self._drawing.load_state_dict(own)
        self._until, self._total = int(own["until"]), int(own["total"])
        if self._arrange is not None and self._arrange.keeps_scores:
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

    def _ask_mixer(self, mix: MixPlanner, stage: int, step: int) -> tuple[Proportions, Made]:
        with self._agreement.of(mix.asking):
            self._agreement.note(mix.asking)
            shares = mix.propose(stage, step)
        facts = self._mixer
        assert facts is not None
        return shares, Made(facts.facts, Outcome(rows=np.zeros(0, np.int64), result=shares), mix.asking.spent)

    def _ask_selector(self, stage: int, step: int, num_samples: int, shares: Proportions) -> Made:
        assert self._part is not None and self._select is not None
        keeps = stage > 0 and self._part.keep != "stage"
        end = self._ahead.chosen_until(stage)
        with self._agreement.of(self._select.askings[0], where="the warm-up" if stage == 0 else ""):
            for asking in self._select.askings:
                self._agreement.note(asking)
            counts_K = self._ahead.wanted(shares, (end - step) * self._context.global_batch, num_samples, keeps=keeps)
            if stage == 0:
                picked = self._select.warm_up(counts_K, step)
            else:
                picked = self._select.choose(counts_K, step, model_of(self._host), distinct=keeps)
        overlap = self._drawing.overlap(picked, first=stage <= 1)
        if self._arrange is not None:
            places = self._ahead.places(shares, stage, step, end, self._arrange.say_reach, counts_K) if keeps else None
            self._arrange.fill(picked.rows, step, picked.scores, places, picked.weights)
        else:
            self._drawing.fill(picked, key=step if keeps else None)
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
        *,
        begins: bool,
    ) -> list[Made]:
        """Fill queues that are empty, and have what is left of their passes put in order."""
        due = begins and stage > 0 and self._orderer is not None and self._orderer.is_due(stage)
        started = time.perf_counter()
        empty = np.flatnonzero(arrange.queues.sizes == 0).tolist()
        whole = self._part is None and bool(empty)
        places = self._ahead.places(shares, stage, step, self._schedule.total, arrange.say_reach) if whole else None
        with self._agreement.of(arrange.asking):
            self._agreement.note(arrange.asking)
            counts_K = self._sampler.expected(shares, num_samples)
            for domain in empty:
                if self._part is None:
                    every = self._sampler.offsets[domain] + np.arange(self._sampler.sizes[domain])
                    arrange.fill_one(domain, every, step, None if places is None else places[domain])
                elif counts_K[domain] or self._sampler.unit is Unit.TOKENS:
                    arrange.fill_one(domain, self._drawing.unselected(domain), step, None)
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

    def _facts(self, context: Any) -> dict[str, Any]:
        return runtime_arguments(self._host, self._schedule, context, self._stage)

    def _askings(self) -> list[Asking]:
        mixer = [] if self._mix is None else [self._mix.asking]
        selectors = [] if self._select is None else self._select.askings
        return [*mixer, *selectors, *([] if self._arrange is None else [self._arrange.asking])]
