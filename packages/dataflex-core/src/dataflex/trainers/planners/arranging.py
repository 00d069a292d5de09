"""The orderer of a run with several components: it puts the queue of each domain in order, on its own places."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.asking import Asking
from dataflex.config.order_params import ScoreKind, ScoreSource
from dataflex.config.ordering import source_of
from dataflex.config.parts import Part
from dataflex.kinds import Kind
from dataflex.math.ordering import Order, rank_correlation, score_by_tenth
from dataflex.mixing.ordered_queues import OrderedQueues
from dataflex.mixing.sampler import MixtureSampler
from dataflex.trainers.divergence import require_some_loss
from dataflex.trainers.planners.ordering import order_of, warn_of_window
from dataflex.trainers.planners.planner import model_of
from dataflex.trainers.recording.outcome import Made, Outcome
from dataflex.trainers.slots import Opening

logger = logging.getLogger("dataflex")

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Arranging:
    """Orders queues by the scores that the orderer asks for.

    Args:
        opening: What parts are opened with.
        part: The orderer.
        sampler: Knows the domains.

    Attributes:
        asking: The orderer.
        queues: Of each domain, in order.
        scores: Of the rows of the pool, NaN where there is none; ``None`` before there are any.
    """

    def __init__(self, opening: Opening, part: Part, sampler: MixtureSampler) -> None:
        self._opening, self._part, self._sampler = opening, part, sampler
        self._context, self._params = opening.context, part.bound.values
        self.asking: Asking = opening.parts.open(part, opening.context)
        selects = opening.session.run.part(Kind.SELECTOR) is not None
        self._source: ScoreSource | None = source_of(part, selects=selects)
        self._step = 0
        self.scores: Floats | None = None
        if self._source is not None and self._source.kind not in (ScoreKind.LOSS, ScoreKind.SELECTOR):
            self.scores = opening.session.given_scores(self._source, opening.context.dataset)
        direction = str(self._params.get("direction") or "ascending")
        self.queues = OrderedQueues(sampler.names, self._order, direction=direction)
        if len(sampler.names) == 1 and not opening.context.rank:
            warn_of_window(int(self._params.get("window") or 1), opening.context.global_batch)

    @property
    def moves(self) -> bool:
        """Whether the scores change while the model trains."""
        return self._source is not None and self._source.kind is ScoreKind.LOSS

    @property
    def keeps_scores(self) -> bool:
        """Whether the scores are made in the run, by the model or the selector, so that no resume finds them again."""
        return self._source is not None and self._source.kind in (ScoreKind.LOSS, ScoreKind.SELECTOR)

    def fill(
        self,
        rows: Sequence[Rows],
        step: int,
        scores: Floats | None,
        places: Sequence[int | None] | None,
        weights: Sequence[Floats | None],
    ) -> None:
        """Take what was chosen as the queues' next passes.

        Args:
            rows: Of the pool, for each domain.
            step: Optimizer steps done.
            scores: The selector's, of the rows of the pool; ``None`` where it gave none.
            places: Rows that will be taken of each; ``None`` where that is not known.
            weights: Of the rows of each; ``None`` where there are none.
        """
        self._step = step
        if self._source is not None and self._source.kind is ScoreKind.SELECTOR:
            self.scores = scores
        for domain, own in enumerate(rows):
            known = None if self.scores is None else self.scores[own]
            most = None if places is None else places[domain]
            self.queues.fill(domain, own, known, number=step, places=most, weights=weights[domain])

    def fill_one(self, domain: int, rows: Rows, step: int, places: int | None) -> None:
        """Take rows as the next pass of one queue, with the scores there are."""
        self._step = step
        known = None if self.scores is None else self.scores[rows]
        self.queues.fill(domain, rows, known, number=step, places=places)

    def rescore(self, step: int, counts_K: Rows) -> None:
        """Score, under the present model, the rows that the next so many of each domain depend on."""
        self._step = step
        if not self.moves:
            return
        rows = [self.queues.to_score(domain, count) for domain, count in enumerate(counts_K.tolist())]
        places, most = np.concatenate([*rows, np.zeros(0, np.int64)]), self._params.get("max_candidates")
        if most is not None and most < len(places):
            places = self._context.rng(step, "order", "candidates").choice(places, size=int(most), replace=False)
        places = np.unique(places)
        found = self._context.losses(
            model_of(self._opening.host), places, token_budget=self._params.get("token_budget")
        )
        require_some_loss(found, places)
        self.scores = np.full(len(self._context.dataset), np.nan) if self.scores is None else self.scores
        self.scores[places] = found.means[places]
        for domain in range(len(self._sampler.names)):
            own = self.queues.rows(domain)
            if len(own):
                self.queues.score(domain, self.scores[own])

    def say_reach(self, passes_K: Floats) -> None:
        """Say how far into a pass of each domain the run comes at the present shares, as it is not thinned."""
        if not self._opening.host.is_world_process_zero():
            return
        reach = zip(self._sampler.names, passes_K.tolist(), strict=True)
        logger.info(
            "%s: the shares may move, so no pass is thinned; at the present ones the run reaches %s.",
            *(self.asking.title, ", ".join(f"{name} {share:.0%}" for name, share in reach) + " of a pass"),
        )

    def made(self, seconds: float) -> Made:
        """What was decided: the rows left of every pass, in order."""
        rest = [self.queues.rest(domain) for domain in range(len(self._sampler.names))]
        rows = np.concatenate([own for own, _ in rest])
        metrics: dict[str, Any] = {"ordered": len(rows)}
        single = len(rest) == 1
        found = [scores for _, scores in rest]
        if any(np.isfinite(scores).any() for scores in found):
            unscored = [int((~np.isfinite(scores)).sum()) for scores in found]
            correlations = [rank_correlation(scores) for scores in found]
            metrics["unscored"] = unscored[0] if single else unscored
            tenths = [score_by_tenth(scores) for scores in found]
            metrics["score_by_tenth"] = tenths[0] if single else tenths
            if not single or correlations[0] is not None:
                metrics["rank_correlation"] = correlations[0] if single else correlations
        return Made(self._part.facts, Outcome(rows=rows, result=rows, metrics=metrics, scores=self.scores), seconds)

    def _order(self, domain: int, rows: Rows) -> Order:
        context = self._context
        name = self._sampler.names[domain] if len(self._sampler.names) > 1 else ""
        if name:
            context = dataclasses.replace(context, domain=name, streams=(*context.streams, name))

        def available() -> dict[str, Any]:
            return {"model": model_of(self._opening.host), "step_id": self._step, "domain": name or None}

        return order_of(
            self.asking,
            lambda *names: context.rng(0, *names),
            rows=rows,
            params=self._params,
            available=available,
        )
