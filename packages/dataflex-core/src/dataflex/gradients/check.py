"""Whether the gradients that a batch gives its rows are those the rows have alone.

    batch ──> Beside(sink, Sketch) ─┐
    row 1 alone ──────> Sketch ─────┼──> difference() > limit: one row at a time from here on
    row 2 alone ──────> Sketch ─────┘

A sketch is a gradient's length and 16 seeded random projections of it, added up while the gradient streams by. The
projections are those of one sparse sign matrix: each coordinate belongs to one of them. So the squared difference of
two sketches is the squared difference of the gradients in expectation, and a difference in a single coordinate is seen
in full.

Shapes: B samples of a batch, C of them in one piece, k looked at, n numbers of one parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from dataflex.gradients.sink import GradientSink
from dataflex.math.projection import SparseProjection

PROJECTIONS = 16
_SEED = 17
_SMALL = 1e-3  # rows whose gradient is shorter than this share of the longest one looked at: rounding, of no account

LIMITS = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}
"""Largest difference, as a share of the gradient's length, that counts as rounding.

Of fourteen small models that are exact in batches, the largest seen is 9e-7 in fp32, 3e-3 in fp16 and 9e-3 in bf16; a
row that is given another's gradient differs by about 1 (``test_no_model_that_is_exact_in_batches_falls_back``).
"""


class Sketch:
    """A sink that keeps the length and :data:`PROJECTIONS` projections of the gradients of some samples.

    Args:
        places: Which samples of a batch, ascending.
    """

    def __init__(self, places: Sequence[int]) -> None:
        self._places = {place: column for column, place in enumerate(places)}
        self._projection = SparseProjection(PROJECTIONS, _SEED, nonzeros=1)

    def begin(self, samples: int, device: torch.device) -> None:
        """Start from zero."""
        count = len(self._places)
        self.squares_k = torch.zeros(count, dtype=torch.float64, device=device)
        self.projections_k = torch.zeros(PROJECTIONS, count, device=device)

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        """Add one part; it is only read."""
        inside = [place for place in self._places if samples.start <= place < samples.stop]
        if not inside:
            return
        chosen_kn = grads_Cn[[place - samples.start for place in inside]]
        columns = [self._places[place] for place in inside]
        self.squares_k[columns] += torch.linalg.vecdot(chosen_kn, chosen_kn)
        result = torch.zeros(PROJECTIONS, len(inside), device=grads_Cn.device)
        self._projection.add_(result, name, chosen_kn)
        self.projections_k[:, columns] += result

    def finish(self) -> None:
        """Nothing is left to do."""


class Beside:
    """Hands gradients to a sketch and then to another sink, which may overwrite them."""

    def __init__(self, sink: GradientSink, sketch: Sketch) -> None:
        self._sink, self._sketch = sink, sketch

    def begin(self, samples: int, device: torch.device) -> None:
        """The sink has begun already."""
        self._sketch.begin(samples, device)

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        """Pass on, twice."""
        self._sketch.take(name, samples, grads_Cn)
        self._sink.take(name, samples, grads_Cn)

    def finish(self) -> None:
        """The sink is told by whoever told it to begin."""


def difference(batched: Sketch, alone: Sequence[Sketch]) -> float:
    """Largest difference of a gradient, as a share of its length.

    Args:
        batched: The samples looked at, from their batch.
        alone: Each of them, from a batch of its own.

    Returns:
        0 for equal ones; infinite where one is finite and the other is not.
    """
    squares_k = torch.cat([sketch.squares_k for sketch in alone])
    projections_k = torch.cat([sketch.projections_k for sketch in alone], dim=1)
    finite_k = squares_k.isfinite()
    if not torch.equal(finite_k, batched.squares_k.isfinite()):
        return float("inf")
    if not bool(finite_k.any()):
        return 0.0
    lengths, others = squares_k[finite_k].sqrt(), batched.squares_k[finite_k].sqrt()
    unit = lengths.clamp(min=_SMALL * float(lengths.max()))
    if float(lengths.max()) == 0:
        return float("inf") if float(others.max()) > 0 else 0.0
    off = (batched.projections_k - projections_k)[:, finite_k].double().norm(dim=0)
    return float((torch.maximum(off, (others - lengths).abs()) / unit).max())


def precision(model: nn.Module, accelerator: Any) -> str:
    """The coarsest arithmetic of a pass: a name in :data:`LIMITS`."""
    mixed = str(getattr(accelerator, "mixed_precision", None) or "no")
    if mixed not in ("no", "fp16"):
        return "bf16"  # or 8 bits
    kinds = {value.dtype for value in model.parameters() if value.is_floating_point()}
    if torch.bfloat16 in kinds:
        return "bf16"
    if mixed == "fp16" or torch.float16 in kinds or _coarse_products():
        return "fp16"
    return "fp32"


def _coarse_products() -> bool:
    """Whether fp32 matrices are multiplied with half precision's mantissa (TF32), by torch's new or old setting."""
    places = (torch.backends, torch.backends.cuda.matmul)
    if any(getattr(place, "fp32_precision", "none") in ("tf32", "bf16") for place in places):
        return True
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # only the new setting has been used, and it says nothing of matrices
        return False
