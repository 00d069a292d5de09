"""The loop that embeds rows: this rank's batches through the model, gathered on rank 0, centred there.

Shapes: n rows, B rows of a batch, T tokens, d numbers of a row.
"""

from __future__ import annotations

import contextlib
import enum
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dataflex.components.context import RunContext
from dataflex.data.scoring_loader import ScoringLoader
from dataflex.distributed import gather_rows, rank0_decides, together
from dataflex.errors import ComponentError
from dataflex.lockstep import lockstep
from dataflex.math.projection import SparseProjection
from dataflex.rng import rng_scope
from dataflex.scoring.cutting import cut, may_be_cut
from dataflex.scoring.embedded_model import Ready
from dataflex.scoring.hidden_states import HiddenStates
from dataflex.scoring.index_store import IndexStore
from dataflex.scoring.inputs import trimmed
from dataflex.scoring.passes import device_of
from dataflex.scoring.pooling import modality_tokens, row_vectors, span_tokens, unit
from dataflex.scoring.progress import ScoringProgress
from dataflex.scoring.quiet import evaluating
from dataflex.scoring.rope import length_scaling

logger = logging.getLogger("dataflex")

Rows = npt.NDArray[np.int64]
Half = npt.NDArray[np.float16]
Mean = npt.NDArray[np.float32]

_FEWEST = 3  # rows that have a mean worth subtracting
_ALIKE = 1e-3  # rows that are all this near to their mean differ by rounding alone
_BLOCK = 4096  # rows that are centred in one piece


class Centre(enum.Enum):
    """What is subtracted from each row."""

    NONE = "nothing"
    GIVEN = "a mean from elsewhere"
    OWN = "the mean over these rows"


@dataclass(frozen=True)
class Pass:
    """One pass over rows.

    Attributes:
        ready: The model, and the rows as it takes them.
        rows: Ascending, each once.
        centre: What is subtracted.
        mean: What is subtracted with :attr:`Centre.GIVEN`.
        token_budget: Tokens of one batch, padding included.
    """

    ready: Ready
    rows: Rows
    centre: Centre
    mean: Mean | None = None
    token_budget: int | None = None

    def run(self, context: RunContext, store: IndexStore) -> tuple[Half, Mean]:
        """Embed the rows; called on every rank.

        Returns:
            Unit rows, fp16, shape [n, d], on rank 0 and empty elsewhere; what was subtracted, shape [d], on every rank.
        """
        spent, origin = store.resume(self.rows)
        share = _Share(self.rows, whole=context.rank == 0)
        for rows, values in spent:
            share.add(rows, values)
        done = np.concatenate([self.rows[:0], *(rows for rows, _ in spent)])
        with together("embedding", context.accelerator):
            for rows, values, first in self._batches(context, done, origin):
                if first is not None:
                    store.begin(first)
                    origin = first
                if len(rows):
                    share.add(rows, values)
                    store.add(rows, values)
        gather_rows(*share.left(), context.accelerator, share.add)
        values = share.values
        if context.rank == 0 and self.centre is Centre.OWN:
            origin = _centred_(values, np.zeros(values.shape[1], np.float32) if origin is None else origin)
        if self.centre is Centre.GIVEN:
            origin = self.mean
        if origin is None:
            origin = np.zeros(values.shape[1], np.float32)
        return values, rank0_decides(origin, context.accelerator).astype(np.float32)

    def _batches(
        self, context: RunContext, done: Rows, origin: Mean | None
    ) -> Iterator[tuple[Rows, Half, Mean | None]]:
        """This rank's batches: rows, their vectors less what is subtracted so far, and the latter when it was found.

        The mean is known at the end only, and a vector that is nearly the mean would lose its digits in fp16. So the
        mean of the very first batch is subtracted at once, and what is left of the pool's mean at the end.
        """
        ready, spec = self.ready, self.ready.spec
        model, by_length = ready.model, length_scaling(ready.model) is not None
        cutting = may_be_cut(model, ready.dataset)
        projection = None if spec.width is None else SparseProjection(spec.width, seed=0)
        loader = ScoringLoader(
            ready.dataset,
            ready.collator,
            self.rows,
            token_budget=self.token_budget,
            rank=context.rank,
            world_size=context.world_size,
            device=device_of(context, model),
            skipped=done,
            same_length=by_length,
            most_tokens=spec.tokens if cutting and spec.span == "all" else None,
        )
        progress = ScoringProgress(
            len(self.rows) - len(done), enabled=context.rank == 0, share=context.world_size, what="embedding"
        )
        with (
            progress,
            rng_scope(devices=True),
            evaluating(model),
            lockstep(model, context.accelerator),
            HiddenStates(model, spec.layers, spec.site) as states,
        ):
            for rows, collated in loader:
                batch = trimmed(collated) if by_length else collated
                chosen = span_tokens(batch, spec.span, spec.tokens)
                if cutting:
                    batch, chosen = cut(batch, chosen)
                with _autocast(context), _memory(chosen.shape):
                    layers = states.of(batch)
                parts = modality_tokens(model.config, batch["input_ids"]) if spec.modalities == "split" else ()
                vectors = row_vectors(
                    layers, chosen, parts, pooling=spec.pooling, squash=spec.squash, projection=projection
                )
                found = None
                if self.centre is Centre.OWN and origin is None:
                    own = vectors.nanmean(dim=0).nan_to_num(0.0).cpu().numpy()
                    origin = found = rank0_decides(own, context.accelerator).astype(np.float32)
                yield rows, self._less(vectors, origin), found
                progress.advance(len(rows))

    def _less(self, vectors: torch.Tensor, origin: Mean | None) -> Half:
        subtracted = self.mean if self.centre is Centre.GIVEN else origin
        if subtracted is not None:
            vectors = vectors - torch.from_numpy(subtracted).to(vectors.device)
        if self.centre is not Centre.OWN:
            vectors = unit(vectors)
        return np.asarray(vectors.half().cpu().numpy())


