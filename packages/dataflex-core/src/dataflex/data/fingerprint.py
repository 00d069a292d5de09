"""A cheap content fingerprint of a tokenised pool: the same in every process, on every machine."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from dataflex.errors import ConfigError, reason

SAMPLED_ROWS = 256


def fingerprint(dataset: Any) -> str:
    """Hash the length of a map-style data set and :data:`SAMPLED_ROWS` evenly spaced rows.

    The ``datasets`` library's own fingerprint hashes the functions applied to the data, tokenizer objects included,
    and is random for those it cannot pickle; this one looks at the data. An edit between the sampled rows that keeps
    the number of rows goes unseen.

    Raises:
        ConfigError: for a sampled row that cannot be read.
    """
    size = len(dataset)
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    for row in np.unique(np.linspace(0, max(size - 1, 0), num=min(size, SAMPLED_ROWS), dtype=np.int64)):
        try:
            features = dataset[int(row)]
        except Exception as error:
            raise ConfigError(f"row {row} of the pool could not be read: {reason(error)}. Mend the data.") from error
        items = sorted(features.items()) if isinstance(features, dict) else [("", features)]
        for name, value in items:
            digest.update(f"{name}={np.asarray(value).tolist()!r};".encode())
    return digest.hexdigest()
