"""The rows a scoring pass looks at: all of the pool, or a fresh random part of it at each boundary."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

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
