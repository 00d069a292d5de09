"""How many tokens each row of a pool has."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.errors import ConfigError

_SCAN = 10_000  # rows of an Arrow table looked at in one piece
_TOKENS = "input_ids"


def row_lengths(dataset: Any) -> npt.NDArray[np.int64]:
    """Count the tokens of each row, prompt and answer alike, without padding.

    Rows with several columns of tokens, as in preference data, count all of them. A Hugging Face dataset is read as
    Arrow, so that no row is decoded.

    Args:
        dataset: Map-style pool.

    Returns:
        Counts, shape ``[rows]``.

    Raises:
        ConfigError: for rows that have no tokens to count.
    """
    size = len(dataset)
    counts = np.zeros(size, np.int64)
    if not size:
        return counts
    first = dataset[0]
    names = [str(name) for name in first if str(name).endswith(_TOKENS)] if hasattr(first, "keys") else []
    if not names:
        raise ConfigError(f"the rows of the pool have no column {_TOKENS}, so they have no length to go by.")
    if hasattr(dataset, "with_format") and getattr(dataset, "format", {}).get("type") != "custom":
        tables = dataset.with_format("arrow", columns=names)
        for start in range(0, size, _SCAN):
            table = tables[start : min(start + _SCAN, size)]
            for name in names:
                lengths = table[name].combine_chunks().value_lengths().fill_null(0)
                counts[start : start + len(table)] += lengths.to_numpy(zero_copy_only=False).astype(np.int64)
        return counts
    for row in range(size):
        features = dataset[row]
        counts[row] = sum(len(features[name]) for name in names)
    return counts
