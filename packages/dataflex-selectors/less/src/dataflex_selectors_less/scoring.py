"""The two passes of LESS: mean directions of the validation samples, then each candidate's cosine with them.

The mean over a subtask's samples of cosines is an inner product with the mean of their unit vectors:
``mean_j cos(G_i, g_j) = <G_i, u_s> / |G_i|`` with ``u_s = mean_j g_j / |g_j|``. So only ``u_s`` is kept.

Shapes: B samples of a batch, S subtasks, N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dataflex.data.scoring_loader import ScoringLoader
from dataflex.distributed import all_gather, together
from dataflex.errors import ComponentError
from dataflex.gradients.engine import GradientEngine
from dataflex.gradients.moments import AdamMoments
from dataflex.gradients.sink import GradientSink
from dataflex.math.projection import SparseProjection
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.shards import ShardStore
from dataflex_selectors_less.params import LessParams
from dataflex_selectors_less.preconditioning import PreconditioningSink
from dataflex_selectors_less.sinks import (
    PROJECTED,
    Directions,
    DirectionSink,
    NormSink,
    ProjectingSink,
    ScoreSink,
    empty_directions,
)
from dataflex_selectors_less.subtasks import Subtask

Rows = npt.NDArray[np.int64]
MakeLoader = Callable[[Any, Rows, int | None, Rows], ScoringLoader]
"""From (dataset, rows, most rows of a batch, rows to leave out) to this rank's loader."""


@dataclass(frozen=True)
class PoolCosines:
    """What the candidate pass found out, the same on every rank.

    Attributes:
        cosines: Mean cosine with each subtask's validation samples, fp64, shape [pool, S]; NaN where a row was not
            scored, has no target token, or its gradient is zero or not finite.
        targets: Target tokens of each row, shape [pool]; NaN where a row was not scored.
        resumed: Rows whose scores an interrupted pass had left.
    """

    cosines: npt.NDArray[np.float64]
    targets: npt.NDArray[np.float64]
    resumed: int


