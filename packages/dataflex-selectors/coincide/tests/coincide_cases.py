"""Selectors by hand, and what the rules of dataflex 1.1.0 gave; importable by a spawned process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from embedded_pools import pad, pool, tiny_qwen
from gloo import joined

from dataflex.testing import make_context
from dataflex_selectors_coincide.params import CoincideParams
from dataflex_selectors_coincide.selector import CoincideSelector

Values = npt.NDArray[np.float64]


def at(*degrees: float) -> Values:
    """Unit vectors at these angles."""
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


GROUPS = (at(0, 10, 20), at(80, 82, 84, 86), at(150), at(14, 16))


def centres_of(groups: Any = GROUPS) -> Values:
    """Mean directions."""
    sums = np.stack([group.sum(axis=0) for group in groups])
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True))


def rivals_shares() -> tuple[list[float], list[float]]:
    """Wrong: copies among the centres count, pairs of a row with itself do not, kernel exp(-d^2), temperature 1.

    Returns:
        Similarity with other centres, and shares.
    """
    cosines = centres_of() @ centres_of().T
    others = [np.delete(row, place).mean() for place, row in enumerate(cosines)]
    dense = []
    for group in GROUPS:
        kernel = np.exp(-((group[:, None] - group) ** 2).sum(axis=2))
        count = len(group)
        dense.append((kernel.sum() - count) / (count * (count - 1)) if count > 1 else 1.0)
    weights = np.exp(np.array(others) / np.array(dense))
    return [float(each) for each in others], (weights / weights.sum()).tolist()


def selector(folder: Path, **more: Any) -> CoincideSelector:
    facts = {
        name: more.pop(name) for name in ("accelerator", "seed", "dataset", "stage", "scores_only") if name in more
    }
    context = make_context(facts.pop("dataset", pool()), pad, cache_dir=folder, **facts)
    return CoincideSelector(CoincideParams(**{"num_clusters": 6, **more}), context)


def select_on_a_rank(rank: int, world_size: int, folder: str) -> None:
    """Three boundaries on one of several ranks; then one in which rank 0 fails."""
    with joined(rank, world_size, folder) as accelerator:
        model = tiny_qwen()
        subject = selector(Path(folder, "c"), accelerator=accelerator)
        subject.begin(model)
        for step in (4, 8, 12):
            found = subject.select(model, step, 25)
            np.save(Path(folder, f"{step}-{rank}.npy"), np.asarray(found.rows))
            np.save(Path(folder, f"{step}-{rank}-scores.npy"), found.scores)
        np.save(Path(folder, f"{rank}-served.npy"), subject.state_dict()["served"])
        try:
            subject.select(model, 16, 61)
        except Exception as error:
            Path(folder, f"error{rank}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
