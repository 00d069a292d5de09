"""Scores of a pool that no model gives: lengths, a file, a column of the data.

Orderers go by them, and so may a selector: what a parameter says that its component names in
``ComponentSpec.numbers_from`` is read and checked before the model loads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dataflex.config.order_params import LISTED_GIVEN, ScoreKind, ScoreSource, score_source
from dataflex.data.fingerprint import fingerprint
from dataflex.data.row_lengths import row_lengths
from dataflex.errors import ConfigError, reason
from dataflex.math.ordering import Floats
from dataflex.paths import user_path

RawColumn = Callable[[str], Floats]
"""A column of the data as it was before tokenising, as scores of the rows of the pool."""

GIVEN = frozenset({ScoreKind.LENGTH, ScoreKind.FILE, ScoreKind.COLUMN})
"""Sources that are known before training, and do not change."""

_PARQUET, _SUMMARY = ".parquet", "summary.json"


def given_numbers(by: str, pool: Any, column: RawColumn | None) -> Floats:
    """Numbers of the rows of a pool that a parameter names, as :func:`given_scores`; NaN for what is not finite.

    Args:
        by: ``column:NAME``, ``file:PATH`` or ``length``.
        pool: The tokenised pool: ``context.dataset``.
        column: ``context.columns``.

    Raises:
        ConfigError: for another word, when there are no numbers, and when they are of another pool.
    """
    source = score_source(by)
    if source.kind not in GIVEN:
        raise ConfigError(f"by: {source} is no number of a row; write {LISTED_GIVEN}.")
    numbers = given_scores(source, pool, column)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def given_scores(source: ScoreSource, pool: Any, column: RawColumn | None) -> Floats:
    """Read the scores of a pool from one of :data:`GIVEN`. Every rank reads the same.

    Args:
        source: Which.
        pool: The tokenised training pool.
        column: Finds a column of the data as it was loaded; ``None`` where only the pool's own are known.

    Returns:
        fp64, shape ``[pool]``; NaN where there is none.

    Raises:
        ConfigError: when there are none, or they are of another pool.
    """
    if source.kind is ScoreKind.LENGTH:
        return row_lengths(pool).astype(np.float64)
    if source.kind is ScoreKind.FILE:
        return _of_file(source, pool)
    if source.name in _columns(pool):
        return numbers((pool[row][source.name] for row in range(len(pool))), source)
    if column is None:
        known = ", ".join(_columns(pool)) or "none"
        raise ConfigError(f"by: {source} is no column of the pool's rows. They have: {known}.")
    return column(source.name)


def numbers(values: Iterable[Any], source: ScoreSource | str) -> Floats:
    """Values of a column as scores; ``None`` is no score.

    Raises:
        ConfigError: naming the first row whose value is no number.
    """
    scores = []
    for row, value in enumerate(values):
        plain = value.item() if hasattr(value, "item") and getattr(value, "size", 1) in (1, ()) else value
        if plain is not None and (isinstance(plain, bool) or not isinstance(plain, (int, float))):
            raise ConfigError(f"by: {source}: row {row} holds {str(plain)[:40]!r}, which is no number.")
        scores.append(np.nan if plain is None else float(plain))
    return np.array(scores, np.float64)


def _columns(pool: Any) -> list[str]:
    names = getattr(pool, "column_names", None)
    if names is not None:
        return [str(name) for name in names]
    first: Any = pool[0] if len(pool) else {}
    return [str(name) for name in first] if hasattr(first, "keys") else []


def _of_file(source: ScoreSource, pool: Any) -> Floats:
    path = user_path(source.name)
    if not path.is_file():
        raise ConfigError(f"by: {source}: there is no such file (working directory {Path.cwd()}).")
    if path.suffix not in (".npy", _PARQUET):
        raise ConfigError(f"by: {source}: scores are read from a .npy file, or from scores.parquet of dataflex score.")
    try:
        scores = _of_parquet(path, pool, source) if path.suffix == _PARQUET else np.load(path, allow_pickle=False)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"by: {source} could not be read: {reason(error).rstrip('.')}.") from error
    if scores.shape != (len(pool),):
        raise ConfigError(
            f"by: {source} holds scores of shape {list(scores.shape)}, but the pool has {len(pool)} rows: one for "
            "each, in the order of the tokenised pool."
        )
    if scores.dtype.kind not in "iuf":
        raise ConfigError(f"by: {source} holds {scores.dtype} values; scores are numbers.")
    found: Floats = scores.astype(np.float64)
    return found


def _of_parquet(path: Path, pool: Any, source: ScoreSource) -> Any:
    from pyarrow import parquet

    summary = path.with_name(_SUMMARY)
    if not summary.is_file():
        raise ConfigError(f"by: {source}: {_SUMMARY} is missing beside it, which says what pool was scored.")
    if json.loads(summary.read_text(encoding="utf-8"))["pool_fingerprint"] != fingerprint(pool):
        raise ConfigError(
            f"by: {source} holds scores of another pool: data, template or tokenizer have changed since. Score this "
            "one with dataflex score."
        )
    return np.asarray(parquet.read_table(path, columns=["score"])["score"].to_numpy())
