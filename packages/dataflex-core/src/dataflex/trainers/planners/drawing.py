"""Drawing the rows of a plan: whose turn it is, and the next row of its queue; and going back to where a plan began."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.context import RunContext
from dataflex.mixing.ordered_queues import OrderedQueues
from dataflex.mixing.proportions import Proportions
from dataflex.mixing.queues import Queues
from dataflex.mixing.sampler import MixtureSampler, MixtureState
from dataflex.rng import key_seed
from dataflex.trainers.planners.mix import MixPlanner
from dataflex.trainers.planners.picked import Picked

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Drawing:
    """The queues of the domains, and how far they have been drawn from.

    Args:
        sampler: Whose turn it is.
        mix: The mixer, opened, which draws by its shares; ``None`` for a pool of one domain.
        context: What a component may see of the run.
        ordered: Queues that an orderer fills; ``None`` for those that a selector fills.
    """

    def __init__(
        self, sampler: MixtureSampler, mix: MixPlanner | None, context: RunContext, ordered: OrderedQueues | None
    ) -> None:
        self._sampler, self._mix, self._context = sampler, mix, context
        self._queues: Queues | OrderedQueues = (
            Queues(sampler.names, seed=context.seed, spare=self.unselected) if ordered is None else ordered
        )
        self._from, self._before = 0, sampler.state()  # the step and the turns where the plan begins
        self._position: Any = self._queues.position()
        self._recycled: Rows = np.zeros(len(sampler.names), np.int64)  # since the last record
        if mix is not None:
            mix.source = self._queues

    def fill(self, picked: Picked, *, key: int | None) -> None:
        """Take what a selector chose as the queues' next passes.

        Args:
            picked: What it chose.
            key: Of a share of distinct rows that is kept, the step at which it was chosen.
        """
        assert isinstance(self._queues, Queues)
        for domain, rows in enumerate(picked.rows):
            self._queues.fill(domain, rows, key=key, weights=picked.weights[domain])

    def draw(self, shares: Proportions, step: int, num_samples: int) -> tuple[Rows, Floats | None, dict[str, Any]]:
        """Draw from the queues: rows, their weights if a selector gave any, and numbers to record."""
        self._position = self._queues.position()
        self._queues.weights.begin()
        recycled = self._queues.recycled.copy()
        if self._mix is not None:
            rows, numbers = self._mix.draw(shares, step, num_samples)
        else:
            self._before, numbers = self._sampler.state(), {}
            rows = self._sampler.draw(shares, num_samples, self._queues)
        self._from = step
        self._recycled += self._queues.recycled - recycled
        return rows, self._queues.weights.of(self._sampler.domain_of(rows)), numbers

    def go_back(self) -> None:
        """Bring the queues back to where the plan began."""
        self._queues.go_to(self._position)

    def rewind(self, shares: Proportions, step: int) -> None:
        """Go back to where the plan has come to: in the middle of a stage, a resumed run has another length."""
        self.go_back()
        if self._mix is not None:
            self._mix.rewind(step)
            return
        self._sampler.restore(self._before)
        self._sampler.draw(shares, (step - self._from) * self._context.global_batch, self._queues)

    def unselected(self, domain: int) -> Rows:
        """All rows of a domain that nothing was expected of, and so nothing chosen, in the selector's place."""
        size, name = int(self._sampler.sizes[domain]), self._sampler.names[domain]
        rng = np.random.default_rng(key_seed("unselected", self._context.seed, name))
        rows: Rows = int(self._sampler.offsets[domain]) + rng.permutation(size)
        return rows

    def overlap(self, picked: Picked, *, first: bool) -> dict[str, Any]:
        """Share of the distinct rows that the selection before held too; nothing after the warm-up."""
        held = [self._queues.rows(domain) for domain in range(len(picked.rows))]
        if first or not any(map(len, held)):
            return {}
        rows = np.unique(np.concatenate(picked.rows))
        return {"overlap": float(np.isin(rows, np.unique(np.concatenate(held)), assume_unique=True).mean())}

    def since_last(self) -> dict[str, Any]:
        """How many rows the queues served again since this was last asked, by domain; for the record of a decision."""
        again: Any = self._recycled.tolist() if self._mix is not None else int(self._recycled[0])
        self._recycled = np.zeros_like(self._recycled)
        domains = () if self._mix is None else self._mix.domains
        return {**({"domains": list(domains)} if domains else {}), "recycled": again}

    def state_dict(self) -> dict[str, Any]:
        """Where queues and turns have come to, as JSON values; the turns of a mixer are its own."""
        state: dict[str, Any] = {
            "queues": self._queues.state_dict(),
            "drawn_from": self._from,
            "position": self._position,
            "recycled": self._recycled.tolist(),
        }
        if self._mix is None:
            state |= {"turns": dataclasses.asdict(self._sampler.state()), "before": dataclasses.asdict(self._before)}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        if self._mix is None:
            self._sampler.restore(MixtureState.from_json(state["turns"]))
            self._before = MixtureState.from_json(state["before"])
        self._queues.load_state_dict(state["queues"])
        self._from, self._position = int(state["drawn_from"]), state["position"]
        self._recycled = np.array(state["recycled"], np.int64)
