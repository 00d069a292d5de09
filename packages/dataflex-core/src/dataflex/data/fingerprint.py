"""A cheap content fingerprint of a tokenised pool: the same in every process, on every machine."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.errors import ConfigError, reason

SAMPLED_ROWS = 256


def fingerprint(dataset: Any, rows: npt.NDArray[np.int64] | None = None) -> str:
    """Hash the length of a map-style data set and some rows: by default, :data:`SAMPLED_ROWS` evenly spaced ones.

    The ``datasets`` library's own fingerprint hashes the functions applied to the data, tokenizer objects included,
    and is random for those it cannot pickle; this one looks at the data. An edit of other rows that keeps their
    number goes unseen.

    Raises:
        ConfigError: for one of these rows that cannot be read.
    """
    size = len(dataset)
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    if rows is None:
        rows = np.unique(np.linspace(0, max(size - 1, 0), num=min(size, SAMPLED_ROWS), dtype=np.int64))
    for row in rows:
        try:
            features = dataset[int(row)]
        except Exception as error:
            raise ConfigError(f"row {row} of the pool could not be read: {reason(error)}. Mend the data.") from error
        items = sorted(features.items()) if isinstance(features, dict) else [("", features)]
        for name, value in items:
            digest.update(f"{name}={np.asarray(value).tolist()!r};".encode())
    return digest.hexdigest()
