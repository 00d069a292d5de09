"""Which count of a row's trained tokens a run goes by: that of the pool's columns, or that of its collator's batches.

    64 rows are collated ── as many trained tokens as the columns say ──> columns: no row has to be collated
                         └─ another number ──> the whole pool is collated once, each rank a share; kept in a file

Where the collator makes no labels of a row by itself (pairs, classes), the columns are all there is.
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.checkpoint.state import Saved
from dataflex.components.context import RunContext
from dataflex.data.collated_tokens import collated_tokens, sampled_rows
from dataflex.data.collator_settings import collator_settings
from dataflex.data.fingerprint import fingerprint
from dataflex.distributed import all_gather, rank0_decides, together
from dataflex.errors import ConfigError
from dataflex.kinds import Kind
from dataflex.record.files import write_atomically
from dataflex.trainers.batches import HandedCollator

logger = logging.getLogger("dataflex")
Whole = npt.NDArray[np.int64]

_COUNTED_STAGES = frozenset({"", "sft", "pt"})  # the others train on pairs
_MEDIA = ("images", "image", "videos", "audios", "audio", "pixel_values", "input_features", "input_values")


class Counting(StrEnum):
    """Where counts come from."""

    COLUMNS = "columns"
    COLLATOR = "collator"


@dataclass(frozen=True, eq=False)
class TokenCounts:
    """Trained tokens of a pool.

    Attributes:
        counts: Of each row, shape ``[rows]``.
        counting: Where they come from.
    """

    counts: Whole
    counting: Counting


def count_tokens(
    context: RunContext,
    columns: Whole,
    sizes: Sequence[int],
    *,
    workers: int = 0,
    began_with: Counting | None = None,
) -> TokenCounts:
    """Count the trained tokens of each row. Called on every rank.

    Args:
        context: What a component may see of the run: the pool, the collator, the seed, the folder for files.
        columns: Counts by columns.
        sizes: Rows of each domain.
        workers: Loader workers of the run.
        began_with: What a resumed run counted by when it began; ``None`` for a new one.

    Raises:
        ComponentError: on every rank, naming a row that cannot be read or collated on one.
    """
    by_columns = TokenCounts(columns, Counting.COLUMNS)
    if began_with is Counting.COLUMNS or context.stage not in _COUNTED_STAGES or not len(columns):
        return by_columns
    rows, began = sampled_rows(columns, sizes, context.seed), time.perf_counter()
    with together("counting tokens", context.accelerator):
        sample = collated_tokens(context.dataset, context.data_collator, rows, seed=context.seed)
    seconds = time.perf_counter() - began
    sample = None if sample is None else rank0_decides(sample, context.accelerator)
    if sample is None or (began_with is None and np.array_equal(sample, columns[rows])):
        return by_columns
    _say_what_differs(context, rows, sample, columns, seconds / len(rows), workers)
    counted = _kept_or_counted(context, rows, sample, columns, workers)
    return by_columns if counted is None else TokenCounts(counted, Counting.COLLATOR)


def counting_of(checkpoint: Path, saved: Saved) -> Counting:
    """What a run counted tokens by that goes on from a checkpoint; those of before counted by columns.

    Raises:
        ConfigError: when the checkpoint says something else.
    """
    planner = saved.engine.planner
    mixing = planner.get(Kind.MIXER.value, planner) if isinstance(planner, Mapping) else None  # beside other components
    given = mixing.get("counting", Counting.COLUMNS.value) if isinstance(mixing, Mapping) else None
    for counting in Counting:
        if given == counting.value:
            return counting
    raise ConfigError(
        f"cannot resume from {checkpoint}: the field 'planner' of its engine.json is damaged (counting: {given!r}). "
        "Resume from an earlier checkpoint, or start anew."
    )


def _kept_or_counted(context: RunContext, rows: Whole, sample: Whole, columns: Whole, workers: int) -> Whole | None:
    file = context.cache_dir / f"trained-tokens-{_key(context, sample, columns)}.npy"
    kept = rank0_decides(_read(file, len(columns)), context.accelerator)
    if len(kept):
        return kept
    mine = np.arange(context.rank, len(columns), context.world_size, dtype=np.int64)
    with together("counting tokens", context.accelerator):
        counted = collated_tokens(
            context.dataset,
            context.data_collator,
            mine,
            seed=context.seed,
            workers=workers,
            show=context.rank == 0,
        )
    parts = all_gather((mine, counted), context.accelerator)
    if any(part is None for _, part in parts):
        return None
    counts = np.zeros(len(columns), np.int64)
    for theirs, part in parts:
        counts[theirs] = part
    if context.rank == 0:
        _keep(file, counts)
    return counts


def _key(context: RunContext, sample: Whole, columns: Whole) -> str:
    """Everything the counts depend on, and what was found of them."""
    digest = hashlib.blake2b(fingerprint(context.dataset).encode(), digest_size=12)
    collator = context.data_collator
    settings = collator.settings() if isinstance(collator, HandedCollator) else collator_settings(collator)
    digest.update(f"{context.seed} {settings}".encode())
    digest.update(columns.tobytes())  # the fingerprint looks at some of the rows; this at the length of each
    digest.update(sample.tobytes())
    return digest.hexdigest()


def _read(file: Path, size: int) -> Whole:
    """Counts of an earlier start; none if there is no such file, or it is damaged."""
    try:
        counts = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.zeros(0, np.int64)
    whole = counts.shape == (size,) and counts.dtype == np.int64 and bool((counts >= 0).all())
    return counts if whole else np.zeros(0, np.int64)


def _keep(file: Path, counts: Whole) -> None:
    data = io.BytesIO()
    np.save(data, counts, allow_pickle=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, data.getvalue())
    except OSError as error:
        logger.warning("the tokens counted could not be kept in %s: %s. A resumed run counts again.", file, error)


def _say_what_differs(
    context: RunContext, rows: Whole, sample: Whole, columns: Whole, seconds: float, workers: int
) -> None:
    if context.rank > 0:
        return
    different = np.flatnonzero(sample != columns[rows])
    if len(different):
        first = different[0]
        logger.info(
            "the collator trains on other tokens than the pool's columns tell (row %d: %d, by its columns %d; %d of %d "
            "rows looked at differ), so tokens are counted as it makes them: all %d rows are collated once.",
            *(rows[first], sample[first], columns[rows[first]], len(different), len(rows), len(columns)),
        )
    if _holds_media(context.dataset, rows):
        minutes = seconds * len(columns) / context.world_size / max(workers, 1) / 60
        logger.warning(
            "the pool holds pictures, film or sound: collating its %d rows takes about %.0f minutes (%.2f s a row, %d "
            "ranks, dataloader_num_workers: %d), unless an earlier start has done it.",
            *(len(columns), np.ceil(minutes), seconds, context.world_size, workers),
        )


def _holds_media(dataset: Any, rows: Whole) -> bool:
    for row in rows.tolist():
        features = dataset[row]
        for name in _MEDIA:
            value = features.get(name) if hasattr(features, "get") else None
            if value is not None and (not hasattr(value, "__len__") or len(value)):
                return True
    return False
