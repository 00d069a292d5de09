"""The order of samples within a global batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dataflex.rng import key_seed

_BLOCK = 1 << 18  # samples shuffled at once: bounds the memory


def permute_global_batches(
    rows: npt.NDArray[np.int64], global_batch: int, seed: int, first_step: int
) -> npt.NDArray[np.int64]:
    """Shuffle every global batch of a plan within itself.

    A plan alternates between domains and ranks take turns within a batch: unshuffled, proportions of a half would
    give each of two ranks one domain for ever. Which samples belong to which step does not change.

    Args:
        rows: The plan, over all ranks; shape ``[steps * global_batch]``.
        global_batch: Samples per optimizer step over all ranks.
        seed: The run's seed.
        first_step: Optimizer step of the first batch: the order of a batch is a function of (seed, step) alone.

    Returns:
        The plan in its new order, same shape.

    Raises:
        ValueError: if the plan is not a whole number of batches.
    """
    if global_batch < 1 or len(rows) % global_batch:
        raise ValueError(f"{len(rows)} rows are not a whole number of batches of {global_batch}")
    batches = rows.reshape(-1, global_batch)
    shuffled = np.empty_like(batches)
    key = np.uint64(key_seed("order within a global batch", seed))
    at_once = max(1, _BLOCK // global_batch)
    for start in range(0, len(batches), at_once):
        block = batches[start : start + at_once]
        steps = np.arange(first_step + start, first_step + start + len(block), dtype=np.uint64)
        # No two of a batch are equal (the mixing is a bijection), so an unstable sort, twice as fast, has one answer.
        noise = _mix(np.add.outer(_mix(steps + key), np.arange(global_batch, dtype=np.uint64)))
        shuffled[start : start + at_once] = np.take_along_axis(block, np.argsort(noise, axis=1), axis=1)
    return shuffled.reshape(-1)


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Random bits as a function of a counter (SplitMix64: Steele et al. 2014).

    A generator for each batch would take a minute for ten million batches.
    """
    mixed = values * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
