"""The planner of ``dynamic_order``: whole passes over the pool in an orderer's order are the plan of a stage."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from dataflex.components.asking import Asking
from dataflex.components.context import RunContext
from dataflex.config.order_params import ScoreKind, ScoreSource, score_source
from dataflex.config.parts import Part
from dataflex.math.ordering import Floats, rank_correlation, score_by_tenth
from dataflex.mixing.batch_order import permute_global_batches
from dataflex.mixing.ordered_rows import OrderedRows
from dataflex.schedule import Schedule
from dataflex.trainers.divergence import require_some_loss
from dataflex.trainers.host import Host
from dataflex.trainers.planners.ordering import order_of, warn_of_window
from dataflex.trainers.planners.planner import ComponentPlanner
from dataflex.trainers.recording.outcome import Outcome
from dataflex.trainers.recording.recorder import Recorder
from dataflex.trainers.session import Session
from dataflex.trainers.slots import Filled, Opening

logger = logging.getLogger("dataflex")


def fill(opening: Opening, part: Part) -> Filled:
    """Let an orderer order the rows."""
    asking = opening.parts.open(part, opening.context)
    told = (opening.host, opening.session, opening.schedule, opening.context, opening.recorder)
    return Filled(OrderPlanner(*told, asking, part.bound.values))


class OrderPlanner(ComponentPlanner):
    """Serves the pool in passes, each in the orderer's order; with ``by: loss``, what is left is scored at boundaries.

    A boundary does not begin the order anew: the pattern covers the pass. The last pass is thinned if the run ends
    in it.

    Args:
        host: The Trainer.
        session: The run.
        schedule: Its stages.
        context: What a component may see of the run.
        recorder: Writes down what is decided.
        asking: The orderer.
        params: Its parameters by name.

    Attributes:
        source: Where scores come from; ``None`` where there are none.
        queue: The pool in passes.
    """

    def __init__(
        self,
        host: Host,
        session: Session,
        schedule: Schedule,
        context: RunContext,
        recorder: Recorder | None,
        asking: Asking,
        params: Mapping[str, Any],
    ) -> None:
        super().__init__(host, session, schedule, context, recorder, asking)
        by = params.get("by")
        self.source: ScoreSource | None = score_source(by) if by else None
        self._params, self._step = params, 0
        order = order_of(asking, self._rng, params=params, available=self._available)
        self.queue = OrderedRows(
            len(host.train_dataset),
            order,
            direction=str(params.get("direction") or "ascending"),
            places=schedule.total * context.global_batch,
        )
        if self.source is not None and not self._moves:
            self.queue.score(session.given_scores(self.source, context.dataset))
        self._drawn_from, self._before = 0, self.queue.state_dict()
        self._warn(int(params.get("window") or 1))

    @property
    def _moves(self) -> bool:
        return self.source is not None and self.source.kind is ScoreKind.LOSS

    def decide(self, stage: int, step: int, num_samples: int) -> Outcome:
        """Rank what is left of the pass and read on.

        In the middle of a stage, a resumed run has another length: it goes on from the row it has come to, with what
        is left ranked anew over the places there are.
        """
        self._step = step
        begins, times = step == self.schedule.bounds(stage)[0], self.session.run.facts.steps.times
        if not begins:
            self.queue.load_state_dict(self._before)
            self.queue.take((step - self._drawn_from) * self.context.global_batch)
        self.queue.extend(self.schedule.total * self.context.global_batch)
        scores_now = self._moves and begins and stage > 0 and (times <= 0 or stage <= times)
        if scores_now:
            self.queue.score(self._losses(step, num_samples))
        self._drawn_from, self._before = step, self.queue.state_dict()
        in_order = self.queue.scores[self.queue.rest()]
        metrics = self._metrics(in_order)
        rows = self.queue.take(num_samples)
        shuffled = permute_global_batches(rows, self.context.global_batch, self.context.seed, step)
        counts = {"pool": self.queue.size, "selected": len(rows), "distinct": len(np.unique(rows))}
        return Outcome(
            rows=shuffled,
            result=shuffled,
            metrics={**counts, **metrics},
            decided=begins and (scores_now or not self._moves),
            scores=self.queue.scores.copy() if np.isfinite(self.queue.scores).any() else None,
        )

    def describe(self, outcome: Outcome) -> str:
        """Which pass was ordered, and how place and score go together."""
        metrics = outcome.metrics
        correlation = metrics.get("rank_correlation")
        found = "" if correlation is None else f", rank correlation of place and score {correlation:.3f}"
        return f"{self.asking.name} ordered {metrics['ordered']} rows of pass {int(str(metrics['pass'])) + 1}{found}"

    def state_dict(self) -> dict[str, Any]:
        """The queue now and where the plan begins; the scores too, where a boundary found them."""
        scores = {"scores": self.queue.pack_scores()} if self._moves and np.isfinite(self.queue.scores).any() else {}
        return {"queue": self.queue.state_dict(), "before": self._before, "drawn_from": self._drawn_from, **scores}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.queue.load_state_dict(state["queue"])
        self._before, self._drawn_from = dict(state["before"]), int(state["drawn_from"])
        if self._moves and "scores" in state:
            self.queue.unpack_scores(state["scores"])

    def _metrics(self, in_order: Floats) -> dict[str, Any]:
        """How scores go along what is left of the pass; ``None`` and nothing where there are none."""
        known: dict[str, Any] = {"pass": self.queue.number, "ordered": len(in_order)}
        if np.isfinite(in_order).any():
            known |= {
                "unscored": int((~np.isfinite(in_order)).sum()),
                "score_by_tenth": score_by_tenth(in_order),
            }
            if (correlation := rank_correlation(in_order)) is not None:
                known["rank_correlation"] = correlation
        return known

    def _losses(self, step: int, num_samples: int) -> Floats:
        """Present scores: losses of the rows that the plan depends on, the last ones for all others."""
        places, most = self.queue.to_score(num_samples), self._params.get("max_candidates")
        if most is not None and most < len(places):
            draw = self.context.rng(step, "order", "candidates")
            places = np.sort(draw.choice(places, size=int(most), replace=False))
        budget = self._params.get("token_budget")
        found = self.context.losses(self.model(), places, token_budget=budget)
        require_some_loss(found, places)
        scores = self.queue.scores.copy()
        scores[places] = found.means[places]
        return scores

    def _rng(self, *names: str | int) -> np.random.Generator:
        return self.context.rng(0, *names)

    def _available(self) -> dict[str, Any]:
        return {"model": self.model(), "step_id": self._step, "domain": None}

    def _warn(self, window: int) -> None:
        """Say what of the settings changes nothing. Rank 0 does."""
        if self.context.rank:
            return
        warn_of_window(window, self.context.global_batch)
        if self.session.run.facts.steps.update and not self._moves:
            logger.warning("update_step has no effect: without by: loss, the order never changes.")
