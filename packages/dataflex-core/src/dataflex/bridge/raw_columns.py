"""A column of the data as LlamaFactory loaded it, by row of the tokenised pool: its own tokenising drops it."""

from __future__ import annotations

from itertools import chain

import numpy as np

from dataflex.bridge.origins import Tracer
from dataflex.data.given_scores import numbers
from dataflex.errors import ConfigError
from dataflex.math.ordering import Floats


def raw_column(tracer: Tracer, name: str) -> Floats:
    """Numbers of a column of the data sets, one for each row of the pool.

    Args:
        tracer: Has followed the rows from the data sets to the pool.
        name: The column, as the files call it; every data set of the run has to have it.

    Returns:
        fp64, shape ``[pool]``; NaN where a row has none.

    Raises:
        ConfigError: for a column that a data set does not have, a value that is no number, and rows that were not
            followed: packed ones, and those of a ``tokenized_path``.
    """
    origins, sources = tracer.origins, tracer.sources[: len(tracer.names)]
    if origins is None:
        raise ConfigError(
            f"by: column:{name}: it is not known which rows of the data the pool's rows were made from, as they are "
            "packed or were read from tokenized_path. Use by: length or file:PATH."
        )
    for source in sources:
        if name not in source.raw.column_names:
            known = ", ".join(source.raw.column_names)
            raise ConfigError(f"by: column:{name}: the data set {source.name} has no such column. It has: {known}.")
    parts = [numbers(source.raw[name], f"column:{name} of {source.name}") for source in sources]
    starts = np.cumsum([0, *(len(part) for part in parts)])
    every = np.fromiter(chain.from_iterable(parts), np.float64, count=int(starts[-1]))
    return every[starts[origins.indices] + origins.rows]
