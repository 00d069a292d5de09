"""What scoring found out: ``scores.parquet`` with the score of each row, ``summary.json`` with the numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.math.score_summary import score_summary
from dataflex.record import files

SCHEMA = 1
_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class PoolScores:
    """Scores of a pool, by row.

    Attributes:
        scores: fp64, shape ``[pool]``; NaN where a row was not scored or has none.
        tokens: Trained tokens, shape ``[pool]``.
        names: Data sets.
        domains: Data set of each row, an index into ``names``, shape ``[pool]``; -1 where that is not known.
    """

    scores: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]
    names: tuple[str, ...]
    domains: npt.NDArray[np.int64]

    def write(self, path: Path) -> None:
        """Write columns ``row``, ``domain``, ``score`` and ``tokens``; whole or not at all."""
        import pyarrow as pa
        from pyarrow import parquet

        indices = pa.array(self.domains, mask=self.domains == _UNKNOWN)
        domain = pa.DictionaryArray.from_arrays(indices, pa.array(list(self.names), pa.string())).cast(pa.string())
        columns = {
            "row": np.arange(len(self.scores), dtype=np.int64),
            "domain": domain,
            "score": self.scores,
            "tokens": self.tokens,
        }
        temporary = path.with_name(path.name + ".tmp")
        parquet.write_table(pa.table(columns), temporary)
        os.replace(temporary, path)

    def summary(self, kept: npt.NDArray[np.int64]) -> dict[str, Any]:
        """The numbers of all rows and of each data set.

        Args:
            kept: Rows that are kept; none if empty.
        """
        by_name = {}
        for index, name in enumerate(self.names):
            mine = self.domains == index
            part = score_summary(self.scores[mine], np.flatnonzero(np.isin(np.flatnonzero(mine), kept)))
            by_name[name] = {"rows": int(mine.sum()), "tokens": int(self.tokens[mine].sum()), "scores": part}
        return {
            "rows": len(self.scores),
            "tokens": int(self.tokens.sum()),
            "scores": score_summary(self.scores, kept),
            "domains": by_name,
        }


def read_scores(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The scores and the trained tokens that :meth:`PoolScores.write` wrote, each of shape ``[pool]``."""
    from pyarrow import parquet

    table = parquet.read_table(path, columns=["score", "tokens"])
    return np.asarray(table["score"].to_numpy(), np.float64), np.asarray(table["tokens"].to_numpy(), np.int64)


def write_summary(
    path: Path, *, request: Mapping[str, Any], pool: str, seconds: float, metrics: Mapping[str, Any], numbers: Any
) -> None:
    """Write ``summary.json``.

    Args:
        path: The file.
        request: What was asked for.
        pool: Fingerprint of the pool.
        seconds: Of scoring.
        metrics: What the component reports.
        numbers: See :meth:`PoolScores.summary`.
    """
    named = ("component", "dist", "version", "params", "step")
    record = {
        "schema": SCHEMA,
        **{name: request[name] for name in named},
        "checkpoint": request["arguments"].get("resume_from_checkpoint"),
        "model": request["arguments"].get("model_name_or_path"),
        "seconds": seconds,
        **numbers,
        "metrics": dict(metrics),
        "pool_fingerprint": pool,
    }
    files.replace_text(path, json.dumps(_finite(record), indent=1) + "\n")


def _finite(value: Any) -> Any:
    """JSON knows no NaN: ``null`` stands for it."""
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
