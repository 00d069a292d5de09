"""Embeddings of rows: what a model's hidden layers make of them, one unit vector a row.

    hidden states -> tokens of the span -> squash -> pool -> length 1 -> less the pool's mean -> length 1

Rows of a causal language model point almost the same way, so that cosines between them say little until the mean over
the pool is subtracted. Each rank embeds a share of the rows; they are gathered on rank 0 alone.

Shapes: n rows, B rows of a batch, d numbers of a row.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from dataflex.components.context import RunContext
from dataflex.distributed import all_gather, assert_same_on_all_ranks, rank0_decides, together
from dataflex.errors import ComponentError
from dataflex.scoring.embedded_model import EmbeddedModel, RunModel
from dataflex.scoring.embedding_pass import Centre, Pass
from dataflex.scoring.index_store import Index, IndexStore
from dataflex.scoring.other_model import OtherModel

logger = logging.getLogger("dataflex")

CODE = 1
"""Version of what the numbers of an index mean; part of its key."""

PART_SECONDS = 60.0
"""How often the finished parts of an index are written."""

Rows = npt.NDArray[np.int64]
Mean = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class EmbeddingSpec:
    """What a row's embedding is made of.

    Attributes:
        model: ``run``: the model in training, as it is now. Else the path or hub id of another one, frozen.
        layers: Numbers as of transformers' ``hidden_states``: 0 what enters the first block, L or -1 what leaves the
            final norm. Empty: five, spread over the depth: m L / 6 for m = 1 .. 5, rounded, from 1 on.
        site: ``block``: what leaves a block. ``attention``: what leaves its attention, after the output projection.
        pooling: How a row's tokens become one vector; ``weighted_mean``: the t-th token weighs t.
        span: Which tokens count: all, those without a label (``prompt``) or those with one (``answer``).
        tokens: Only the first so many tokens of the span; ``None`` for all.
        squash: ``tanh`` of each token before pooling, or of the pooled vector (``tanh_of_mean``).
        modalities: ``split``: tokens of pictures and of text are two blocks.
        center: Subtract the mean over the rows of the pool.
        width: Project to so many numbers, rounded up to a multiple of 4, by a sparse random projection.
    """

    model: str = "run"
    layers: tuple[int, ...] = (-1,)
    site: Literal["block", "attention"] = "block"
    pooling: Literal["mean", "weighted_mean", "last"] = "weighted_mean"
    span: Literal["all", "prompt", "answer"] = "all"
    tokens: int | None = None
    squash: Literal["none", "tanh", "tanh_of_mean"] = "none"
    modalities: Literal["joint", "split"] = "joint"
    center: bool = True
    width: int | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ComponentError(f"{name} of an embedding is {value}; it is at least 1, or null.")


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Rows of length 1.

    Attributes:
        rows: The rows, ascending, each once, shape [n].
        values: fp16, shape [n, d], on rank 0; ``None`` on the other ranks. NaN for a row without a token in the span.
        mean: What was subtracted from every row, shape [d]: the mean over the pool, or zeros.
        fingerprint: Of all that they depend on: weights, rows, spec, precision and the version of the code.
        seconds: What making them took, whoever did.
        cpu_seconds: Likewise, over all ranks.
        found: Whether they lay ready on disk.
    """

    rows: Rows
    values: npt.NDArray[np.float16] | None
    mean: Mean
    fingerprint: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    found: bool = False


def embed(
    model: nn.Module | None,
    dataset: Any,
    rows: npt.ArrayLike,
    spec: EmbeddingSpec,
    context: RunContext,
    *,
    token_budget: int | None = None,
    mean: Mean | None = None,
    folder: Path | None = None,
) -> Embeddings:
    """Embed rows of a data set, or take from disk what was embedded before. Called on every rank with the same rows.

    No logits are made, and the pass ends at the deepest layer that is needed. Padding and batches change nothing but
    rounding. The model is afterwards as it was. In fp32 but for the model's own pass; the rows are kept in fp16.

    Args:
        model: The model of the run; not looked at where ``spec`` names another one.
        dataset: The pool or an eval set: tokenised, map-style.
        rows: Which of its rows; repeated ones count once.
        spec: What the embedding is made of.
        context: The run.
        token_budget: Tokens of one batch, padding included; ``None`` for what suits the device.
        mean: What to subtract where ``spec`` centres: the pool's mean, for rows of an eval set. ``None`` takes the mean
            over these rows; where they are fewer than 3 or all alike, nothing is subtracted.
        folder: Where indexes are kept, for other runs too; ``None`` for the component's ``cache_dir``.

    Raises:
        ComponentError: on every rank, when a row is none of the data set or cannot be read, ranks ask for different
            rows, the model has no such layer, or the spec does not fit model or rows.
        ConfigError: when the other model cannot be found or loaded.
    """
    with subject(model, spec, context) as embedded:
        return embed_with(embedded, dataset, rows, spec, context, token_budget=token_budget, mean=mean, folder=folder)


@contextlib.contextmanager
def subject(model: nn.Module | None, spec: EmbeddingSpec, context: RunContext) -> Iterator[EmbeddedModel]:
    """The model that ``spec`` names, for several calls of :func:`embed_with`; another one is loaded when it is needed.

    Raises:
        ComponentError: when the run's own is meant and none is given.
    """
    if spec.model == "run":
        if model is None:
            raise ComponentError("the embedding is of the run's own model, but none was given.")
        yield RunModel(model, context)
        return
    other = OtherModel(spec.model, context)
    try:
        yield other
    finally:
        other.free()


