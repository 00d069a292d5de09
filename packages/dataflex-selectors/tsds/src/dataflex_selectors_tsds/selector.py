"""The selector ``tsds``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from dataflex import Candidates, ComponentError, ConfigError, RunContext, Selection, Selector
from dataflex.components.context import logger
from dataflex.distributed import all_gather, together
from dataflex.math.draws import systematic
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex.math.topk import gumbel_top_k, weighted_with_replacement
from dataflex_selectors_tsds.params import TsdsParams

if TYPE_CHECKING:
    from torch import nn

    from dataflex.components.passes import Subtask
    from dataflex.scoring.embedding_source import Embedded, EmbeddingSource
    from dataflex_selectors_tsds.solving import Solution

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Metrics = dict[str, float | list[float]]

_WHY = {"all": "no token", "prompt": "no token of a prompt", "answer": "no token with a label"}
_CROWDED = 0.1  # of the pool: above it, sigma counts rows as copies that are none


@dataclass(frozen=True, eq=False)
class Group:
    """Rows that the eval set's mass is spread over, and how many of them are drawn.

    Attributes:
        domain: Its name beside a mixer; empty for the whole pool.
        rows: Rows of the pool, ascending.
        count: How many to draw.
    """

    domain: str
    rows: Rows
    count: int

    @property
    def title(self) -> str:
        """For messages."""
        return f"domain {self.domain!r}" if self.domain else "the pool"


class TsdsSelector(Selector):
    """Draw rows by the transport of the eval set's mass to its nearest rows of the pool, spread over them.

    Beside a mixer pool and eval sets are embedded once, and the mass goes to each domain anew: one that lies farther
    off would get none, and has its share of the rows to give all the same.

    Paper: Liu, Karbasi & Rekatsinas 2024, "TSDS: Data Selection for Task-Specific Model Finetuning", arXiv 2410.11303.
    """

    params: TsdsParams
    context: RunContext

    def __init__(self, params: TsdsParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._source: EmbeddingSource | None = None
        self._of_source: Mapping[str, Any] = {}
        self._solved: dict[str, tuple[str, Solution]] = {}  # by domain, with what it is of

    def begin(self, model: nn.Module) -> None:
        """With ``embedding_model: initial``, embed pool and eval sets with the model as training begins."""
        self._embeddings().begin(model)

    def select(
        self,
        model: nn.Module,
        step_id: int,
        num_samples: int,
        candidates: Candidates | None = None,
        **kwargs: Any,
    ) -> Selection:
        """Find the probability of each row, once for the same embeddings, and draw; within each domain beside a mixer.

        Raises:
            ConfigError: when there is no eval set, or ``span`` is ``prompt`` in pretraining.
            ComponentError: when no row of the pool, a domain or a target has an embedding, or ``draw: distinct`` has
                too few rows to draw from.
        """
        began, context, params = time.monotonic(), self.context, self.params
        if params.span == "prompt" and context.stage == "pt":
            raise ConfigError("span is prompt, and rows of stage: pt have none. Set component_params.span: all.")
        every, source = np.arange(len(self.dataset), dtype=np.int64), self._embeddings()
        groups = [Group("", every, per_pass(num_samples, params.passes))]
        if candidates is not None:
            groups = [Group(*each) for each in zip(candidates.names, candidates.rows, candidates.counts, strict=True)]
        scores, facts = self._probabilities(source.at(model, every), source.subtasks(), groups)
        rng, chosen = context.rng(step_id), []
        for group in groups:
            drawn = self._draw(np.nan_to_num(scores[group.rows]), group, step_id, rng)
            chosen.append(rng.permutation(group.rows[drawn]))  # ascending, stages would see the pool in order
        facts = {**facts, "seconds": time.monotonic() - began}
        if context.rank == 0:
            logger.info(
                "tsds at step %d: %d of %d rows have a probability; %.0f count in effect (%.1f s).",
                *(step_id, np.sum(facts["support"]), len(every), np.sum(facts["effective"]), facts["seconds"]),
            )
        rows = np.concatenate(chosen)
        plan = read_again(rows, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        return Selection(plan, facts, scores)

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """A forward pass of some tokens and layers, of pool and eval sets: at each boundary, or once."""
        return self._embeddings().cost(model)

    def state_dict(self) -> dict[str, Any]:
        """Which embeddings this run uses; the probabilities follow from them."""
        return dict(self._of_source if self._source is None else self._source.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self._of_source = dict(state)
        if self._source is not None:
            self._source.load_state_dict(self._of_source)

    def _embeddings(self) -> EmbeddingSource:
        if self._source is None:
            from dataflex.scoring.embedding_source import EmbeddingSource

            self._source = EmbeddingSource(self.params, self.context, who="TSDS")
            self._source.load_state_dict(self._of_source)
        return self._source

    def _probabilities(
        self, embedded: Embedded, subtasks: Sequence[Subtask], groups: Sequence[Group]
    ) -> tuple[Values, Metrics]:
        """Rank 0's probabilities, NaN where a row has none, on every rank, with what is recorded of them."""
        accelerator, decided = self.context.accelerator, None
        with together("solving the transport problem", accelerator):
            if embedded.pool is not None and embedded.targets is not None:
                decided = self._solve(embedded, subtasks, groups)
        scores, facts = all_gather(decided, accelerator)[0]
        return scores, {**facts, **embedded.metrics}

    def _solve(
        self, embedded: Embedded, subtasks: Sequence[Subtask], groups: Sequence[Group]
    ) -> tuple[Values, Metrics]:
        assert embedded.pool is not None
        assert embedded.targets is not None
        known = self._known(embedded.targets, subtasks)
        there = np.asarray(np.isfinite(embedded.pool).all(axis=1))
        scores, queries = np.full(len(there), np.nan), np.concatenate(known)
        asked = [group for group in groups if group.count]
        solutions = {group.domain: self._solution(group, embedded, queries, there) for group in asked}
        for group in asked:
            scores[group.rows] = np.where(there[group.rows], solutions[group.domain].p, np.nan)
        scored, rows = int(np.isfinite(scores).sum()), sum(len(group.rows) for group in asked)
        facts: Metrics = {
            "scored": float(scored),
            "without_score": float(rows - scored),
            "validation": float(len(queries)),
            "validation_without_score": float(sum(map(len, embedded.targets)) - len(queries)),
        }
        each = [_facts(solutions.get(group.domain)) for group in groups]
        for name in each[0]:
            facts[name] = each[0][name] if len(each) == 1 else [one[name] for one in each]
        return scores, facts

    def _solution(
        self, group: Group, embedded: Embedded, queries: npt.NDArray[Any], there: npt.NDArray[Any]
    ) -> Solution:
        """The probabilities of a group's rows: from memory, from disk, or solved now."""
        from dataflex_selectors_tsds import kept
        from dataflex_selectors_tsds.solving import solve

        assert embedded.pool is not None
        context, usable = self.context, int(there[group.rows].sum())
        if not usable:
            raise ComponentError(
                f"no row of {group.title} has an embedding: they have {_WHY[self.params.span]}. Set "
                "component_params.span: all, or look at the data."
            )
        folder, of = context.cache_dir, embedded.fingerprint
        names = [group.domain] if group.domain else []
        if group.domain:  # in a folder of its own: one solution is kept in each
            folder = folder / quote(group.domain, safe=" ")
            of = f"{of} rows {group.rows[0]} to {group.rows[-1]}"
        before, solution = self._solved.get(group.domain, ("", None))
        if solution is None or before != of:
            file = kept.place(folder, of, self.params, context.seed)
            solution = kept.read(file, len(group.rows))
            if solution is None:
                device = None if context.accelerator is None else context.accelerator.device
                pool = embedded.pool[group.rows] if group.domain else embedded.pool
                solution = solve(queries, pool, self.params, lambda: context.rng(0, "density", *names), device=device)
                kept.write(file, solution)
            self._solved[group.domain] = of, solution
            self._warn(solution, usable, group.title)
        return solution

    def _known(
        self, targets: Sequence[npt.NDArray[np.float16]], subtasks: Sequence[Subtask]
    ) -> list[npt.NDArray[np.float16]]:
        known = [each[np.isfinite(each).all(axis=1)] for each in targets]
        for subtask, queries in zip(subtasks, known, strict=True):
            if not len(queries):
                raise ComponentError(
                    f"none of the {len(subtask.rows)} rows of the eval set {subtask.name!r} has an embedding: they "
                    f"have {_WHY[self.params.span]}. Set component_params.span: all, or look at the data."
                )
        return known

    def _warn(self, solution: Solution, rows: int, whose: str) -> None:
        if solution.mean_density > _CROWDED * rows and rows > 1 / _CROWDED:
            logger.warning(
                "each row of %s counts as %.0f of its %d, on average: sigma=%g takes rows for copies that are none. "
                "Lower component_params.sigma.",
                *(whose, solution.mean_density, rows, self.params.sigma),
            )

    def _draw(self, p: Values, group: Group, step: int, rng: np.random.Generator) -> Rows:
        if not group.count:
            return np.zeros(0, np.int64)
        if self.params.draw == "systematic":
            return systematic(p, group.count, rng)
        if self.params.draw == "independent":
            return weighted_with_replacement(p, group.count, rng)
        support = int(np.count_nonzero(p))
        if support < group.count:
            of = f" of {group.title}" if group.domain else ""
            raise ComponentError(
                f"draw: distinct needs {group.count} rows{of} at step {step}, and {support} of {len(p)} have a "
                "probability. Lower component_params.alpha or raise C, so that it is spread wider; raise passes; lower "
                "update_step; or set draw: systematic, which may take a row more than once."
            )
        with np.errstate(divide="ignore"):
            return gumbel_top_k(np.log(p), group.count, rng)


def _facts(solution: Solution | None) -> dict[str, float]:
    """What is recorded of one solution; zeros of a domain that nothing was drawn from."""
    if solution is None:
        return dict.fromkeys(("support", "effective", "mean_density", "duplicates", "stop", "neighbours"), 0.0)
    return {
        "support": float(np.count_nonzero(solution.p)),
        "effective": float(1.0 / (solution.p**2).sum()),
        "mean_density": solution.mean_density,
        "duplicates": solution.mean_density - 1.0,
        "stop": solution.stop,
        "neighbours": float(solution.neighbours),
    }
