"""Validation samples made of several rows: the gradient of a weighted sum of the rows' losses counts as one.

    rows of group 0 ──feed(weights_B, reduction="sum")──> SumSink ──as of one sample──> the sink of the lengths
    rows of group 1 ──...                                        └──────────────────> the sink of the directions

Each row is run once: only the sum is kept, one number for each parameter.

Shapes: N rows, B rows of a batch, C of them in one piece, n numbers of one parameter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.passes import Subtask
from dataflex.data.scoring_loader import ScoringLoader
from dataflex.gradients.engine import GradientEngine
from dataflex.gradients.sink import GradientSink


@dataclass(frozen=True)
class GroupedSubtask(Subtask):
    """Validation samples each of which is a group of rows. Its gradient is ``sum_r w_r grad(sum of r's token losses)``.

    Attributes:
        groups: By entry of ``rows``, the group that the row belongs to.
        weights: Likewise, the row's weight, of either sign.
    """

    groups: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if not len(self.rows) == len(self.groups) == len(self.weights):
            raise ValueError(f"{len(self.rows)} rows, {len(self.groups)} groups and {len(self.weights)} weights")

    @property
    def members(self) -> list[npt.NDArray[np.int64]]:
        """By group, the places of its rows in ``rows``."""
        return [np.flatnonzero(self.groups == group) for group in np.unique(self.groups)]

    @property
    def described(self) -> str:
        """Groups and weights as text, for what is kept of them."""
        return f"{self.groups.tolist()} {self.weights.tolist()}"


class SumSink:
    """Adds the gradients of all batches since :meth:`restart` up."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}

    def restart(self) -> None:
        """Start from zero, in the memory there is."""
        for sum_n in self.sums.values():
            sum_n.zero_()

    def begin(self, samples: int, device: torch.device) -> None:
        """Batches add up."""

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        """Add one part."""
        total_n = grads_Cn.sum(dim=0)
        if name in self.sums:
            self.sums[name] += total_n
        else:
            self.sums[name] = total_n

    def finish(self) -> None:
        """Nothing is left to do."""

    def hand_to(self, sink: GradientSink, device: torch.device) -> None:
        """Give the sums to another sink, as the gradient of one sample."""
        sink.begin(1, device)
        for name, sum_n in self.sums.items():
            sink.take(name, slice(0, 1), sum_n[None].clone())
        sink.finish()


def summed(
    engine: GradientEngine, sink: SumSink, subtask: GroupedSubtask, loaders: Sequence[ScoringLoader]
) -> Iterator[bool]:
    """After each group of this rank its sum is in the sink. Only inside ``engine.attempt``.

    Args:
        engine: Gives the gradients.
        sink: Receives them.
        subtask: The groups.
        loaders: Of each group of this rank, its rows.

    Yields:
        By group, whether any of its rows has a target token.
    """
    weights = dict(zip(subtask.rows.tolist(), subtask.weights.tolist(), strict=True))
    for loader in loaders:
        sink.restart()
        has_targets = False
        for rows, batch in loader:
            weights_B = torch.tensor([weights[row] for row in rows.tolist()], dtype=torch.float64)
            losses = engine.feed(batch, sink, loader.alone(rows), weights_B=weights_B, reduction="sum")
            has_targets = has_targets or bool(losses.counts_B.any())
        yield has_targets
