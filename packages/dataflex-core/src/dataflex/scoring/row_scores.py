"""What one model says of each row of a pool, made once: kept on disk by what it depends on, shared between runs.

::

    FOLDER/row-scores-KEY/    finished: rows.parquet (row, and a column for each number), meta.json

KEY is a hash of weights, rows, what is computed, precision and the version of this code, not of ranks, seed or step;
:mod:`dataflex.scoring.kept_folder` says what lies beside it meanwhile, ``dataflex cache list`` what there is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.components.context import RunContext
from dataflex.distributed import all_gather, rank0_decides
from dataflex.scoring.embedded_model import EmbeddedModel
from dataflex.scoring.index_cache import SCORES
from dataflex.scoring.kept_folder import KeptFolder

logger = logging.getLogger("dataflex")

CODE = 1
"""Version of what the kept numbers mean; part of the key."""

_FILE = "rows.parquet"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RowScores:
    """What a model says of the rows of a pool, the same on every rank.

    Attributes:
        columns: Numbers by name, each fp64, shape ``[pool]``; NaN where a row has none.
        fingerprint: Of all that they depend on.
        seconds: What making them took, whoever did.
        cpu_seconds: Likewise, over all ranks.
        found: Whether they lay ready on disk.
    """

    columns: Mapping[str, Floats]
    fingerprint: str
    seconds: float
    cpu_seconds: float
    found: bool = False


def fingerprint_of(model: EmbeddedModel, spec: Mapping[str, Any], context: RunContext) -> str:
    """The key of the scores of a pool. Called on every rank.

    Args:
        model: Who scores.
        spec: What is computed, JSON values.
        context: The run.
    """
    rows = np.arange(len(context.dataset), dtype=np.int64)
    precision = str(getattr(context.accelerator, "mixed_precision", "no"))
    settings = {"scores": dict(spec), "precision": precision, "code": CODE}
    own = model.fingerprint(context.dataset, rows, settings) if context.rank == 0 or model.on_every_rank else ""
    return str(all_gather(own, context.accelerator)[0])


def kept_scores(
    key: str, make: Callable[[], Mapping[str, Floats]], facts: Mapping[str, Any], folder: Path, context: RunContext
) -> RowScores:
    """Take scores from disk, or make and keep them. Called on every rank.

    Args:
        key: Their fingerprint.
        make: Makes them, on every rank the same: names to numbers, shape ``[pool]``.
        facts: What is written beside them: ``spec`` and ``model``.
        folder: Where scores are kept.
        context: The run.
    """
    place = KeptFolder(folder / f"{SCORES}{key}", "scores", rank=context.rank, accelerator=context.accelerator)
    while not place.claim():
        if (found := read_scores(folder, key, context)) is not None:
            return found
    began, cpu = time.monotonic(), time.process_time()
    try:
        columns = dict(make())
        spent = float(sum(all_gather(time.process_time() - cpu, context.accelerator)))
        cost = rank0_decides(np.asarray([time.monotonic() - began, spent]), context.accelerator).tolist()
        if context.rank == 0:
            shape = {"rows": len(context.dataset), "width": len(columns)}
            meta = {"version": CODE, **facts, **shape, "seconds": cost[0], "cpu_seconds": cost[1]}
            place.publish(lambda path: _write(path / _FILE, columns), meta)
    finally:
        place.release()
    return RowScores(columns, key, cost[0], cost[1])


def read_scores(folder: Path, key: str, context: RunContext) -> RowScores | None:
    """Scores that were made before, by their fingerprint; ``None`` where they are gone. Called on every rank."""
    place = KeptFolder(folder / f"{SCORES}{key}", "scores")
    said: tuple[dict[str, Floats], float, float] | None = None
    if context.rank == 0:
        try:
            meta, columns = place.meta(), _read(place.path / _FILE)
            if any(len(values) != len(context.dataset) for values in columns.values()):
                raise ValueError(f"not {len(context.dataset)} rows")
            said = columns, float(meta["seconds"]), float(meta["cpu_seconds"])
            logger.info("scores of %d rows were ready in %s.", len(context.dataset), place.path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError) as error:
            place.discard(error)
    said = all_gather(said, context.accelerator)[0]
    return None if said is None else RowScores(said[0], key, said[1], said[2], found=True)


def _write(path: Path, columns: Mapping[str, Floats]) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = {"row": np.arange(len(next(iter(columns.values()))), dtype=np.int64)}
    parquet.write_table(pyarrow.table({**rows, **columns}), path)


def _read(path: Path) -> dict[str, Floats]:
    from pyarrow import parquet

    table = parquet.read_table(path)  # of what is no parquet file, a ValueError of pyarrow's
    return {name: np.asarray(table[name].to_numpy(), np.float64) for name in table.column_names if name != "row"}
