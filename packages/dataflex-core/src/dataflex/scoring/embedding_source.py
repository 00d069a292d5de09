"""Where a component's embeddings come from: the model at each boundary, as training began, or another one.

Shapes: n rows, V queries, d numbers of a row.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from dataflex.components.context import RunContext
from dataflex.components.passes import Subtask
from dataflex.errors import ComponentError
from dataflex.math.selection_cost import RowCost
from dataflex.paths import user_path
from dataflex.scoring.embedding_cost import embedding_share
from dataflex.scoring.embedding_params import INITIAL, RUN, EmbeddingParams, PoolEmbeddingParams
from dataflex.scoring.embeddings import Embeddings, embed_with, read_embeddings, subject
from dataflex.scoring.index_cache import PREFIX
from dataflex.scoring.initial_model import adapters_at_rest, without_adapters
from dataflex.scoring.subtasks import subtasks_of

logger = logging.getLogger("dataflex")

Rows = npt.NDArray[np.int64]
Half = npt.NDArray[np.float16]
Metrics = dict[str, float | list[float]]

_KEYS, _PAID, _AT_REST = "embedding_keys", "embedding_paid", "embedding_adapters_at_rest"
_SAVED = "embedding_saved"  # what the next decision is to record


@dataclass(frozen=True)
class Embedded:
    """Rows of the pool and of the eval sets, centred by the same mean.

    Attributes:
        rows: Rows of the pool, ascending, shape [n].
        pool: Their embeddings, fp16, shape [n, d], on rank 0; ``None`` elsewhere. NaN for a row without one.
        targets: Those of the eval sets' rows, one array [V, d] a target, on rank 0; ``None`` elsewhere.
        metrics: What making them took, for the decision: ``embedding_seconds``; ``index_seconds_saved`` and
            ``index_cpu_seconds_saved`` where an index lay ready that this run has not paid for.
        fingerprint: Of the pool's and the targets' embeddings.
    """

    rows: Rows
    pool: Half | None
    targets: list[Half] | None
    metrics: Metrics
    fingerprint: str


class PoolEmbeddingSource:
    """Makes and keeps the embeddings of the pool for one component.

    The component calls :meth:`begin` from its own and :meth:`at` from ``select``, and keeps :meth:`state_dict`.

    Args:
        params: What the run file says.
        context: The run.
        more: Fields of the :class:`~dataflex.scoring.embeddings.EmbeddingSpec` that are the component's own affair.
    """

    def __init__(self, params: PoolEmbeddingParams, context: RunContext, **more: Any) -> None:
        self._params, self._context = params, context
        self._spec = params.spec(**more)
        own = context.cache_dir
        shared = own if params.embeddings_dir is None else user_path(params.embeddings_dir)
        self._folder = own / "at-boundary" if params.embedding_model == RUN else Path(shared)
        self._held: list[Embeddings] = []
        self._keys: list[str] = []
        self._paid: set[str] = set()
        self._at_rest = False
        self._spent, self._saved = 0.0, np.zeros(2)

    def begin(self, model: nn.Module) -> None:
        """With ``initial``: embed pool and eval sets with the model as training begins. Called on every rank.

        Where only scores are wanted, this waits for :meth:`at`: a checkpoint's state may name an index that is there.
        """
        if self._params.embedding_model == INITIAL and self._context.trains:
            self._remember(model)

    def _remember(self, model: nn.Module) -> list[Embeddings]:
        self._at_rest = adapters_at_rest(model)
        self._held = self._make(model, self._all_rows(), self.subtasks())
        self._keys = [each.fingerprint for each in self._held]
        return self._held

    def subtasks(self) -> list[Subtask]:
        """The eval sets that are embedded with the pool: none."""
        return []

    def cost(self, model: nn.Module, rows: int | None = None) -> RowCost:
        """What the embeddings cost a run: of the model in training at each boundary, else once.

        An index that lies ready is counted as if it had to be made.

        Args:
            model: The model in training.
            rows: Rows of the pool that a boundary looks at; ``None`` for all. Embeddings that are made once are of all.
        """
        each_time, size = self._params.embedding_model == RUN, len(self._context.dataset)
        looked_at = size if rows is None or not each_time else min(rows, size)
        return RowCost(
            forward=embedding_share(model, self._spec, self._context),
            rows=looked_at + sum(len(subtask.rows) for subtask in self.subtasks()),
            times=None if each_time else 1,
        )

    def at(self, model: nn.Module, rows: Rows) -> Embedded:
        """The embeddings of rows of the pool and of the eval sets. Called on every rank with the same rows.

        Args:
            model: The model in training.
            rows: Ascending, each once.

        Raises:
            ComponentError: when the embeddings of the model as training began are gone and cannot be made again.
        """
        if self._params.embedding_model == RUN:
            found = self._make(model, rows, self.subtasks())
            self._drop_others(found)
        else:
            if not self._held:
                self._held = self._initial(model) if self._params.embedding_model == INITIAL else self._of_other()
            found = self._held
        metrics: Metrics = {"embedding_seconds": self._spent}
        if self._saved.any():
            metrics["index_seconds_saved"], metrics["index_cpu_seconds_saved"] = self._saved.tolist()
        self._spent, self._saved = 0.0, np.zeros(2)
        pool, targets = found[0], found[1:]
        values = None if pool.values is None else pool.values[np.searchsorted(pool.rows, rows)]
        of_targets = [each.values for each in targets if each.values is not None]
        return Embedded(
            rows=rows,
            pool=values,
            targets=of_targets if values is not None else None,
            metrics=metrics,
            fingerprint=" ".join(each.fingerprint for each in found),
        )

    def state_dict(self) -> dict[str, Any]:
        """Which indexes this run uses and has paid for; nothing where each boundary makes its own."""
        if self._params.embedding_model == RUN:
            return {}
        state: dict[str, Any] = {_PAID: sorted(self._paid), _SAVED: self._saved.tolist()}
        return state | ({_KEYS: self._keys, _AT_REST: self._at_rest} if self._keys else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave; the indexes are read when they are needed."""
        self._held = []
        self._keys = [str(key) for key in state.get(_KEYS, ())]
        self._paid = {str(key) for key in state.get(_PAID, ())}
        self._at_rest = bool(state.get(_AT_REST, False))
        self._saved = np.asarray(state.get(_SAVED, (0.0, 0.0)), np.float64)

    def _make(
        self, model: nn.Module | None, rows: Rows, subtasks: Sequence[Subtask], keys: Any = ()
    ) -> list[Embeddings]:
        made: list[Embeddings] = []
        data = [(self._context.dataset, rows), *((each.dataset, each.rows) for each in subtasks)]
        with subject(model, self._spec, self._context) as embedded:
            for place, (dataset, those) in enumerate(data):
                each = embed_with(
                    embedded,
                    dataset,
                    those,
                    self._spec,
                    self._context,
                    token_budget=self._params.token_budget,
                    mean=made[0].mean if made and self._spec.center else None,
                    folder=self._folder,
                    key=keys[place] if keys else None,
                )
                made.append(each)
                self._count(each)
        return made

    def _count(self, made: Embeddings) -> None:
        cost = np.asarray([made.seconds, made.cpu_seconds])
        if not made.found:
            self._spent += made.seconds
        elif made.fingerprint not in self._paid:
            self._saved += cost
        if self._params.embedding_model != RUN:
            self._paid.add(made.fingerprint)

    def _of_other(self) -> list[Embeddings]:
        return self._make(None, self._all_rows(), self.subtasks())

    def _initial(self, model: nn.Module) -> list[Embeddings]:
        """What ``begin`` made, in an earlier part of the run."""
        if not self._keys:
            if self._context.trains:
                logger.warning("begin() was not called, so the model is embedded with as it is now.")
            return self._remember(model)
        found = [read_embeddings(self._folder, key, self._context) for key in self._keys]
        if all(each is not None for each in found):
            return [each for each in found if each is not None]
        if not self._at_rest:
            gone = next(key for key, each in zip(self._keys, found, strict=True) if each is None)
            raise ComponentError(
                f"the embeddings of the model as training began are gone: {self._folder / (PREFIX + gone)}. Put them "
                "back or start anew; or set component_params.embedding_model to a path, which can be had again."
            )
        logger.info("the embeddings of the model as training began are gone: they are made again without its adapters.")
        with without_adapters(model):
            return self._make(model, self._all_rows(), self.subtasks(), self._keys)

    def _all_rows(self) -> Rows:
        return np.arange(len(self._context.dataset), dtype=np.int64)

    def _drop_others(self, kept: Sequence[Embeddings]) -> None:
        """Of a model in training only the last boundary's embeddings are of use, to a run that is killed meanwhile."""
        if self._context.rank != 0:
            return
        names = {PREFIX + each.fingerprint for each in kept}
        for path in self._folder.glob(f"{PREFIX}*"):
            if path.name not in names:
                shutil.rmtree(path, ignore_errors=True)


class EmbeddingSource(PoolEmbeddingSource):
    """The same for pool and eval sets.

    Args:
        params: What the run file says.
        context: The run.
        who: The component, for messages.
        more: As of :class:`PoolEmbeddingSource`.
    """

    def __init__(self, params: EmbeddingParams, context: RunContext, *, who: str, **more: Any) -> None:
        super().__init__(params, context, **more)
        self._targets, self._who = params.targets, who

    def subtasks(self) -> list[Subtask]:
        """The eval sets that are aimed at."""
        return subtasks_of(self._context.eval_datasets, None, self._targets, who=self._who)
