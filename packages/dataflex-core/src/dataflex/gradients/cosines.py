"""Cosines between the gradients of the pool's rows and those of validation samples, streamed: none is stored.

    directions   eval sets --> the mean of each one's unit gradients, added over ranks
    candidates   rows of the pool --> their cosines with the directions, kept on disk as they finish

The mean over an aim's samples of cosines is an inner product with the mean of their unit vectors:
``mean_j cos(G_i, g_j) = <G_i, u_s> / |G_i|`` with ``u_s = mean_j g_j / |g_j|``. So only ``u_s`` is kept.

Shapes: S aims, N rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.components.context import RunContext
from dataflex.components.passes import Aim, GradientScores
from dataflex.data.fingerprint import contents
from dataflex.distributed import all_gather, together
from dataflex.errors import ComponentError
from dataflex.gradients.coverage import Scope
from dataflex.gradients.measuring import Measuring
from dataflex.gradients.preconditioning import AdamSteps
from dataflex.gradients.sink import GradientSink
from dataflex.gradients.sinks import (
    PROJECTED,
    Directions,
    DirectionSink,
    NormSink,
    ProjectingSink,
    ScoreSink,
    empty_directions,
)
from dataflex.math.projection import SparseProjection
from dataflex.rng import rng_scope
from dataflex.scoring.passes import SHARD_SECONDS, open_store, valid_rows
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.shards import ShardStore


@dataclass(frozen=True)
class AimFacts:
    """What the validation pass found out, the same on every rank.

    Attributes:
        directions: The aims' mean directions.
        lost: Samples whose gradient is not finite: no part of any mean.
        flat: Samples whose gradient is zero: cosines with them are 0.
    """

    directions: Directions
    lost: int
    flat: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Cosines(GradientScores):
    """Cosines of rows of the pool: ``values`` has shape ``[pool, S]``, for one aim too.

    Attributes:
        aims: What the validation pass found out.
        validation_seconds: Until the candidate pass that counts began.
        preconditioned: Whether candidates were compared by Adam's steps.
    """

    aims: AimFacts
    validation_seconds: float
    preconditioned: bool


class CosineScorer:
    """Compares rows of the pool with validation samples. A component keeps one for the whole run.

    Args:
        context: The run.
        parameters: Whose gradients: of all trainable parameters, or of linear layers only.
        token_budget: Padded tokens of one batch; ``None`` for what suits the device.
        projection: Width of a sparse random projection, for directions that do not fit into memory; ``None`` compares
            gradients whole.
        who: The component's name, for messages.

    Example:
        >>> scorer = CosineScorer(self.context, who="mine")
        >>> aims = [Aim(name, data, np.arange(len(data))) for name, data in self.context.eval_datasets.items()]
        >>> scorer.at(model).score(aims, rows).values.max(axis=1)
    """

    def __init__(
        self,
        context: RunContext,
        *,
        parameters: Literal["all", "linear"] = "all",
        token_budget: int | None = None,
        projection: int | None = None,
        who: str,
    ) -> None:
        self.context, self._parameters, self._token_budget, self._who = context, Scope(parameters), token_budget, who
        self._projection = None if projection is None else SparseProjection(projection, context.seed)
        self._told: set[str] = set()

    def at(self, model: nn.Module) -> Comparison:
        """Look at the model as it is now.

        Raises:
            ConfigError: when its parameters are spread over ranks.
            ComponentError: when no parameter is left to measure.
        """
        measuring = Measuring(
            self.context, model, self._parameters, token_budget=self._token_budget, told=self._told, who=self._who
        )
        return Comparison(measuring, self._projection)


class Comparison:
    """Runs both passes on this rank's share and puts the results of all ranks together.

    Args:
        measuring: The gradients.
        projection: What they are projected with, or ``None``.
    """

    def __init__(self, measuring: Measuring, projection: SparseProjection | None) -> None:
        self._measuring, self._projection, self._context = measuring, projection, measuring.context

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The parameters whose gradients are compared, by name."""
        return self._measuring.coverage.parameters

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of each part of what is compared; directions take 4 bytes x aims x their sum on every rank."""
        if self._projection is not None:
            return {PROJECTED: self._projection.width}
        return {name: parameter.numel() for name, parameter in self.parameters.items()}

    def score(
        self,
        aims: Sequence[Aim],
        rows: npt.ArrayLike,
        *,
        steps: AdamSteps | None = None,
        key: Any = None,
        settings: Mapping[str, Any] | None = None,
        shard_seconds: float = SHARD_SECONDS,
    ) -> Cosines:
        """Both passes. Where the second falls back to one row at a time, the first is done again in that way too.

        Args:
            aims: What to compare with.
            rows: Rows of the pool, the same on every rank.
            steps: Compare by the steps that Adam would take for the rows; ``None`` by their gradients.
            key: As of ``context.score``: names the component's pass, and what is kept under it is replaced.
            settings: JSON values on which the cosines depend beside weights, rows, aims and steps.
            shard_seconds: How often finished cosines are written; 0 never.

        Raises:
            ComponentError: on every rank, when one fails, an aim has no usable sample, or the model is trained with
                another loss.
        """
        measuring, context = self._measuring, self._context
        with rng_scope(devices=True):
            chosen = valid_rows(context, rows)
            measuring.check_objective(chosen)
            began, total = time.monotonic(), len(chosen) + sum(len(aim.rows) for aim in aims)
            goals: list[str] = []  # fingerprints of the aims, which scoring reads anyway

            def store() -> ShardStore | None:
                if key is None or not shard_seconds:
                    return None
                goals.extend([] if goals else (f"{aim.name} {contents(aim.dataset, aim.rows)}" for aim in aims))
                one_by_one = bool(measuring.engine.reason)  # scores of batches that were given up must not be taken up
                depends = {**(settings or {}), "pass": "cosines", "seed": context.seed, "one_by_one": one_by_one}
                others = () if steps is None else steps.described()
                return open_store(
                    context,
                    measuring.model,
                    chosen,
                    len(aims) + 1,
                    key,
                    settings=depends,
                    data=goals,
                    others=others,
                    seconds=shard_seconds,
                )

            with ScoringProgress(total, enabled=context.rank == 0, share=context.world_size) as progress:
                while True:
                    progress.done, progress.total = 0, total
                    facts = self.directions(aims, progress)
                    validated, kept = time.monotonic(), store()
                    scores = ScoreSink(facts.directions)
                    found = measuring.scores(
                        chosen,
                        self._stepped(self._projected(scores), steps),
                        scores,
                        progress,
                        kept,
                    )
                    if found is not None:
                        break
            if kept is not None and context.rank == 0:
                kept.drop_others()
        measuring.note_what_is_left_out()
        table, resumed = found
        cosines, targets, ended = table[:, :-1], table[:, -1], time.monotonic()
        broken = ~np.isfinite(cosines[chosen]).all(axis=1) & (targets[chosen] > 0)
        unique = len(np.unique(resumed))
        return Cosines(
            values=cosines,
            targets=targets,
            seconds=ended - began,
            rows_per_second=(len(chosen) - unique) / max(ended - validated, 1e-9),
            resumed=unique,
            non_finite=int(broken.sum()),
            size=measuring.coverage.size,
            excluded=measuring.coverage.excluded,
            one_by_one=measuring.engine.reason,
            aims=facts,
            validation_seconds=validated - began,
            preconditioned=steps is not None,
        )

    def directions(self, aims: Sequence[Aim], progress: ScoringProgress) -> AimFacts:
        """The validation pass. Each batch runs twice: lengths first, so that no gradient has to be kept.

        Raises:
            ComponentError: on every rank, when one fails or an aim has no usable sample.
        """
        accelerator, device = self._context.accelerator, self._measuring.device
        with together("scoring", accelerator):
            result, counts_S3 = self._local_directions(aims, device, progress)
        counts_S3 = np.sum(all_gather(counts_S3, accelerator), axis=0)
        pointing_S, flat_S, lost_S = counts_S3.T
        for aim, count in zip(aims, pointing_S, strict=True):
            if not count:
                raise ComponentError(
                    f"no sample of the eval set {aim.name!r} has a finite gradient other than zero. Look at its "
                    "answers (cutoff_len may cut them off) and at the training loss."
                )
        for vectors_Sn in result.values():
            if accelerator is not None and accelerator.num_processes > 1:
                vectors_Sn.copy_(accelerator.reduce(vectors_Sn, reduction="sum"))
            vectors_Sn /= torch.as_tensor(pointing_S + flat_S, device=device).unsqueeze(1)
        return AimFacts(result, int(lost_S.sum()), int(flat_S.sum()))

    def _local_directions(
        self, aims: Sequence[Aim], device: torch.device, progress: ScoringProgress
    ) -> tuple[Directions, npt.NDArray[np.int64]]:
        """Sums of unit gradients, and by aim how many samples point somewhere, are flat and are lost."""
        engine, before = self._measuring.engine, progress.done

        def body() -> tuple[Directions, npt.NDArray[np.int64]]:
            progress.done = before
            result = empty_directions(self.sizes, len(aims), device)
            counts_S3 = np.zeros((len(aims), 3), np.int64)
            for index, aim in enumerate(aims):
                norms, adding = NormSink(), DirectionSink(result, index)
                norm_sink, adding_sink = self._projected(norms), self._projected(adding)
                loader = self._measuring.loader(aim.dataset, aim.rows, aim.rows[:0])
                for rows, batch in loader:
                    if not len(rows):
                        continue
                    losses = engine.feed(batch, norm_sink, loader.alone(rows))
                    has_targets, finite = losses.counts_B > 0, norms.squares_B.isfinite()
                    points = has_targets & finite & (norms.squares_B > 0)
                    adding.weights_B = torch.where(points, norms.squares_B.rsqrt(), 0.0)
                    engine.feed(batch, adding_sink)
                    kinds = (points, has_targets & norms.squares_B.eq(0), has_targets & ~finite)
                    counts_S3[index] += [int(kind.sum()) for kind in kinds]
                    progress.advance(len(rows))
            return result, counts_S3

        return engine.attempt(body)

    def _projected(self, sink: GradientSink) -> GradientSink:
        return sink if self._projection is None else ProjectingSink(sink, self._projection)

    def _stepped(self, sink: GradientSink, steps: AdamSteps | None) -> GradientSink:
        return sink if steps is None else steps.before(sink)
