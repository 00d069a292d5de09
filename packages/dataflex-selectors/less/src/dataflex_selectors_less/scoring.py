"""The two passes of LESS: mean directions of the validation samples, then each candidate's cosine with them.

The mean over a subtask's samples of cosines is an inner product with the mean of their unit vectors:
``mean_j cos(G_i, g_j) = <G_i, u_s> / |G_i|`` with ``u_s = mean_j g_j / |g_j|``. So only ``u_s`` is kept.

Shapes: B samples of a batch, S subtasks, N rows.
"""

from __future__ import annotations

import time
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
OpenStore = Callable[[bool], ShardStore]
"""From whether rows are measured one by one to where finished scores are kept.

Scores of batches that were given up must not be taken up again.
"""


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


@dataclass(frozen=True)
class Aims:
    """What the validation pass found out, the same on every rank.

    Attributes:
        directions: The subtasks' mean directions.
        lost: Rows whose gradient is not finite: no part of any mean.
        flat: Rows whose gradient is zero: cosines with them are 0, as in the released code.
    """

    directions: Directions
    lost: int
    flat: int


@dataclass(frozen=True)
class Scored:
    """Both passes.

    Attributes:
        aims: Of the validation pass.
        pool: Of the candidate pass.
        validation_seconds: Until the candidate pass that counts began.
        candidate_seconds: Of that pass.
    """

    aims: Aims
    pool: PoolCosines
    validation_seconds: float
    candidate_seconds: float


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

    def score(
        self, subtasks: Sequence[Subtask], rows: Rows, dataset: Any, device: torch.device, open_store: OpenStore
    ) -> Scored:
        """Both passes. Where the second falls back to one row at a time, the first is done again in that way too.

        Args:
            subtasks: What to aim at.
            rows: The candidates.
            dataset: The pool.
            device: Where the directions are kept.
            open_store: Opens the store of a candidate pass.

        Raises:
            ComponentError: on every rank, when one fails or a subtask has no usable sample.
        """
        began, total = time.monotonic(), self.progress.total
        while True:
            self.progress.done, self.progress.total = 0, total
            aims = self.directions(subtasks, device)
            validated = time.monotonic()
            store = open_store(bool(self.engine.reason))
            pool = self.candidates(rows, dataset, aims.directions, store)
            if pool is not None:
                return Scored(aims, pool, validated - began, time.monotonic() - validated)

    def directions(self, subtasks: Sequence[Subtask], device: torch.device) -> Aims:
        """The validation pass. Each batch runs twice: lengths first, so that no gradient has to be kept.

        Raises:
            ComponentError: on every rank, when one fails or a subtask has no usable sample.
        """
        with together("scoring", self.accelerator):
            result, counts_S3 = self._local_directions(subtasks, device)
        counts_S3 = np.sum(all_gather(counts_S3, self.accelerator), axis=0)
        pointing_S, flat_S, lost_S = counts_S3.T
        for subtask, count in zip(subtasks, pointing_S, strict=True):
            if not count:
                raise ComponentError(
                    f"no sample of the eval set {subtask.name!r} has a finite gradient other than zero. Look at its "
                    "answers (cutoff_len may cut them off) and at the training loss: lower the learning rate if the "
                    "model has diverged."
                )
        for vectors_Sn in result.values():
            if self.accelerator is not None and self.accelerator.num_processes > 1:
                vectors_Sn.copy_(self.accelerator.reduce(vectors_Sn, reduction="sum"))
            vectors_Sn /= torch.as_tensor(pointing_S + flat_S, device=device).unsqueeze(1)
        return Aims(result, int(lost_S.sum()), int(flat_S.sum()))

    def candidates(self, rows: Rows, dataset: Any, goals: Directions, store: ShardStore) -> PoolCosines | None:
        """The candidate pass; ``None`` on every rank if it fell back to one row at a time: the goals are not as exact.

        Raises:
            ComponentError: on every rank, when one fails.
        """
        store.resume(rows, self.accelerator)
        done_rows, done = store.done
        self.progress.total -= len(done_rows)
        with together("scoring", self.accelerator):
            found = self._local_candidates(rows, dataset, goals, done_rows, store)
        if found is None:
            return None
        scored_rows, results = found
        subtasks = len(next(iter(goals.values())))
        table = np.full((len(dataset), subtasks + 1), np.nan)
        table[done_rows] = done
        for their_rows, theirs in all_gather((scored_rows, results), self.accelerator):
            table[their_rows] = theirs
        return PoolCosines(table[:, :-1], table[:, -1], len(np.unique(done_rows)))

    def _local_directions(
        self, subtasks: Sequence[Subtask], device: torch.device
    ) -> tuple[Directions, npt.NDArray[np.int64]]:
        """Sums of unit gradients, and by subtask how many rows point somewhere, are flat and are lost."""
        done = self.progress.done

        def body() -> tuple[Directions, npt.NDArray[np.int64]]:
            self.progress.done = done
            result = empty_directions(self.sizes, len(subtasks), device)
            counts_S3 = np.zeros((len(subtasks), 3), np.int64)
            for index, subtask in enumerate(subtasks):
                norms, adding = NormSink(), DirectionSink(result, index)
                norm_sink, adding_sink = self._projected(norms), self._projected(adding)
                loader = self.make_loader(subtask.dataset, subtask.rows, self.engine.max_batch, subtask.rows[:0])
                for rows, batch in loader:
                    if not len(rows):
                        continue
                    losses = self.engine.feed(batch, norm_sink, loader.alone(rows))
                    has_targets, finite = losses.counts_B > 0, norms.squares_B.isfinite()
                    points = has_targets & finite & (norms.squares_B > 0)
                    adding.weights_B = torch.where(points, norms.squares_B.rsqrt(), 0.0)
                    self.engine.feed(batch, adding_sink)
                    kinds = (points, has_targets & norms.squares_B.eq(0), has_targets & ~finite)
                    counts_S3[index] += [int(kind.sum()) for kind in kinds]
                    self.progress.advance(len(rows))
            return result, counts_S3

        return self.engine.attempt(body)

    def _local_candidates(
        self, rows: Rows, dataset: Any, goals: Directions, skipped: Rows, store: ShardStore
    ) -> tuple[Rows, npt.NDArray[np.float64]] | None:
        done = self.progress.done

        def body() -> tuple[Rows, npt.NDArray[np.float64]]:
            self.progress.done = done
            scores = ScoreSink(goals)
            sink = self._preconditioned(self._projected(scores))
            found: list[tuple[Rows, npt.NDArray[np.float64]]] = []
            loader = self.make_loader(dataset, rows, self.engine.max_batch, skipped)
            for batch_rows, batch in loader:
                if not len(batch_rows):
                    continue
                counts_B = self.engine.feed(batch, sink, loader.alone(batch_rows)).counts_B
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

        return self.engine.attempt_once(body)

    def _projected(self, sink: GradientSink) -> GradientSink:
        return ProjectingSink(sink, self.projection) if self.projection is not None else sink

    def _preconditioned(self, sink: GradientSink) -> GradientSink:
        kind = self.params.preconditioner
        return PreconditioningSink(sink, self.moments, kind) if kind != "sgd" and self.moments else sink
