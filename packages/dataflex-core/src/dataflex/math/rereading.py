"""Reading a few rows several times in one stage: how many are chosen, and in which order they come.

A selector with ``passes`` chooses ⌈k/passes⌉ rows for a stage of k and reads them ``passes`` times. LESS's users train
so: 5% of the pool, four epochs (Xia et al. 2024, arXiv 2402.04333).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt


def per_pass(num_samples: int, passes: int) -> int:
    """Rows to choose for a stage: ``num_samples / passes``, rounded up.

    Raises:
        ValueError: if ``passes`` is below 1.
    """
    if passes < 1:
        raise ValueError(f"rows cannot be read {passes} times")
    return -(-num_samples // passes)


def read_again(
    rows: npt.ArrayLike, num_samples: int, passes: int, rng_of: Callable[[int], np.random.Generator]
) -> npt.NDArray[np.int64]:
    """The rows of a stage: those chosen, ``passes`` times over, each time in a new order; the last pass may be cut.

    A row that was chosen once comes once in each pass.

    Args:
        rows: Those chosen, shape ``[per_pass(num_samples, passes)]``.
        num_samples: Rows of the stage.
        passes: How often the chosen rows are read; 1 leaves them, and their order, as they are.
        rng_of: Gives the generator of a pass; passes are counted from 1. A selector gives
            ``lambda number: context.rng(step, "pass", number)``.

    Returns:
        Row indices, shape ``[num_samples]``.

    Raises:
        ValueError: if another number of rows was chosen.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    needed = per_pass(num_samples, passes)
    if chosen.shape != (needed,):
        raise ValueError(f"{needed} rows read {passes} times fill a stage of {num_samples}, not {list(chosen.shape)}")
    if passes == 1:
        return chosen
    orders = [rng_of(number).permutation(chosen) for number in range(1, passes + 1)]
    return np.concatenate(orders)[:num_samples]
