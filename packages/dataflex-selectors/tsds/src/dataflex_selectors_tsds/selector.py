"""The selector ``tsds``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, ConfigError, RunContext, Selection, Selector
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


class TsdsSelector(Selector):
    """Draw rows by the transport of the eval set's mass to its nearest rows of the pool, spread over them.

    Paper: Liu, Karbasi & Rekatsinas 2024, "TSDS: Data Selection for Task-Specific Model Finetuning", arXiv 2410.11303.
    """

    params: TsdsParams
    context: RunContext

    def __init__(self, params: TsdsParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._source: EmbeddingSource | None = None
        self._of_source: Mapping[str, Any] = {}
        self._solved: tuple[str, Solution | None] = ("", None)

    def begin(self, model: nn.Module) -> None:
        """With ``embedding_model: initial``, embed pool and eval sets with the model as training begins."""
        self._embeddings().begin(model)

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Find the probability of each row, once for the same embeddings, and draw.

        Raises:
            ConfigError: when there is no eval set, or ``span`` is ``prompt`` in pretraining.
            ComponentError: when no row of the pool or of a target has an embedding, or ``draw: distinct`` has too few
                rows to draw from.
        """
        began, context, params = time.monotonic(), self.context, self.params
        if params.span == "prompt" and context.stage == "pt":
            raise ConfigError("span is prompt, and rows of stage: pt have none. Set component_params.span: all.")
        source = self._embeddings()
        embedded = source.at(model, np.arange(len(self.dataset), dtype=np.int64))
        p, scores, facts = self._probabilities(embedded, source.subtasks())
        rng, needed = context.rng(step_id), per_pass(num_samples, params.passes)
        chosen = rng.permutation(self._draw(p, needed, step_id, rng))  # ascending, stages would see the pool in order
        seconds = {"seconds": time.monotonic() - began}
        if context.rank == 0:
            logger.info(
                "tsds at step %d: %d of %d rows have a probability; %.0f count in effect (%.1f s).",
                *(step_id, facts["support"], len(p), facts["effective"], seconds["seconds"]),
            )
        plan = read_again(chosen, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        return Selection(plan, {**facts, **embedded.metrics, **seconds}, scores)

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

    def _probabilities(self, embedded: Embedded, subtasks: Sequence[Subtask]) -> tuple[Values, Values, Metrics]:
        """Rank 0's probabilities, on every rank, with the scores they are and what is recorded of them."""
        accelerator, decided = self.context.accelerator, None
        with together("solving the transport problem", accelerator):
            if embedded.pool is not None and embedded.targets is not None:
                decided = self._solve(embedded, subtasks)
        p, scores, facts = all_gather(decided, accelerator)[0]
        return p, scores, facts

    def _solve(self, embedded: Embedded, subtasks: Sequence[Subtask]) -> tuple[Values, Values, Metrics]:
        from dataflex_selectors_tsds import kept
        from dataflex_selectors_tsds.solving import solve

        assert embedded.pool is not None
        assert embedded.targets is not None
        known = self._known(embedded.targets, subtasks)
        there = np.asarray(np.isfinite(embedded.pool).all(axis=1))
        if not there.any():
            raise ComponentError(
                f"no row of the pool has an embedding: they have {_WHY[self.params.span]}. Set component_params.span: "
                "all, or look at the data."
            )
        context, (fingerprint, solution) = self.context, self._solved
        file = kept.place(context.cache_dir, embedded.fingerprint, self.params, context.seed)
        if solution is None or fingerprint != embedded.fingerprint:
            solution = kept.read(file, len(there))
            if solution is None:
                device = None if context.accelerator is None else context.accelerator.device
                queries = np.concatenate(known)
                solution = solve(queries, embedded.pool, self.params, lambda: context.rng(0, "density"), device=device)
                kept.write(file, solution)
            self._solved = embedded.fingerprint, solution
            self._warn(solution, int(there.sum()))
        facts: Metrics = {
            "scored": float(there.sum()),
            "without_score": float((~there).sum()),
            "validation": float(sum(map(len, known))),
            "validation_without_score": float(sum(map(len, embedded.targets)) - sum(map(len, known))),
            "support": float(np.count_nonzero(solution.p)),
            "effective": float(1.0 / (solution.p**2).sum()),
            "mean_density": solution.mean_density,
            "duplicates": solution.mean_density - 1.0,
            "stop": solution.stop,
            "neighbours": float(solution.neighbours),
        }
        return solution.p, np.where(there, solution.p, np.nan), facts

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

    def _warn(self, solution: Solution, rows: int) -> None:
        if solution.mean_density > _CROWDED * rows and rows > 1 / _CROWDED:
            logger.warning(
                "each row counts as %.0f of the pool's %d, on average: sigma=%g takes rows for copies that are none. "
                "Lower component_params.sigma.",
                *(solution.mean_density, rows, self.params.sigma),
            )

    def _draw(self, p: Values, count: int, step: int, rng: np.random.Generator) -> Rows:
        if self.params.draw == "systematic":
            return systematic(p, count, rng)
        if self.params.draw == "independent":
            return weighted_with_replacement(p, count, rng)
        support = int(np.count_nonzero(p))
        if support < count:
            raise ComponentError(
                f"draw: distinct needs {count} rows at step {step}, and {support} of {len(p)} have a probability. "
                "Lower component_params.alpha or raise C, so that it is spread wider; raise passes; lower "
                "update_step; or set draw: systematic, which may take a row more than once."
            )
        with np.errstate(divide="ignore"):
            return gumbel_top_k(np.log(p), count, rng)
