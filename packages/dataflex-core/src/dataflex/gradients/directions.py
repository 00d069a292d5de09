"""The validation pass: eval sets --> the mean direction of each one's gradients, added over ranks.

Shapes: B samples of a batch, S subtasks, n numbers of one part of a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dataflex.components.passes import Subtask
from dataflex.distributed import all_gather, together
from dataflex.errors import ComponentError
from dataflex.gradients.grouped import GroupedSubtask, SumSink, summed
from dataflex.gradients.linear_adam import LinearAdam
from dataflex.gradients.measuring import Measuring
from dataflex.gradients.sink import GradientSink
from dataflex.gradients.sinks import (
    PROJECTED,
    Directions,
    DirectionSink,
    NormSink,
    ProjectingSink,
    UnheardSink,
    empty_directions,
)
from dataflex.math.projection import SparseProjection
from dataflex.scoring.progress import ScoringProgress


@dataclass(frozen=True)
class Validation:
    """What the validation pass found out, the same on every rank.

    Attributes:
        directions: The subtasks' mean directions.
        lost: Samples whose gradient is not finite: no part of any mean.
        flat: Samples whose gradient is zero: cosines with them are 0.
    """

    directions: Directions
    lost: int
    flat: int


class ValidationPass:
    """Runs this rank's share of the validation samples and adds up what all ranks found.

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
        """Numbers of each part of what is compared; directions take 4 bytes x subtasks x their sum on every rank."""
        if self._projection is not None:
            return {PROJECTED: self._projection.width}
        return {name: parameter.numel() for name, parameter in self.parameters.items()}

    def run(
        self, subtasks: Sequence[Subtask], progress: ScoringProgress, linear: LinearAdam | None = None
    ) -> Validation:
        """The validation pass. Each batch runs twice: lengths first, so that no gradient has to be kept.

        Args:
            subtasks: Of what.
            progress: Told of every batch.
            linear: Makes each direction ``u`` its ``P u``.

        Raises:
            ComponentError: on every rank, when one fails or a subtask has no usable sample.
        """
        accelerator, device = self._context.accelerator, self._measuring.device
        with together("scoring", accelerator):
            result, counts_S3 = self._local_directions(subtasks, device, progress, linear)
        counts_S3 = np.sum(all_gather(counts_S3, accelerator), axis=0)
        pointing_S, flat_S, lost_S = counts_S3.T
        for subtask, count in zip(subtasks, pointing_S, strict=True):
            if not count:
                raise ComponentError(
                    f"no sample of the eval set {subtask.name!r} has a finite gradient other than zero. Look at its "
                    "answers (cutoff_len may cut them off) and at the training loss: lower the learning rate if the "
                    "model has diverged."
                )
        for vectors_Sn in result.values():
            if accelerator is not None and accelerator.num_processes > 1:
                vectors_Sn.copy_(accelerator.reduce(vectors_Sn, reduction="sum"))
            vectors_Sn /= torch.as_tensor(pointing_S + flat_S, device=device).unsqueeze(1)
        if linear is not None and self._projection is None:
            linear.apply_(result)
        return Validation(result, int(lost_S.sum()), int(flat_S.sum()))

    def _local_directions(
        self,
        subtasks: Sequence[Subtask],
        device: torch.device,
        progress: ScoringProgress,
        linear: LinearAdam | None,
    ) -> tuple[Directions, npt.NDArray[np.int64]]:
        """Sums of unit gradients, and by subtask how many samples point somewhere, are flat and are lost."""
        engine, before, unit = self._measuring.engine, progress.done, SumSink()

        def body() -> tuple[Directions, npt.NDArray[np.int64]]:
            progress.done = before
            result = empty_directions(self.sizes, len(subtasks), device)
            counts_S3 = np.zeros((len(subtasks), 3), np.int64)
            for index, subtask in enumerate(subtasks):
                norms, adding = NormSink(), DirectionSink(result, index)
                norm_sink, adding_sink = self.projected(norms), self.projected(adding)
                if linear is not None and self._projection is not None:  # P counts before, and only once, elsewhere
                    adding_sink = linear.before(adding_sink)
                if isinstance(subtask, GroupedSubtask):
                    loaders = self._measuring.group_loaders(subtask.dataset, [subtask.rows[m] for m in subtask.members])
                    for loader, has_target in zip(loaders, summed(engine, unit, subtask, loaders), strict=True):
                        unit.hand_to(norm_sink, device)
                        points = self._weigh(norms, adding, torch.tensor([has_target], device=device), counts_S3[index])
                        if bool(points.any()):
                            unit.hand_to(adding_sink, device)
                        progress.advance(loader.num_rows)
                    continue
                loader = self._measuring.loader(subtask.dataset, subtask.rows, subtask.rows[:0])
                beside = self._measuring.beside(loader)
                for place, (rows, batch) in enumerate(loader):
                    most = beside[place] if beside else 0
                    if not len(rows):
                        if beside:  # its forwards are awaited
                            engine.feed(batch, UnheardSink(), beside=most)
                            engine.feed(batch, UnheardSink())
                        continue
                    losses = engine.feed(batch, norm_sink, loader.alone(rows), beside=most)
                    self._weigh(norms, adding, losses.counts_B > 0, counts_S3[index])
                    engine.feed(batch, adding_sink)
                    progress.advance(len(rows))
            return result, counts_S3

        return engine.attempt(body)

    def _weigh(
        self, norms: NormSink, adding: DirectionSink, has_targets_B: torch.Tensor, counts_3: npt.NDArray[np.int64]
    ) -> torch.Tensor:
        """Weigh samples by their gradients' lengths, count them by kind, and tell which point somewhere."""
        finite_B = norms.squares_B.isfinite()
        points_B = has_targets_B & finite_B & (norms.squares_B > 0)
        adding.weights_B = torch.where(points_B, norms.squares_B.rsqrt(), 0.0)
        kinds = (points_B, has_targets_B & norms.squares_B.eq(0), has_targets_B & ~finite_B)
        counts_3 += [int(kind.sum()) for kind in kinds]
        return points_B

    def projected(self, sink: GradientSink) -> GradientSink:
        """A sink that is handed projected gradients, if any are."""
        return sink if self._projection is None else ProjectingSink(sink, self._projection)