class LessScorer:
    """Runs both passes on this rank's share and puts the results of all ranks together.

    Args:
        engine: Gives the gradients.
        params: The component's parameters.
        make_loader: Makes the loaders.
        moments: Adam's moments by parameter; empty without preconditioning.
        accelerator: The run's accelerator, or ``None``.
        seed: Of the projection.
        progress: Told of every batch.
    """

    def __init__(
        self,
        engine: GradientEngine,
        params: LessParams,
        make_loader: MakeLoader,
        *,
        moments: dict[str, AdamMoments],
        accelerator: Any,
        seed: int,
        progress: ScoringProgress,
    ) -> None:
        self.engine, self.params, self.make_loader = engine, params, make_loader
        self.moments, self.accelerator, self.progress = moments, accelerator, progress
        projects = params.projection == "sjlt"
        self.projection = SparseProjection(params.proj_dim, seed) if projects else None

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of each part of what gradients are compared by."""
        if self.projection is not None:
            return {PROJECTED: self.projection.width}
        return {name: parameter.numel() for name, parameter in self.engine.coverage.parameters.items()}

    def directions(self, subtasks: Sequence[Subtask], device: torch.device) -> Directions:
        """The validation pass. Each batch runs twice: lengths first, so that no gradient has to be kept.

        Raises:
            ComponentError: on every rank, when one fails or a subtask has no usable sample.
        """
        with together("scoring", self.accelerator):
            result, counts_S = self._local_directions(subtasks, device)
        counts_S = np.sum(all_gather(counts_S, self.accelerator), axis=0)
        for subtask, count in zip(subtasks, counts_S, strict=True):
            if not count:
                raise ComponentError(
                    f"no sample of the eval set {subtask.name!r} has a finite gradient other than zero. Look at its "
                    "answers (cutoff_len may cut them off) and at the training loss."
                )
        for vectors_Sn in result.values():
            if self.accelerator is not None and self.accelerator.num_processes > 1:
                vectors_Sn.copy_(self.accelerator.reduce(vectors_Sn, reduction="sum"))
            vectors_Sn /= torch.as_tensor(counts_S, device=device).unsqueeze(1)
        return result

    def candidates(self, rows: Rows, pool_size: int, dataset: Any, goals: Directions, store: ShardStore) -> PoolCosines:
        """The candidate pass.

        Raises:
            ComponentError: on every rank, when one fails.
        """
        store.resume(rows, self.accelerator)
        done_rows, done = store.done
        self.progress.total -= len(done_rows)
        with together("scoring", self.accelerator):
            scored_rows, results = self._local_candidates(rows, dataset, goals, done_rows, store)
        subtasks = len(next(iter(goals.values())))
        table = np.full((pool_size, subtasks + 1), np.nan)
        table[done_rows] = done
        for their_rows, theirs in all_gather((scored_rows, results), self.accelerator):
            table[their_rows] = theirs
        return PoolCosines(table[:, :-1], table[:, -1], len(np.unique(done_rows)))

    def _local_directions(
        self, subtasks: Sequence[Subtask], device: torch.device
    ) -> tuple[Directions, npt.NDArray[np.int64]]:
        done = self.progress.done

        def body() -> tuple[Directions, npt.NDArray[np.int64]]:
            self.progress.done = done
            result = empty_directions(self.sizes, len(subtasks), device)
            counts_S = np.zeros(len(subtasks), np.int64)
            for index, subtask in enumerate(subtasks):
                norms, adding = NormSink(), DirectionSink(result, index)
                norm_sink, adding_sink = self._projected(norms), self._projected(adding)
                loader = self.make_loader(subtask.dataset, subtask.rows, self.engine.max_batch, subtask.rows[:0])
                for rows, batch in loader:
                    if not len(rows):
                        continue
                    losses = self.engine.feed(batch, norm_sink)
                    usable = (losses.counts_B > 0) & norms.squares_B.isfinite() & (norms.squares_B > 0)
                    adding.weights_B = torch.where(usable, norms.squares_B.rsqrt(), 0.0)
                    self.engine.feed(batch, adding_sink)
                    counts_S[index] += int(usable.sum())
                    self.progress.advance(len(rows))
            return result, counts_S

        return self.engine.attempt(body)

    def _local_candidates(
        self, rows: Rows, dataset: Any, goals: Directions, skipped: Rows, store: ShardStore
    ) -> tuple[Rows, npt.NDArray[np.float64]]:
        done = self.progress.done

        def body() -> tuple[Rows, npt.NDArray[np.float64]]:
            self.progress.done = done
            scores = ScoreSink(goals)
            sink = self._preconditioned(self._projected(scores))
            found: list[tuple[Rows, npt.NDArray[np.float64]]] = []
            for batch_rows, batch in self.make_loader(dataset, rows, self.engine.max_batch, skipped):
                if not len(batch_rows):
                    continue
                counts_B = self.engine.feed(batch, sink).counts_B
                cosines_BS = scores.cosines_BS.masked_fill(counts_B.eq(0).unsqueeze(1), torch.nan)
                result = torch.cat([cosines_BS, counts_B.unsqueeze(1).double()], dim=1).cpu().numpy()
                found.append((batch_rows, result))
                store.add(batch_rows, result)
                self.progress.advance(len(batch_rows))
            store.flush()
            empty = np.zeros((0, len(next(iter(goals.values()))) + 1))
            return (
                np.concatenate([np.zeros(0, np.int64), *(batch_rows for batch_rows, _ in found)]),
                np.concatenate([empty, *(result for _, result in found)]),
            )

        return self.engine.attempt(body)

    def _projected(self, sink: GradientSink) -> GradientSink:
        return ProjectingSink(sink, self.projection) if self.projection is not None else sink

    def _preconditioned(self, sink: GradientSink) -> GradientSink:
        kind = self.params.preconditioner
        return PreconditioningSink(sink, self.moments, kind) if kind != "sgd" and self.moments else sink
