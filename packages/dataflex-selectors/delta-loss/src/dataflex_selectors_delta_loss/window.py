"""The window that moves over rows ranked by how far their losses have fallen.

Shapes: N rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dataflex.math.draws import by_score
from dataflex.math.topk import top_k

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """What a boundary draws by.

    Attributes:
        log_weights: 0 inside, the log of the weight outside for other known rows, -inf for a row that is not known;
            shape [N].
        inside: Places of the rows in the window, the largest drop first.
        start: The rank the window begins at.
        known: Rows with a drop.
        improved: Rows whose loss did not rise.
    """

    log_weights: Values
    inside: npt.NDArray[np.int64]
    start: int
    known: int
    improved: int


def progress(boundary: int, boundaries: int, steepness: float) -> float:
    """Where the window stands between the first rows (0) and the last (1): a sigmoid brought to exactly 0 and 1.

    Args:
        boundary: Counted from 1; the first one with a window is 2.
        boundaries: Of the whole run; after the last one, as at it.
        steepness: Of the sigmoid.
    """
    x = (boundary - 2) / (boundaries - 2) if boundaries > 2 else 0.0
    x = min(max(x, 0.0), 1.0)
    return 0.5 * (1.0 + math.tanh(steepness * (x - 0.5) / 2) / math.tanh(steepness / 4))


def window(drops: npt.ArrayLike, place: float, share: float, outside_weight: float) -> Window:
    """Weigh rows by whether their drop is in the window.

    Known rows are ranked by drop, the largest first, among equals the lower row. The window holds ``share`` of those
    whose loss did not rise, at least one and only such rows. If there are none, all known rows weigh the same.

    Args:
        drops: How far each loss has fallen, NaN where that is not known; shape [N].
        place: From 0, the window holds the largest drop, to 1, it holds the smallest that is not negative.
        share: Its width.
        outside_weight: Weight of other known rows.
    """
    values = np.asarray(drops, np.float64)
    finite = np.isfinite(values)
    known, improved = int(finite.sum()), int((values[finite] >= 0).sum())
    log_weights = np.where(finite, math.log(outside_weight) if improved else 0.0, -np.inf)
    width = min(improved, max(1, by_score(improved, share)))
    start = by_score(improved - width, place)
    inside = top_k(values, known)[start : start + width]
    log_weights[inside] = 0.0
    return Window(log_weights, inside, start, known, improved)
