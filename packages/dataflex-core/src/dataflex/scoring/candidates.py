"""The rows a scoring pass looks at: all of the pool, or a fresh random part of it at each boundary."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from dataflex.components.candidates import Candidates
from dataflex.errors import ConfigError
from dataflex.math.rereading import per_pass

logger = logging.getLogger("dataflex")


def draw_candidates(
    pool_size: int, limit: int | None, rng: np.random.Generator, *, log: bool = False
) -> npt.NDArray[np.int64]:
    """Rows to score, ascending.

    Args:
        pool_size: Rows of the pool.
        limit: The component's ``max_candidates``; ``None`` or the pool's size and above takes all, and draws nothing.
        rng: Source of the draw.
        log: Say how many of how many.
    """
    if limit is None or limit >= pool_size:
        return np.arange(pool_size, dtype=np.int64)
    if log:
        logger.info("max_candidates: scoring a fresh random %d of %d rows.", limit, pool_size)
    return np.sort(rng.choice(pool_size, size=limit, replace=False, shuffle=False)).astype(np.int64)


def draw_of_groups(candidates: Candidates, limit: int | None, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows to score of those groups that rows are needed of, group after group.

    Args:
        candidates: The groups.
        limit: The component's ``max_candidates``, shared among the groups by size; each keeps at least as many as are
            to be chosen from it.
        rng: Source of the draw.
    """
    needed = [(rows, count) for rows, count in zip(candidates.rows, candidates.counts, strict=True) if count]
    size = sum(len(rows) for rows, _ in needed)
    drawn = []
    for rows, count in needed:
        most = None if limit is None else max(count, round(limit * len(rows) / size))
        drawn.append(rows[draw_candidates(len(rows), most, rng)])
    return np.concatenate([*drawn, np.zeros(0, np.int64)])


def places_in_groups(
    candidates: Candidates | None, rows: npt.NDArray[np.int64], num_samples: int
) -> list[tuple[npt.NDArray[np.int64], int]]:
    """Which of some rows are of each group, as places among them, and how many to choose from these.

    Args:
        candidates: The groups; ``None`` for one of all rows.
        rows: Rows of the pool.
        num_samples: How many to choose from the only group.
    """
    if candidates is None:
        return [(np.arange(len(rows)), num_samples)]
    groups = zip(candidates.rows, candidates.counts, strict=True)
    return [(np.flatnonzero(np.isin(rows, own)), count) for own, count in groups if count]


def check_enough(
    candidates: int,
    num_samples: int,
    step: int,
    *,
    pool_size: int,
    limit: int | None,
    passes: int = 1,
    advice: str = "",
) -> None:
    """Refuse a boundary that has to draw more rows than there are candidates.

    Args:
        candidates: Rows that can be drawn.
        num_samples: Rows of the stage.
        step: The boundary.
        pool_size: Rows of the pool.
        limit: The component's ``max_candidates``.
        passes: How often each row drawn is read in the stage: so many times fewer are drawn, none twice.
        advice: What else can be done, after "... or the batch size".

    Raises:
        ConfigError: saying what to change.
    """
    needed = per_pass(num_samples, passes)
    if candidates >= needed:
        return
    capped = limit is not None and limit < pool_size
    source = f"max_candidates={limit} of a pool of {pool_size}" if capped else "the whole pool"
    again = f" (passes={passes} of a stage of {num_samples})" if passes > 1 else ""
    raise ConfigError(
        f"the boundary at step {step} draws {needed} samples without replacement{again}, but there are {candidates} "
        f"candidates ({source}). {'Raise component_params.max_candidates, lower' if capped else 'Lower'} "
        f"update_step or the batch size{advice}."
    )
