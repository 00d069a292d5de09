"""What core hands to components as ``context.passes``: passes over the pool for scores, losses and gradients."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from dataflex.components.context import RunContext
from dataflex.components.passes import GradientScores, PoolLosses, PreferenceScores, RowSink, Scored, ScoreFn
from dataflex.errors import ComponentError
from dataflex.gradients.coverage import Scope
from dataflex.gradients.measuring import Measuring, logger
from dataflex.rng import rng_scope
from dataflex.scoring.passes import open_store, row_losses, score_rows, valid_rows
from dataflex.scoring.preferences import row_preferences
from dataflex.scoring.progress import ScoringProgress


class PoolPasses:
    """Makes the passes of one component's run; remembers what has been checked and what the log has said."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._checked: set[str] = set()

    def score(
        self,
        context: RunContext,
        model: nn.Module,
        rows: npt.ArrayLike,
        fn: ScoreFn,
        *,
        width: int = 1,
        token_budget: int | None = None,
        max_batch: int | None = None,
        key: Any = None,
        what: str = "scored",
    ) -> Scored:
        """See :meth:`dataflex.RunContext.score`."""
        return score_rows(
            context,
            model,
            rows,
            fn,
            width=width,
            token_budget=token_budget,
            max_batch=max_batch,
            key=key,
            what=what,
        )

    def losses(
        self,
        context: RunContext,
        model: nn.Module,
        rows: npt.ArrayLike,
        *,
        token_budget: int | None = None,
        key: Any = None,
    ) -> PoolLosses:
        """See :meth:`dataflex.RunContext.losses`."""
        return row_losses(context, model, rows, token_budget=token_budget, key=key, checked=self._checked)

    def preferences(
        self,
        context: RunContext,
        model: nn.Module,
        rows: npt.ArrayLike,
        *,
        token_budget: int | None = None,
        key: Any = None,
    ) -> PreferenceScores:
        """See :meth:`dataflex.RunContext.preferences`."""
        return row_preferences(context, model, rows, token_budget=token_budget, key=key)

    def gradients(
        self,
        context: RunContext,
        model: nn.Module,
        rows: npt.ArrayLike,
        sink: RowSink,
        *,
        parameters: Literal["all", "linear"] = "all",
        key: Any = None,
    ) -> GradientScores:
        """See :meth:`dataflex.RunContext.gradients`."""
        if not sink.width and key is not None:
            raise ComponentError(
                "context.gradients was given a key and a sink of width 0, which adds up over rows: after an "
                "interruption it would miss the rows that were finished before. Leave the key out."
            )
        began = time.monotonic()
        with rng_scope(devices=True):
            chosen = valid_rows(context, rows)
            measuring = Measuring(context, model, Scope(parameters), told=self._told, who="context.gradients")
            measuring.check_objective(chosen)
            with ScoringProgress(len(chosen), enabled=context.rank == 0, share=context.world_size) as progress:
                found = None
                while found is None:
                    progress.done, progress.total = 0, len(chosen)
                    settings = {"pass": "gradients", "parameters": parameters}
                    settings["one_by_one"] = str(bool(measuring.engine.reason))
                    store = open_store(context, model, chosen, sink.width + 1, key, settings=settings)
                    found = measuring.scores(chosen, sink, sink, progress, store)
            if store is not None and context.rank == 0:
                store.drop_others()
        measuring.note_what_is_left_out()
        table, resumed = found
        values, targets = table[:, :-1], table[:, -1]
        broken = int((~np.isfinite(values[chosen]).all(axis=1) & (targets[chosen] > 0)).sum())
        without = int((targets[chosen] == 0).sum())
        seconds, unique = time.monotonic() - began, len(np.unique(resumed))
        rate = (len(chosen) - unique) / max(seconds, 1e-9)
        if context.rank == 0:
            logger.info("measured gradients of %d rows in %.1f s (%.1f rows/s).", len(chosen), seconds, rate)
            if broken or without:
                logger.warning(
                    "%d rows have no finite score of their gradient and %d no target token.", broken, without
                )
        return GradientScores(
            values=values[:, 0] if sink.width == 1 else values,
            targets=targets,
            seconds=seconds,
            rows_per_second=rate,
            resumed=unique,
            non_finite=broken,
            size=measuring.coverage.size,
            excluded=measuring.coverage.excluded,
            one_by_one=measuring.engine.reason,
        )
