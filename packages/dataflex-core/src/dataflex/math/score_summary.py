"""What is kept of the scores of a pool: a record's worth of numbers, whatever the size of the pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Levels of the quantiles."""

BINS = 30
"""Bins of the histogram, of equal width from the lowest to the highest finite score."""


def score_summary(
    scores: npt.NDArray[np.floating[Any]], chosen: npt.NDArray[np.int64]
) -> dict[str, float | list[float]]:
    """Summarise the scores of a pool.

    Args:
        scores: Score of every row, shape ``[pool]``; NaN where a row was not scored.
        chosen: Rows that were chosen, shape ``[n]``; a row counts as often as it is named.

    Returns:
        ``finite``, ``nan`` and ``infinite`` (counts), and unless nothing is finite: ``mean``, ``std``, ``levels`` with
        ``quantiles`` and ``chosen_quantiles`` at them, ``histogram_range`` ([lowest, highest]) with
        ``histogram_counts`` and ``chosen_histogram_counts`` in :data:`BINS` bins of equal width.
    """
    values = np.asarray(scores, np.float64)
    infinite, nan = int(np.isinf(values).sum()), int(np.isnan(values).sum())
    summary: dict[str, float | list[float]] = {"finite": len(values) - infinite - nan, "nan": nan, "infinite": infinite}
    finite = values[np.isfinite(values)]
    if not len(finite):
        return summary
    limits = (float(finite.min()), float(finite.max()))
    summary |= {
        "mean": float(finite.mean()),
        "std": float(finite.std()),
        "levels": list(LEVELS),
        "quantiles": np.quantile(finite, LEVELS).tolist(),
        "histogram_range": list(limits),
        "histogram_counts": _histogram(finite, limits),
    }
    picked = values[chosen]
    picked = picked[np.isfinite(picked)]
    if len(picked):
        summary["chosen_quantiles"] = np.quantile(picked, LEVELS).tolist()
        summary["chosen_histogram_counts"] = _histogram(picked, limits)
    return summary


def _histogram(values: npt.NDArray[np.float64], limits: tuple[float, float]) -> list[float]:
    counts, _ = np.histogram(values, bins=BINS, range=limits)
    return [int(count) for count in counts]


def malformed(summary: Mapping[str, Any]) -> str:
    """Why a stored summary is malformed; ``""`` if it is not."""
    lengths = {"levels": len(LEVELS), "quantiles": len(LEVELS), "histogram_range": 2, "histogram_counts": BINS}
    if not lengths.keys() & summary.keys():
        return ""
    chosen = {"chosen_quantiles": len(LEVELS), "chosen_histogram_counts": BINS}
    for name, length in (lengths | {name: each for name, each in chosen.items() if name in summary}).items():
        values = summary.get(name)
        if not isinstance(values, list) or len(values) != length or not all(map(math.isfinite, values)):
            return f"{name!r} is not a list of {length} finite numbers"
    return ""