class _Share:
    """What this rank has of the rows: on rank 0 a place for all of them, elsewhere its own until they are sent."""

    def __init__(self, rows: Rows, *, whole: bool) -> None:
        self._rows, self._whole = rows, whole
        self._own: list[tuple[Rows, Half]] = []
        self.values: Half = np.zeros((0, 0), np.float16)

    def add(self, rows: Rows, values: Half) -> None:
        if not self._whole:
            self._own.append((rows, values))
            return
        if not len(self.values):
            self.values = np.full((len(self._rows), values.shape[1]), np.nan, np.float16)
        self.values[np.searchsorted(self._rows, rows)] = values

    def left(self) -> tuple[Rows, Half]:
        """What is still to be sent to rank 0."""
        if not self._own:
            return self._rows[:0], np.zeros((0, 0), np.float16)
        rows, values = zip(*self._own, strict=True)
        self._own = []
        return np.concatenate(rows), np.concatenate(values)


def _centred_(values: Half, origin: Mean) -> Mean:
    """Subtract from rows what is left of their mean and bring them to length 1, in place.

    Args:
        values: Rows less ``origin``, shape [n, d].
        origin: What has been subtracted already.

    Returns:
        What was subtracted in all; zeros where there is no mean worth it.
    """
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(values), _BLOCK)]
    known = ~np.isnan(values[:, 0])
    sums = sum(np.where(known[part, None], values[part], 0).sum(axis=0, dtype=np.float64) for part in blocks)
    left = (sums / max(int(known.sum()), 1)).astype(np.float32)
    apart = max(
        (float(np.linalg.norm(values[part][known[part]] - left, axis=1).max(initial=0)) for part in blocks), default=0.0
    )
    if known.sum() < _FEWEST or apart < _ALIKE:
        why = f"there are {int(known.sum())}" if known.sum() < _FEWEST else "they are all alike"
        logger.info("the mean over the rows is not subtracted from their embeddings: %s.", why)
        left = -origin
    for part in blocks:
        values[part] = unit(torch.from_numpy(values[part].astype(np.float32) - left)).half().numpy()
    return np.asarray(origin + left, np.float32)


def _autocast(context: RunContext) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if context.accelerator is None else context.accelerator.autocast()


@contextlib.contextmanager
def _memory(shape: torch.Size) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise ComponentError(
            f"embedding ran out of memory on a batch of {shape[0]} x {shape[1]} tokens. Lower "
            "component_params.token_budget (a single long row may exceed it: set tokens, or lower cutoff_len then)."
        ) from error
