"""From an orderer to the order of a queue: what the single form and a composed run share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dataflex.components.asking import Asking
from dataflex.math.ordering import Floats, Order, Whole, by_ranks, permutation_of, window_shuffle

logger = logging.getLogger("dataflex")

Rng = Callable[..., np.random.Generator]
"""From names of a stream to its generator: ``lambda *names: context.rng(0, *names)``."""

_PATTERN = "ranks"


def order_of(
    asking: Asking,
    rng_of: Rng,
    *,
    rows: Whole | None = None,
    params: Mapping[str, Any] | None = None,
    available: Callable[[], Mapping[str, Any]] = dict,
) -> Order:
    """Make what :class:`dataflex.mixing.ordered_rows.OrderedRows` asks of a component, for one queue.

    A :class:`dataflex.Pattern` says its ranks once for a pass; after m rows ``ranks[m:]`` are given to the rows left.
    Another orderer is asked again for the rows that are left, with the same generator.

    Args:
        asking: The orderer.
        rng_of: Gives the generators of (seed, "order", pass). In a composed run, those of the domain's own context.
        rows: Rows of the pool that the queue's places stand for; ``None`` where they are the pool's.
        params: Its parameters by name; ``window`` counts here, ``direction`` where rows are ranked.
        available: What else ``order`` may name: ``model``, ``step_id``, ``domain``.

    Returns:
        What puts the rows of a pass in order; it raises ComponentError for an answer that is no permutation.
    """
    given = params or {}
    window = int(given.get("window") or 1)

    def shuffled(length: int, number: int) -> Whole:
        return window_shuffle(length, window, rng_of("order", number, "window"))

    def by_pattern(number: int, length: int, served: int, left: Whole, scores: Floats) -> Whole:
        answer = asking.call(_PATTERN, n=length, rng=rng_of("order", number))
        sigma = permutation_of(answer, np.arange(length, dtype=np.int64), f"its {_PATTERN}()")
        return by_ranks(left, sigma[shuffled(length, number)][served:])

    def by_order(number: int, length: int, served: int, left: Whole, scores: Floats) -> Whole:
        in_queue = np.argsort(left)
        places, known = left[in_queue], scores[in_queue]
        own = places if rows is None else rows[places]
        answer = asking.call("order", rows=own.copy(), scores=known, rng=rng_of("order", number), **available())
        order = permutation_of(answer, own, "its order()")
        ordered = np.empty_like(places)
        ordered[np.argsort(order, kind="stable")] = places[np.argsort(own, kind="stable")]
        return ordered[shuffled(len(ordered), number)]

    return by_pattern if asking.defines(_PATTERN) else by_order


def warn_of_window(window: int, global_batch: int) -> None:
    """Say that a window changes next to nothing, where the rows of one queue fill all global batches."""
    if 1 < window < 2 * global_batch:
        logger.warning(
            "window=%d is below two global batches of %d, each of which is shuffled within itself anyway: it "
            "changes little, and nothing where it divides the batch.",
            window,
            global_batch,
        )
