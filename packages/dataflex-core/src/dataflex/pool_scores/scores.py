"""What scoring found out: ``scores.parquet`` with the score of each row, ``summary.json`` with the numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.math.score_summary import score_summary
from dataflex.record import files

SCHEMA = 1
OF_TARGET = "score_"
"""What the name of a column begins with that holds the scores for one target."""

DRAWN = "drawn"
_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class PoolScores:
    """Scores of a pool, by row.

    Attributes:
        scores: fp64, shape ``[pool]``; NaN where a row was not scored or has none.
        tokens: Trained tokens, shape ``[pool]``.
        names: Data sets.
        domains: Data set of each row, an index into ``names``, shape ``[pool]``; -1 where that is not known.
        targets: Scores for each target, by its name, as ``scores``; empty where a selector has none.
        drawn: Rows that the selector drew, ascending, as often as it drew each; ``None`` if none were to be drawn.
    """

    scores: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]
    names: tuple[str, ...]
    domains: npt.NDArray[np.int64]
    targets: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    drawn: npt.NDArray[np.int64] | None = None

    def write(self, path: Path) -> None:
        """Write columns ``row``, ``domain``, ``score`` and ``tokens``, then ``score_NAME`` for each target and, where
        rows were drawn, ``drawn``: how often each was; whole or not at all.
        """
        import pyarrow as pa
        from pyarrow import parquet

        indices = pa.array(self.domains, mask=self.domains == _UNKNOWN)
        domain = pa.DictionaryArray.from_arrays(indices, pa.array(list(self.names), pa.string())).cast(pa.string())
        columns = {
            "row": np.arange(len(self.scores), dtype=np.int64),
            "domain": domain,
            "score": self.scores,
            "tokens": self.tokens,
            **{f"{OF_TARGET}{name}": values for name, values in self.targets.items()},
        }
        if self.drawn is not None:
            columns[DRAWN] = np.bincount(self.drawn, minlength=len(self.scores))
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


def read_scores(path: Path) -> PoolScores:
    """What :meth:`PoolScores.write` wrote, without the data sets."""
    from pyarrow import parquet

    table = parquet.read_table(path)
    names = [name for name in table.column_names if name.startswith(OF_TARGET)]
    scores = np.asarray(table["score"].to_numpy(), np.float64)
    drawn = np.repeat(np.arange(len(scores)), table[DRAWN].to_numpy()) if DRAWN in table.column_names else None
    return PoolScores(
        scores=scores,
        tokens=np.asarray(table["tokens"].to_numpy(), np.int64),
        names=(),
        domains=np.full(len(scores), _UNKNOWN, np.int64),
        targets={name.removeprefix(OF_TARGET): np.asarray(table[name].to_numpy(), np.float64) for name in names},
        drawn=drawn,
    )


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
