"""Embeddings of rows: what a model's hidden layers make of them, one unit vector a row.

Shapes: n rows, d numbers of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from dataflex.components.context import RunContext

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpec:
    model: str = "run"
    layers: tuple[int, ...] = (-1,)
    site: Literal["block", "attention"] = "block"
    pooling: Literal["mean", "weighted_mean", "last"] = "weighted_mean"
    span: Literal["all", "prompt", "answer"] = "all"
    tokens: int | None = None
    squash: Literal["none", "tanh", "tanh_of_mean"] = "none"
    modalities: Literal["joint", "split"] = "joint"
    center: bool = True
    width: int | None = None


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Rows of length 1.

    Attributes:
        rows: The rows, ascending, shape [n].
        values: fp16, shape [n, d], on rank 0; ``None`` on the other ranks. NaN for a row without a token in the span.
        mean: What was subtracted, shape [d]; ``None`` where nothing was.
        fingerprint: Of all that they depend on.
        seconds: What making them took, whoever did.
        cpu_seconds: Likewise, over all ranks.
        found: Whether they lay ready on disk.
    """

    rows: Rows
    values: npt.NDArray[np.float16] | None
    mean: npt.NDArray[np.float32] | None
    fingerprint: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    found: bool = False


def embed(
    model: nn.Module | None,
    dataset: Any,
    rows: npt.ArrayLike,
    spec: EmbeddingSpec,
    context: RunContext,
    *,
    token_budget: int | None = None,
    mean: npt.NDArray[np.float32] | None = None,
    folder: Path | None = None,
) -> Embeddings:
    raise NotImplementedError


class EmbeddingSource:
    """Where a component's embeddings come from: ``run``, ``initial`` or a path. See scoring/embedding_source.py."""
