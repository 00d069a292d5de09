"""The selectors ``near`` and ``rds``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import ComponentError, ConfigError, RunContext, Selection, Selector
from dataflex.components.context import logger
from dataflex.distributed import all_gather, together
from dataflex.math.draws import by_score, with_share
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex.scoring.candidates import check_enough, draw_candidates
from dataflex_selectors_near.params import NearParams

if TYPE_CHECKING:
    from torch import nn

    from dataflex.components.passes import Subtask
    from dataflex.scoring.embedding_source import Embedded, EmbeddingSource
    from dataflex_selectors_near.choosing import Choice

Rows = npt.NDArray[np.int64]
Metrics = dict[str, float | list[float]]

_WHY = {"all": "no token", "prompt": "no token of a prompt", "answer": "no token with a label"}


class NearSelector(Selector):
    """Prefer rows whose embedding lies near those of the eval set.

    With ``aggregate: round_robin`` the rows of the eval sets take turns, each choosing its nearest row of the pool that
    none has chosen, and the next boundary goes on with the next one's turn. ``mean`` and ``max`` rank by the mean and
    the highest cosine.

    Sources: round robin over queries as in arXiv 2602.14696; embeddings and the mean over queries as RDS+ (Ivison et
    al. 2025, "Large-Scale Data Selection for Instruction Tuning", arXiv 2503.01807).
    """

    params: NearParams
    context: RunContext

    def __init__(self, params: NearParams, context: RunContext) -> None:
        super().__init__(params, context)
        self._source: EmbeddingSource | None = None
        self._of_source: Mapping[str, Any] = {}
        self._turn = 0
        self._chosen = np.zeros(len(self.dataset), np.bool_)

    def begin(self, model: nn.Module) -> None:
        """With ``embedding_model: initial``, embed pool and eval sets with the model as training begins."""
        self._embeddings().begin(model)

    def select(self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any) -> Selection:
        """Compare the candidates with the eval sets and choose among them.

        Raises:
            ConfigError: when there are fewer candidates than samples to draw, or no eval set.
            ComponentError: when too few candidates have an embedding, or no row of a target has one.
        """
        began, context, params = time.monotonic(), self.context, self.params
        if params.span == "prompt" and context.stage == "pt":
            raise ConfigError("span is prompt, and rows of stage: pt have none. Set component_params.span: all.")
        rng, size = context.rng(step_id), len(self.dataset)
        rows = draw_candidates(size, params.max_candidates, rng, log=context.rank == 0)
        needed = per_pass(num_samples, params.passes)
        check_enough(len(rows), num_samples, step_id, pool_size=size, limit=params.max_candidates, passes=params.passes)
        source = self._embeddings()
        embedded = source.at(model, rows)
        choice, metrics = self._choose(embedded, source.subtasks(), needed, step_id)
        chosen = rng.permutation(rows[choice.places])  # ranked, every part of the stage would see another mix
        chosen = with_share(chosen, rows, needed, context.rng(step_id, "share"))
        self._remember(rows, choice)
        scores = np.full(size, np.nan)
        scores[rows] = choice.scores
        metrics = {**metrics, **embedded.metrics, "seconds": time.monotonic() - began}
        if context.rank == 0:
            logger.info(
                "embedded and compared %d rows with %d of the eval sets in %.1f s.",
                len(rows),
                metrics["validation"],
                metrics["seconds"],
            )
        plan = read_again(chosen, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
        return Selection(plan, metrics, scores)

    def scoring_cost(self, model: nn.Module) -> RowCost:
        """A forward pass of some tokens and layers, of pool and eval sets: at each boundary, or once."""
        return self._embeddings().cost(model, self.params.max_candidates)

    def state_dict(self) -> dict[str, Any]:
        """Whose turn it is, which rows were chosen (as bits), and which embeddings this run uses."""
        of_source = self._of_source if self._source is None else self._source.state_dict()
        return {**of_source, "turn": self._turn, "chosen": np.packbits(self._chosen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self._of_source = {name: value for name, value in state.items() if name not in ("turn", "chosen")}
        if self._source is not None:
            self._source.load_state_dict(self._of_source)
        self._turn = int(state["turn"])
        bits = np.asarray(state["chosen"], np.uint8)
        self._chosen = np.unpackbits(bits, count=len(self.dataset)).astype(np.bool_)

    def _embeddings(self) -> EmbeddingSource:
        if self._source is None:
            from dataflex.scoring.embedding_source import EmbeddingSource

            self._source = EmbeddingSource(self.params, self.context, who="A nearest row")
            self._source.load_state_dict(self._of_source)
        return self._source

    def _choose(
        self, embedded: Embedded, subtasks: Sequence[Subtask], needed: int, step: int
    ) -> tuple[Choice, Metrics]:
        """Rank 0's choice, on every rank: the embeddings are on rank 0 alone."""
        accelerator, decided = self.context.accelerator, None
        with together("choosing the nearest rows", accelerator):
            if embedded.pool is not None and embedded.targets is not None:
                decided = self._nearest(embedded, subtasks, needed, step)
        answer: tuple[Choice, Metrics] = all_gather(decided, accelerator)[0]
        return answer

    def _nearest(
        self, embedded: Embedded, subtasks: Sequence[Subtask], needed: int, step: int
    ) -> tuple[Choice, Metrics]:
        from dataflex_selectors_near.choosing import Turns, choose

        assert embedded.pool is not None
        assert embedded.targets is not None
        why, params = _WHY[self.params.span], self.params
        known = [each[np.isfinite(each).all(axis=1)] for each in embedded.targets]
        for subtask, queries in zip(subtasks, known, strict=True):
            if not len(queries):
                raise ComponentError(
                    f"none of the {len(subtask.rows)} rows of the eval set {subtask.name!r} has an embedding: they "
                    f"have {why}. Set component_params.span: all, or look at the data."
                )
        usable = int(np.isfinite(embedded.pool).all(axis=1).sum())
        if usable < needed:
            raise ComponentError(
                f"only {usable} of {len(embedded.rows)} candidates at step {step} have an embedding and {needed} are "
                f"needed: {len(embedded.rows) - usable} have {why}. Set component_params.span: all, look at the data, "
                "or lower update_step."
            )
        queries, turns = np.concatenate(known), Turns([len(each) for each in known])
        free = np.ones(len(embedded.rows), np.bool_) if params.repeat_rows else ~self._chosen[embedded.rows]
        accelerator = self.context.accelerator
        choice = choose(
            queries,
            turns,
            embedded.pool,
            params.aggregate,
            by_score(needed, params.share),
            free,
            turn=self._turn,
            device=None if accelerator is None else accelerator.device,
        )
        finite = choice.scores[np.isfinite(choice.scores)]
        metrics: Metrics = {
            "scored": float(usable),
            "without_score": float(len(embedded.rows) - usable),
            "validation": float(len(queries)),
            "validation_without_score": float(sum(map(len, embedded.targets)) - len(queries)),
            "free": float(free.sum()),
            "score_quantiles": np.quantile(finite, [0, 0.25, 0.5, 0.75, 1]).tolist(),
        }
        if choice.fetched:
            metrics["neighbours"] = float(choice.fetched)
        if len(known) > 1 and len(choice.places):
            metrics["subtask_shares"] = _shares(known, embedded.pool[choice.places])
        if params.max_candidates is not None:
            metrics["max_candidates"] = float(params.max_candidates)
        return choice, metrics

    def _remember(self, rows: Rows, choice: Choice) -> None:
        if self.params.aggregate == "round_robin":
            self._turn = choice.turn
        if choice.began_again:
            self._chosen[rows] = False
        self._chosen[rows[choice.again]] = True


def _shares(targets: Sequence[npt.NDArray[Any]], chosen: npt.NDArray[Any]) -> list[float]:
    """The part of the chosen rows that lie nearest to each target."""
    best = np.stack([(chosen.astype(np.float32) @ each.astype(np.float32).T).max(axis=1) for each in targets])
    shares: list[float] = (np.bincount(best.argmax(axis=0), minlength=len(targets)) / len(chosen)).tolist()
    return shares
