"""Sinks that keep norms, mean directions and inner products of gradients. Nothing of size [samples, parameters].

Shapes: B samples of a batch, C of them in one piece, n numbers of one part of a gradient, S subtasks, d projected
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dataflex.gradients.sink import GradientSink
from dataflex.math.projection import SparseProjection

PROJECTED = "projected"
"""The one part of a projected gradient."""

Directions = dict[str, torch.Tensor]
"""By part, the subtasks' directions u_s, each of shape [S, n]."""


class NormSink:
    """The length of each sample's gradient: ``squares_B`` after each batch, in fp64."""

    def begin(self, samples: int, device: torch.device) -> None:
        """Start from zero."""
        self.squares_B = torch.zeros(samples, dtype=torch.float64, device=device)

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        """Add one part."""
        self.squares_B[samples] += torch.linalg.vecdot(grads_Cn, grads_Cn)

    def finish(self) -> None:
        """Nothing is left to do."""


class UnheardSink:
    """Drops what it is given: for passes that a rank runs because others do."""

    def begin(self, samples: int, device: torch.device) -> None:
        """Nothing is kept."""

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        """Drop it."""

    def finish(self) -> None:
        """Nothing was kept."""


class DirectionSink:
    """Adds each sample's gradient, times its entry of ``weights_B``, to the direction of one subtask.

    Args:
        directions: What to add to.
        subtask: Index of the subtask.
    """

    def __init__(self, directions: Directions, subtask: int) -> None:
        self.directions, self.subtask = directions, subtask
        self.weights_B = torch.zeros(0)

    def begin(self, samples: int, device: torch.device) -> None:
        """Batches are independent."""

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        """Add one part."""
        weights_C = self.weights_B[samples].to(grads_Cn.dtype)
        used = weights_C > 0  # a gradient that is not finite has weight 0, and 0 times NaN is NaN
        self.directions[name][self.subtask] += weights_C[used] @ grads_Cn[used]

    def finish(self) -> None:
        """Nothing is left to do."""


class ScoreSink(NormSink):
    """Inner products with all subtasks' directions, and lengths: ``dots_BS`` and ``squares_B`` after each batch."""

    def __init__(self, directions: Directions) -> None:
        self.directions = directions
        self.width = len(next(iter(directions.values())))

    def restart(self) -> None:
        """Batches are independent."""

    def begin(self, samples: int, device: torch.device) -> None:
        """Start from zero."""
        super().begin(samples, device)
        self.dots_BS = torch.zeros(samples, self.width, dtype=torch.float64, device=device)

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        """Add one part."""
        super().take(name, samples, grads_Cn)
        self.dots_BS[samples] += grads_Cn @ self.directions[name].T

    @property
    def cosines_BS(self) -> torch.Tensor:
        """Mean cosine with the validation samples of each subtask; NaN for a gradient without a length in fp32."""
        lengths_B = torch.where(self.squares_B.isfinite() & (self.squares_B > 0), self.squares_B.sqrt(), torch.nan)
        return self.dots_BS / lengths_B.unsqueeze(1)

    def scores(self) -> torch.Tensor:
        """The cosines, shape [B, S]."""
        return self.cosines_BS


class ProjectingSink:
    """Hands projected gradients to another sink, as one part named :data:`PROJECTED`."""

    def __init__(self, inner: GradientSink, projection: SparseProjection) -> None:
        self._inner, self._projection = inner, projection

    def begin(self, samples: int, device: torch.device) -> None:
        """Start from zero."""
        self._inner.begin(samples, device)
        self._result_dB = torch.zeros(self._projection.width, samples, device=device)

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        """Add the projection of one part."""
        self._projection.add_(self._result_dB[:, samples], name, grads_Cn)

    def finish(self) -> None:
        """Hand over what was added up."""
        self._inner.take(PROJECTED, slice(0, self._result_dB.shape[1]), self._result_dB.T.contiguous())
        self._inner.finish()


def empty_directions(sizes: Mapping[str, int], subtasks: int, device: torch.device) -> Directions:
    """Directions of length zero for parts of the given sizes."""
    return {name: torch.zeros(subtasks, size, device=device) for name, size in sizes.items()}