def embed_with(
    embedded: EmbeddedModel,
    dataset: Any,
    rows: npt.ArrayLike,
    spec: EmbeddingSpec,
    context: RunContext,
    *,
    token_budget: int | None = None,
    mean: Mean | None = None,
    folder: Path | None = None,
    part_seconds: float | None = None,
    key: str | None = None,
) -> Embeddings:
    """:func:`embed` with a model from :func:`subject`.

    Args:
        embedded: The model.
        dataset: See :func:`embed`, as for what is not named here.
        rows: Which of its rows.
        spec: What the embedding is made of.
        context: The run.
        token_budget: Tokens of one batch.
        mean: What to subtract.
        folder: Where indexes are kept.
        part_seconds: How often finished parts are written; ``None`` for each minute.
        key: The fingerprint under which what is made is known already; ``None`` makes it.
    """
    chosen = _checked(dataset, rows, context)
    key = key or fingerprint_of(embedded, dataset, chosen, spec, context, mean)
    part_seconds = PART_SECONDS if part_seconds is None else part_seconds
    place = context.cache_dir if folder is None else folder
    store = IndexStore(place, key, rank=context.rank, accelerator=context.accelerator, seconds=part_seconds)
    while not store.claim():
        if (found := _read(store, key, context)) is not None:
            return found
    try:
        index = _make(embedded, dataset, chosen, spec, context, token_budget, mean, store)
    finally:
        store.release()
    seconds = rank0_decides(np.asarray([index.seconds, index.cpu_seconds]), context.accelerator).tolist()
    values = index.values if context.rank == 0 else None
    return Embeddings(
        rows=chosen, values=values, mean=index.mean, fingerprint=key, seconds=seconds[0], cpu_seconds=seconds[1]
    )


def read_embeddings(folder: Path, key: str, context: RunContext) -> Embeddings | None:
    """An index that was made before, by its fingerprint; ``None`` where it is gone. Called on every rank."""
    return _read(IndexStore(folder, key, rank=context.rank, accelerator=context.accelerator), key, context)


def fingerprint_of(
    embedded: EmbeddedModel,
    dataset: Any,
    rows: Rows,
    spec: EmbeddingSpec,
    context: RunContext,
    mean: Mean | None = None,
) -> str:
    """The key of an index, the same on every rank: not of ranks, seed or step, nor of where a model lies."""
    settings = {
        "spec": asdict(replace(spec, model="")),
        "precision": str(getattr(context.accelerator, "mixed_precision", "no")),
        "mean": None if mean is None else np.asarray(mean, np.float32).tobytes().hex(),
        "code": CODE,
    }
    own = embedded.fingerprint(dataset, rows, settings) if context.rank == 0 or embedded.on_every_rank else ""
    return str(all_gather(own, context.accelerator)[0])


def _make(
    embedded: EmbeddedModel,
    dataset: Any,
    rows: Rows,
    spec: EmbeddingSpec,
    context: RunContext,
    token_budget: int | None,
    mean: Mean | None,
    store: IndexStore,
) -> Index:
    began, cpu = time.monotonic(), time.process_time()
    centre = Centre.NONE if not spec.center else Centre.OWN if mean is None else Centre.GIVEN
    with together("preparing rows to embed", context.accelerator):
        ready = embedded.ready(dataset, rows, spec)
    values, subtracted = Pass(ready, rows, centre, mean, token_budget).run(context, store)
    seconds = time.monotonic() - began + store.earlier[0]
    spent = sum(all_gather(time.process_time() - cpu, context.accelerator)) + store.earlier[1]
    index = Index(rows, values, subtracted, seconds, float(spent))
    if context.rank == 0:
        logger.info("embedded %d rows in %.1f s (%.1f rows/s).", len(rows), seconds, len(rows) / max(seconds, 1e-9))
        if lost := int(np.isnan(values[:, 0]).sum()):
            logger.warning("%d of %d rows have no token in the span (%s), so no embedding.", lost, len(rows), spec.span)
        store.write(index, {"version": CODE, "spec": asdict(spec), "model": embedded.name})
    return index


def _read(store: IndexStore, key: str, context: RunContext) -> Embeddings | None:
    index = store.read() if context.rank == 0 else None
    said = None if index is None else (index.rows, index.mean, index.seconds, index.cpu_seconds)
    said = all_gather(said, context.accelerator)[0]
    if said is None:
        return None
    rows, mean, seconds, cpu_seconds = said
    if context.rank == 0:
        logger.info("%d embeddings were ready in %s.", len(rows), store.path)
    return Embeddings(
        rows=rows,
        values=None if index is None else index.values,
        mean=mean,
        fingerprint=key,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        found=True,
    )


def _checked(dataset: Any, rows: npt.ArrayLike, context: RunContext) -> Rows:
    asked, size = np.asarray(rows), len(dataset)
    if asked.ndim != 1 or not len(asked) or not np.issubdtype(asked.dtype, np.integer):
        raise ComponentError(
            f"rows to embed must be a list of indices, not {asked.dtype} of shape {list(asked.shape)}."
        )
    chosen = np.unique(asked.astype(np.int64))
    if not 0 <= chosen[0] <= chosen[-1] < size:
        outside = chosen[0] if chosen[0] < 0 else chosen[-1]
        raise ComponentError(f"row {outside} was to be embedded; the data set has rows 0 to {size - 1}.")
    assert_same_on_all_ranks("the list of rows to embed", chosen, context.accelerator)
    return chosen
