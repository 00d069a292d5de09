"""The loader of a scoring pass: every row once, in batches of like length, this rank's share only.

    rows --sort by length, longest first--> batches of <= token_budget padded tokens --dealt out--> rank 0, 1, ...

Longest first, so that running out of memory shows in the first second. How rows are grouped does not depend on the
number of ranks: two ranks compute exactly what one computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dataflex.data.unevenness import Sizes, item_counts, looked_at, most_uneven
from dataflex.data.unreadable import naming_unreadable
from dataflex.errors import ComponentError

Rows = npt.NDArray[np.int64]

MAX_BATCH = 256
"""Rows of one batch, however short they are."""

CPU_TOKENS, ACCELERATOR_TOKENS = 2048, 16_384
"""Padded tokens of a batch where nobody says how many.

What suits an accelerator is slow on a CPU, whose caches hold less: a forward pass of a Qwen2 of hidden size 256 on one
thread took 1.3 times as long in batches of 16,384 tokens as in batches of 2,048, and per-sample gradients 1.7 times.
"""

_ONE_BESIDE_THE_OTHER = ("input_ids", "kl_input_ids")  # each a batch of its own
_SCAN = 10_000  # rows of an Arrow table looked at in one piece


class ScoringLoader:
    """Collated batches of ``rows``, grouped by length under a token budget.

    All ranks yield the same number of batches, since a forward pass of sharded parameters is collective. A rank that
    has none left repeats the shortest batch with an empty array of rows: run it, and drop the result.

    Collating may draw from the global generators (a random collator): iterate inside the engine's random scope.

    A row that cannot be read ends the iteration with a :class:`~dataflex.errors.ComponentError` that names it.

    Args:
        dataset: Map-style pool; ``dataset[row]`` gives a mapping of features.
        collator: A list of features to one batch.
        rows: Rows to score.
        token_budget: Padded tokens of one batch; ``None`` for what suits the device. A single row may exceed it.
        max_batch: Most rows of one batch.
        rank: Index of this process.
        world_size: Number of processes.
        device: Where batches are moved; ``None`` leaves them where the collator put them.
        skipped: Rows scored already: batches that hold no others are left out. How the rest is grouped stays the same.
        uneven_first: Yield this rank's most uneven batches right after the first one: :meth:`alone` has the rows of
            these to look at.
        same_length: Put only rows of one length into a batch, so that none is padded to the length of another.
        most_tokens: Count a row as no longer than this; whoever runs the batch cuts it.
    """

    def __init__(
        self,
        dataset: Any,
        collator: Callable[[Sequence[Any]], Mapping[str, Any]],
        rows: npt.ArrayLike,
        *,
        token_budget: int | None = None,
        max_batch: int = MAX_BATCH,
        rank: int = 0,
        world_size: int = 1,
        device: Any = None,
        skipped: npt.ArrayLike = (),
        uneven_first: bool = False,
        same_length: bool = False,
        most_tokens: int | None = None,
    ) -> None:
        if token_budget is None:
            token_budget = default_token_budget(device)
        if token_budget < 1 or max_batch < 1 or not 0 <= rank < world_size:
            raise ValueError(f"{token_budget=}, {max_batch=} must be positive and {rank=} below {world_size=}")
        self.dataset, self.collator, self.device = dataset, collator, device
        chosen = np.asarray(rows, dtype=np.int64)
        multiple = int(getattr(collator, "pad_to_multiple_of", None) or 1)
        lengths = row_lengths(dataset, chosen)
        if most_tokens is not None:
            lengths = np.minimum(lengths, most_tokens)
        padded = -(-lengths // multiple) * multiple
        if getattr(collator, "neat_packing", False):
            max_batch = 1  # LlamaFactory's collator takes packed rows one at a time
        batches = _buckets(chosen, lengths if same_length else padded, token_budget, max_batch, alike=same_length)
        if len(done := np.asarray(skipped, dtype=np.int64)):
            batches = [batch for batch in batches if not np.isin(batch, done).all()]
        self._batches = list(_share(batches, rank, world_size))
        self._looked_at: dict[int, list[int]] = {}  # places, by the first row of a batch
        if uneven_first and max_batch > 1:
            self._put_uneven_first(chosen, lengths)

    def __len__(self) -> int:
        """Batches on this rank."""
        return len(self._batches)

    @property
    def num_rows(self) -> int:
        """Rows this rank scores."""
        return sum(len(rows) for rows, is_repeat in self._batches if not is_repeat)

    @property
    def looks(self) -> list[int]:
        """By batch, in their order, how many rows :meth:`alone` gives."""
        return [0 if is_repeat else len(self.alone(rows)) for rows, is_repeat in self._batches]

    def __iter__(self) -> Iterator[tuple[Rows, dict[str, Any]]]:
        for rows, is_repeat in self._batches:
            yield rows[:0] if is_repeat else rows, self._collate(rows)

    def alone(self, rows: Rows) -> dict[int, Callable[[], dict[str, Any]]]:
        """Rows of a batch to look at on their own: by place, what makes a batch of that row.

        Args:
            rows: The batch's rows, as they were yielded. Without ``uneven_first``, and but for the first batches, there
                is nothing to look at.
        """
        places = self._looked_at.get(int(rows[0]), []) if len(rows) else []
        return {place: partial(self._collate, rows[place : place + 1]) for place in places}

    def _put_uneven_first(self, chosen: Rows, lengths: Rows) -> None:
        own = [rows for rows, is_repeat in self._batches if not is_repeat]
        by_row = Sizes(chosen, lengths)
        counts = [Sizes(chosen, items) for items in item_counts(self.dataset, chosen, lengths).values()]
        first = most_uneven(own, by_row, counts)
        self._looked_at = {int(own[index][0]): looked_at(own[index], by_row, counts) for index in first}
        # The longest stay in front, where running out of memory shows at once.
        front = [index for index in range(len(own)) if index < (first or [0])[0]]
        order = [*front, *first, *(index for index in range(len(own)) if index not in {*front, *first})]
        self._batches = [(own[index], False) for index in order] + [each for each in self._batches if each[1]]

    def _collate(self, rows: Rows) -> dict[str, Any]:
        fetch = getattr(self.dataset, "__getitems__", None)
        wanted = rows.tolist()
        with naming_unreadable(self.dataset, wanted):
            features = fetch(wanted) if fetch is not None else [self.dataset[row] for row in wanted]
        # Copies: collators pop keys. Of their own class: a row may know how it is collated.
        copies = [copy(feature) if isinstance(feature, dict) else dict(feature) for feature in features]
        batch = dict(self.collator(copies))
        if self.device is None:
            return batch
        from accelerate.utils import send_to_device

        return dict(send_to_device(batch, self.device))


def default_token_budget(device: Any, on_accelerator: int = ACCELERATOR_TOKENS) -> int:
    """Padded tokens of one batch that suit a device.

    Args:
        device: ``torch.device``, its name, or ``None`` for the CPU.
        on_accelerator: Tokens anywhere but on a CPU.
    """
    return CPU_TOKENS if str(device or "cpu").partition(":")[0] == "cpu" else on_accelerator


def row_lengths(dataset: Any, rows: npt.ArrayLike) -> Rows:
    """Tokens of each row, as a batch of such rows holds them.

    That is the length of ``input_ids``, or of the mismatched answer beside it (kto) where that is longer. In a pool of
    pairs, whose answers are padded to one length, it is that of the longest times the columns that end in
    ``input_ids``. A Hugging Face dataset is asked for the offsets of its Arrow lists, so that no row is decoded.

    Args:
        dataset: Map-style pool.
        rows: Rows to measure.

    Returns:
        Lengths, shape of ``rows``.

    Raises:
        ComponentError: when the rows hold no token column, or one cannot be read.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    if not len(chosen):
        return np.zeros(0, np.int64)
    with naming_unreadable(dataset, chosen.tolist()):
        if hasattr(dataset, "with_format") and hasattr(dataset, "column_names") and hasattr(dataset, "format"):
            lengths = _arrow_lengths(dataset, chosen)
            if lengths is not None:
                return lengths
        return _read_lengths(dataset, chosen)


