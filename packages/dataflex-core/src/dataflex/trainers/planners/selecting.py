"""The selector of a run with several domains: asked within each, or once for all if its ``select`` names candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.asking import Asking
from dataflex.components.candidates import Candidates
from dataflex.components.context import RunContext
from dataflex.components.selector import Selection, random_rows, valid_scores
from dataflex.config.parts import Part
from dataflex.data.view import rows_from
from dataflex.errors import ComponentError
from dataflex.rng import key_seed
from dataflex.trainers.clock import Clock
from dataflex.trainers.host import Host
from dataflex.trainers.losses.place_weights import refuse_other_loss, valid_weights
from dataflex.trainers.parts import Parts
from dataflex.trainers.planners.each_domain import EachDomain
from dataflex.trainers.planners.picked import Picked, after_passes, reported, require_distinct
from dataflex.trainers.planners.select import show_model, valid_rows

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Facts = Callable[[RunContext], Mapping[str, Any]]


class Selecting:
    """One instance of a selector for each domain, or one for all.

    Args:
        host: The Trainer.
        part: The selector.
        parts: Opens its instances.
        context: What a component may see of the run.
        names: The domains.
        sizes: Rows of each; they stand one after another in the pool.
        facts: What ``select`` may ask for by name, besides the model; of a context.

    Attributes:
        askings: The instances.
        asking: The one that was asked last.
    """

    def __init__(
        self,
        host: Host,
        part: Part,
        parts: Parts,
        context: RunContext,
        names: Sequence[str],
        sizes: Sequence[int],
        facts: Facts,
    ) -> None:
        self._host = host
        self._names, self._sizes, self._facts = tuple(names), tuple(int(size) for size in sizes), facts
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)]).astype(np.int64)
        self._seed, self._pool = context.seed, int(self._starts[-1])
        self._several = len(self._names) > 1
        self._whole = self._several and part.takes_candidates
        self._repeats = bool(part.bound.values.get("replacement"))
        if not self._several or self._whole:
            self._contexts = [context]
            self.askings = [parts.open(part, context)]
        else:
            self._contexts = [self._context(context, domain) for domain in range(len(self._names))]
            own = zip(self._contexts, self._names, strict=True)
            self.askings = [parts.open(part, context, domain=name) for context, name in own]

        self.asking = self.askings[0]

    @property
    def name(self) -> str:
        """The selector's name."""
        return self.askings[0].name

    @property
    def told(self) -> Asking | EachDomain:
        """Who hears of the rows of each step."""
        return self.askings[0] if len(self.askings) == 1 else EachDomain(self.askings, self._starts)

    def begin(self, model: Any, clock: Clock) -> None:
        """Show each instance the model as training begins. Called on every rank."""
        for asking in self.askings:
            show_model(asking, model, self._seed, clock)

    def warm_up(self, counts_K: Rows, step: int) -> Picked:
        """Choose the rows of the warm-up, so many of each domain."""

        def ask(asking: Asking, domain: int, count: int) -> Any:
            if not self._several or asking.defines("warmup"):
                return asking.call("warmup", num_samples=count, replacement=False)
            return self._at_random(domain, count)

        if not self._whole:
            return self._each(counts_K, ask, step, distinct=False)
        rows = [self._starts[domain] + self._at_random(domain, count) for domain, count in enumerate(counts_K.tolist())]
        return Picked(rows, self._counts(rows), None, [None] * len(rows), 0.0)

    def _at_random(self, domain: int, count: int) -> Rows:
        """Rows of a domain for the warm-up, counted from its first row on."""
        rng = np.random.default_rng(key_seed("warm-up of a domain", self._seed, self._names[domain]))
        return random_rows(rng, self._sizes[domain], count)

    def choose(self, counts_K: Rows, step: int, model: Any, *, distinct: bool) -> Picked:
        """Ask for so many rows of each domain.

        Args:
            counts_K: How many of each. A domain that has fewer gives whole passes and the rest.
            step: Optimizer steps done.
            model: The current model.
            distinct: Whether no row may come twice.

        Raises:
            ComponentError: for an unusable answer.
        """

        def ask(asking: Asking, domain: int, count: int) -> Any:
            context = self._contexts[min(domain, len(self._contexts) - 1)]
            return asking.call("select", model=model, step_id=step, num_samples=count, **self._facts(context))

        if self._whole:
            return self._all(counts_K, step, model, distinct=distinct)
        return self._each(counts_K, ask, step, distinct=distinct)

    def _each(self, counts_K: Rows, ask: Callable[[Asking, int, int], Any], step: int, *, distinct: bool) -> Picked:
        rows: list[Rows] = []
        found: list[Selection | None] = []
        weights: list[Floats | None] = []
        seconds = 0.0
        for domain, count in enumerate(counts_K.tolist()):
            asked, passes = self._asked_for(domain, count, step)
            if not asked:
                rows.append(np.zeros(0, np.int64))
                found.append(None)
                weights.append(None)
                continue
            asking = self.asking = self.askings[domain]
            answer = ask(asking, domain, asked)
            seconds += asking.spent
            selection = answer if isinstance(answer, Selection) else Selection(answer)
            with self._naming(domain):
                own = valid_rows(selection.rows, asked, self._sizes[domain])
                if distinct:
                    require_distinct(own)
                given = self._weights(selection, asked)
            rows.append(np.concatenate([*passes, self._starts[domain] + own]))
            found.append(selection)
            weights.append(after_passes(passes, given))
        scores = self._over_pool(found)
        return Picked(rows, self._counts(rows) | reported(self._names, found), scores, weights, seconds)

    def _all(self, counts_K: Rows, step: int, model: Any, *, distinct: bool) -> Picked:
        asking, context = self.askings[0], self._contexts[0]
        wanted = [self._asked_for(domain, count, step) for domain, count in enumerate(counts_K.tolist())]
        counts = tuple(asked for asked, _ in wanted)
        groups = tuple(np.arange(start, start + size) for start, size in zip(self._starts, self._sizes, strict=False))
        candidates = Candidates(self._names, groups, counts)
        answer = asking.call(
            "select",
            model=model,
            step_id=step,
            num_samples=candidates.num_samples,
            candidates=candidates,
            **self._facts(context),
        )
        selection = answer if isinstance(answer, Selection) else Selection(answer)
        chosen = valid_rows(selection.rows, candidates.num_samples, self._pool)
        rows: list[Rows] = []
        for domain, own in enumerate(np.split(chosen, np.cumsum(counts)[:-1])):
            first, end = self._starts[domain], self._starts[domain + 1]
            outside = own[(own < first) | (own >= end)]
            with self._naming(domain):
                if len(outside):
                    raise ComponentError(
                        f"it returned row {outside[0]} where rows {first} to {end - 1} were asked for; the rows of the "
                        "first group of candidates come first, then those of the second"
                    )
                if distinct:
                    require_distinct(own)
            rows.append(np.concatenate([*wanted[domain][1], own]))
        scores = None if selection.scores is None else valid_scores(selection.scores, self._pool)
        weights: list[Floats | None] = [None] * len(rows)
        given = self._weights(selection, len(chosen))
        if given is not None:
            each = zip(wanted, np.split(given, np.cumsum(counts)[:-1]), strict=True)
            weights = [after_passes(passes, own) for (_, passes), own in each]
        return Picked(rows, self._counts(rows) | dict(selection.metrics), scores, weights, asking.spent)

    def _asked_for(self, domain: int, count: int, step: int) -> tuple[int, list[Rows]]:
        """How many rows a selector is asked for, and the whole passes over the domain that come before them."""
        size = self._sizes[domain]
        if count <= size or self._repeats:
            return count, []
        asked = (count - 1) % size + 1
        passes = []
        for number in range((count - asked) // size):
            rng = np.random.default_rng(key_seed("whole pass", self._seed, self._names[domain], step, number))
            passes.append(self._starts[domain] + rng.permutation(size).astype(np.int64))
        return asked, passes

    def _over_pool(self, found: Sequence[Selection | None]) -> Floats | None:
        """Scores of the domains' rows as those of the pool."""
        scores: Floats | None = None
        for domain, selection in enumerate(found):
            if selection is None:
                continue
            first, size = int(self._starts[domain]), self._sizes[domain]
            with self._naming(domain):
                if selection.scores is not None:
                    scores = np.full(self._pool, np.nan) if scores is None else scores
                    scores[first : first + size] = valid_scores(selection.scores, size)
        return scores

    def _weights(self, selection: Selection, count: int) -> Floats | None:
        """Weights of the rows of an answer, as it gave them."""
        if selection.weights is None:
            return None
        refuse_other_loss(self._host)
        return valid_weights(selection.weights, count)

    def _counts(self, rows: Sequence[Rows]) -> dict[str, Any]:
        whole = np.concatenate(rows)
        counts: dict[str, Any] = {"pool": self._pool, "selected": len(whole), "distinct": len(np.unique(whole))}
        if self._several:
            counts |= {"domains": list(self._names), "selected_of": [len(own) for own in rows]}
        return counts

    def _context(self, context: RunContext, domain: int) -> RunContext:
        name, first = self._names[domain], int(self._starts[domain])
        return dataclasses.replace(
            context,
            dataset=rows_from(context.dataset, first, self._sizes[domain]),
            domain=name,
            streams=(*context.streams, name),
        )

    def _naming(self, domain: int) -> _Naming:
        return _Naming(self._names[domain] if self._several else "")


class _Naming:
    """Says of which domain an unusable answer is."""

    def __init__(self, domain: str) -> None:
        self._domain = domain

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, ComponentError) and self._domain:
            raise ComponentError(f"for domain {self._domain}: {error}") from error
