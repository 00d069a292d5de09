"""A collator whose random draws depend on the batch alone, so that a resumed run collates as the first one did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dataflex.failures.foreign import foreign
from dataflex.rng import key_seed, rng_scope


class SeededCollator:
    """Runs a collator under a random state that is a function of the seed and the rows' content.

    Loaders look ahead and restart at a resume, so the order of the draws is not a function of the step; the content
    of a batch is. A batch of the very same rows is collated the same way each time it comes.

    Args:
        collator: The run's own collator.
        seed: The run's seed.
    """

    def __init__(self, collator: Callable[[Sequence[Any]], Any], seed: int) -> None:
        self._collator, self._seed = collator, seed

    def __call__(self, rows: Sequence[Any]) -> Any:
        """Collate ``rows``."""
        with rng_scope(key_seed(self._seed, [_content(row) for row in rows])), foreign():
            return self._collator(rows)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_collator":
            raise AttributeError(name)
        return getattr(self._collator, name)


def _content(row: Any) -> bytes:
    features = row if isinstance(row, Mapping) else {"": row}
    names = sorted(name for name in features if str(name).endswith("input_ids")) or sorted(features)
    return b"".join(_bytes(features[name]) for name in names)


def _bytes(value: Any) -> bytes:
    array = np.asarray(value)
    return repr(value).encode() if array.dtype == object else array.tobytes()