def _read_lengths(dataset: Any, chosen: Rows) -> Rows:
    columns, times = _token_columns(list(dataset[int(chosen[0])]))
    lengths = np.zeros(len(chosen), np.int64)
    for place, row in enumerate(chosen.tolist()):
        features = dataset[row]
        lengths[place] = times * max(len(features[column]) for column in columns)
    return lengths


def _token_columns(names: Sequence[str]) -> tuple[list[str], int]:
    """The columns whose longest is a row's length, and how often a batch holds that."""
    if "input_ids" in names:
        return [name for name in _ONE_BESIDE_THE_OTHER if name in names], 1
    columns = [name for name in names if name.endswith("input_ids")]
    if not columns:
        raise ComponentError(
            f"the pool's rows have no input_ids (they have: {', '.join(map(str, names)) or 'nothing'}), so they cannot "
            "be scored. The pool must be tokenised before training begins."
        )
    return columns, len(columns)


def _arrow_lengths(dataset: Any, chosen: Rows) -> Rows | None:
    """Lengths from the offsets of Arrow lists, or ``None`` where they do not tell (a transform, no list column)."""
    if dataset.format["type"] == "custom":  # tokenised on the fly: only the decoded row knows
        return None
    columns, times = _token_columns(dataset.column_names)
    tables = dataset.with_format("arrow", columns=columns)
    total, whole = len(dataset), len(chosen) == len(dataset)
    lengths = np.zeros(len(chosen), np.int64)
    for start in range(0, len(chosen), _SCAN):
        end = min(start + _SCAN, len(chosen))
        table = tables[start : min(end, total)] if whole else tables[chosen[start:end].tolist()]
        for column in columns:
            chunks = table[column].chunks
            if not all(hasattr(chunk, "value_lengths") for chunk in chunks):
                return None
            counts = [chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False) for chunk in chunks]
            lengths[start:end] = np.maximum(lengths[start:end], np.concatenate(counts).astype(np.int64))
    return times * (lengths[chosen] if whole else lengths)


def _buckets(rows: Rows, padded: Rows, token_budget: int, max_batch: int, *, alike: bool = False) -> list[Rows]:
    order = np.lexsort((rows, -padded))
    batches, start = [], 0
    while start < len(order):
        longest = int(padded[order[start]])
        size = max(1, min(max_batch, token_budget // max(longest, 1)))
        if alike:
            size = min(size, int((padded[order[start : start + size]] == longest).sum()))
        batches.append(rows[order[start : start + size]])
        start += size
    return batches


def _share(batches: list[Rows], rank: int, world_size: int) -> Iterator[tuple[Rows, bool]]:
    """This rank's batches, each with whether it repeats one of another rank.

    Batches of like length are dealt out in rounds, and who gets the longest changes from round to round.
    """
    for first in range(0, len(batches), world_size):
        mine = first + (rank + first // world_size) % world_size
        yield (batches[mine], False) if mine < len(batches) else (batches[-1], True)
