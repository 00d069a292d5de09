"""The selectors ``near`` and ``rds``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dataflex import Candidates, ComponentError, ConfigError, RunContext, Selection, Selector
from dataflex.components.context import logger
from dataflex.distributed import all_gather, together
from dataflex.math.draws import by_score, with_share
from dataflex.math.rereading import per_pass, read_again
from dataflex.math.selection_cost import RowCost
from dataflex.scoring.candidates import check_enough, draw_candidates, draw_of_groups, places_in_groups
from dataflex_selectors_near.params import NearParams

if TYPE_CHECKING:
    from torch import nn

    from dataflex.components.passes import Subtask
    from dataflex.scoring.embedding_source import Embedded, EmbeddingSource
    from dataflex_selectors_near.choosing import Choice

Rows = npt.NDArray[np.int64]
Groups = Sequence[tuple[Rows, int]]
"""Places of the rows of each domain among the candidates, and how many to choose of them."""

Metrics = dict[str, float | list[float]]

_WHY = {"all": "no token", "prompt": "no token of a prompt", "answer": "no token with a label"}


class NearSelector(Selector):
    """Prefer rows whose embedding lies near those of the eval set.

    With ``aggregate: round_robin`` the rows of the eval sets take turns, each choosing its nearest row of the pool that
    none has chosen, and the next boundary goes on with the next one's turn. ``mean`` and ``max`` rank by the mean and
    the highest cosine. Beside a mixer pool and eval sets are embedded once, and the turns go on from domain to domain.

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

    def select(
        self,
        model: nn.Module,
        step_id: int,
        num_samples: int,
        candidates: Candidates | None = None,
        **kwargs: Any,
    ) -> Selection:
        """Compare the candidates with the eval sets and choose among them, within each domain beside a mixer.

        Raises:
            ConfigError: when there are fewer candidates than samples to draw, or no eval set.
            ComponentError: when too few candidates have an embedding, or no row of a target has one.
        """
        began, context, params = time.monotonic(), self.context, self.params
        if params.span == "prompt" and context.stage == "pt":
            raise ConfigError("span is prompt, and rows of stage: pt have none. Set component_params.span: all.")
        rng, size, limit = context.rng(step_id), len(self.dataset), params.max_candidates
        if candidates is None:
            rows = draw_candidates(size, limit, rng, log=context.rank == 0)
            check_enough(len(rows), num_samples, step_id, pool_size=size, limit=limit, passes=params.passes)
        else:
            rows = np.sort(draw_of_groups(candidates, limit, rng))
        groups = places_in_groups(candidates, rows, per_pass(num_samples, params.passes))
        source = self._embeddings()
        embedded = source.at(model, rows)
        choices, metrics = self._choose(embedded, source.subtasks(), groups, step_id)
        scores, chosen, by_chance = np.full(size, np.nan), [], context.rng(step_id, "share")
        for (places, count), choice in zip(groups, choices, strict=True):
            own = rows[places]
            best = rng.permutation(own[choice.places])  # ranked, every part of the stage would see another mix
            chosen.append(with_share(best, own, count, by_chance))
            self._remember(own, choice)
            scores[own] = choice.scores
        metrics = {**metrics, **embedded.metrics, "seconds": time.monotonic() - began}
        if context.rank == 0:
            logger.info(
                "embedded and compared %d rows with %d of the eval sets in %.1f s.",
                len(rows),
                metrics["validation"],
                metrics["seconds"],
            )
        drawn = np.concatenate(chosen)
        plan = read_again(drawn, num_samples, params.passes, lambda number: context.rng(step_id, "pass", number))
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
        self, embedded: Embedded, subtasks: Sequence[Subtask], groups: Groups, step: int
    ) -> tuple[list[Choice], Metrics]:
        """Rank 0's choices, on every rank: the embeddings are on rank 0 alone."""
        accelerator, decided = self.context.accelerator, None
        with together("choosing the nearest rows", accelerator):
            if embedded.pool is not None and embedded.targets is not None:
                decided = self._nearest(embedded, subtasks, groups, step)
        answer: tuple[list[Choice], Metrics] = all_gather(decided, accelerator)[0]
        return answer

    def _nearest(
        self, embedded: Embedded, subtasks: Sequence[Subtask], groups: Groups, step: int
    ) -> tuple[list[Choice], Metrics]:
        from dataflex_selectors_near.choosing import Turns, choose

        assert embedded.pool is not None
        assert embedded.targets is not None
        pool, params, accelerator = embedded.pool, self.params, self.context.accelerator
        known = [each[np.isfinite(each).all(axis=1)] for each in embedded.targets]
        for subtask, queries in zip(subtasks, known, strict=True):
            if not len(queries):
                raise ComponentError(
                    f"none of the {len(subtask.rows)} rows of the eval set {subtask.name!r} has an embedding: they "
                    f"have {_WHY[params.span]}. Set component_params.span: all, or look at the data."
                )
        there, whose = np.asarray(np.isfinite(pool).all(axis=1)), " of a domain" if len(groups) > 1 else ""
        for places, count in groups:
            self._check_usable(int(there[places].sum()), len(places), count, step, whose)
        queries, turns = np.concatenate(known), Turns([len(each) for each in known])
        free = np.ones(len(pool), np.bool_) if params.repeat_rows else ~self._chosen[embedded.rows]
        choices: list[Choice] = []
        for places, count in groups:
            choice = choose(
                queries,
                turns,
                pool if len(places) == len(pool) else pool[places],
                params.aggregate,
                by_score(count, params.share),
                free[places],
                turn=choices[-1].turn if choices else self._turn,
                device=None if accelerator is None else accelerator.device,
            )
            choices.append(choice)
        return choices, self._metrics(embedded, known, groups, choices, there, free)

    def _check_usable(self, usable: int, size: int, needed: int, step: int, whose: str) -> None:
        if usable < needed:
            raise ComponentError(
                f"only {usable} of {size} candidates{whose} at step {step} have an embedding and {needed} are needed: "
                f"{size - usable} have {_WHY[self.params.span]}. Set component_params.span: all, look at the data, or "
                "lower update_step."
            )

    def _metrics(
        self,
        embedded: Embedded,
        known: Sequence[npt.NDArray[Any]],
        groups: Groups,
        choices: Sequence[Choice],
        there: npt.NDArray[np.bool_],
        free: npt.NDArray[np.bool_],
    ) -> Metrics:
        assert embedded.pool is not None
        assert embedded.targets is not None
        scores = np.concatenate([choice.scores for choice in choices])
        queries, usable, fetched = sum(map(len, known)), int(there.sum()), max(choice.fetched for choice in choices)
        metrics: Metrics = {
            "scored": float(usable),
            "without_score": float(len(there) - usable),
            "validation": float(queries),
            "validation_without_score": float(sum(map(len, embedded.targets)) - queries),
            "free": float(free.sum()),
            "score_quantiles": np.quantile(scores[np.isfinite(scores)], [0, 0.25, 0.5, 0.75, 1]).tolist(),
        }
        if fetched:
            metrics["neighbours"] = float(fetched)
        picked = np.concatenate([places[choice.places] for (places, _), choice in zip(groups, choices, strict=True)])
        if len(known) > 1 and len(picked):
            metrics["subtask_shares"] = _shares(known, embedded.pool[picked])
        if self.params.max_candidates is not None:
            metrics["max_candidates"] = float(self.params.max_candidates)
        return metrics

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
