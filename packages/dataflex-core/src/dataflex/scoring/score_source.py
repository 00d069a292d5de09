"""Where scores that need no target come from: the model as training began, or another one; made once for a pool."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from dataflex.components.context import RunContext
from dataflex.distributed import together
from dataflex.errors import ComponentError
from dataflex.math.selection_cost import RowCost
from dataflex.paths import user_path
from dataflex.scoring.embedded_model import RunModel
from dataflex.scoring.embedding_cost import forward_size, other_size
from dataflex.scoring.encoded_turns import context_of_other
from dataflex.scoring.index_cache import SCORES
from dataflex.scoring.initial_model import adapters_at_rest, without_adapters
from dataflex.scoring.other_model import OtherModel
from dataflex.scoring.row_scores import RowScores, fingerprint_of, kept_scores, read_scores

logger = logging.getLogger("dataflex")

INITIAL = "initial"
"""The run's own model, as training began."""

Floats = npt.NDArray[np.float64]
Make = Callable[[nn.Module, RunContext], Mapping[str, Floats]]
"""From a model and a context whose pool is in that model's tokens to numbers of each row, shape ``[pool]``, by name."""

_KEY, _PAID, _AT_REST, _SAVED = "scores_key", "scores_paid", "scores_adapters_at_rest", "scores_saved"


class ScoreSource:
    """Makes and keeps the scores of one component, which need a model and no target.

    The component calls :meth:`begin` from its own and :meth:`at` from ``select``, and keeps :meth:`state_dict`.

    Args:
        context: The run.
        make: Computes the scores. Called on every rank, at most once for a pool, weights and ``spec``.
        spec: What ``make`` computes, with every parameter it depends on, JSON values; ``score`` is its name.
        model: :data:`INITIAL`, or path or hub id of another causal language model.
        folder: Where scores are kept for other runs too; ``None`` for the component's ``cache_dir``.
        forward: Forward passes that ``make`` takes for each row.
    """

    def __init__(
        self,
        context: RunContext,
        make: Make,
        spec: Mapping[str, Any],
        *,
        model: str,
        folder: str | None,
        forward: float = 1.0,
    ) -> None:
        self._context, self._make, self._model = context, make, model
        self._spec = {**spec, "header": list(context.answer_header)}
        self._folder = Path(context.cache_dir if folder is None else user_path(folder))
        self._forward = forward
        self._held: RowScores | None = None
        self._key, self._at_rest, self._paid = "", False, False
        self._spent, self._saved = 0.0, np.zeros(2)

    def begin(self, model: nn.Module) -> None:
        """With :data:`INITIAL`: score the pool with the model as training begins. Called on every rank.

        Where only scores are wanted, this waits for :meth:`at`: a checkpoint's state may name scores that are there.
        """
        if self._model == INITIAL and self._context.trains:
            self._remember(model)

    def at(self, model: nn.Module) -> tuple[RowScores, dict[str, float]]:
        """The scores, and what making them took, for the decision. Called on every rank.

        Args:
            model: The model in training.

        Returns:
            The scores; ``score_seconds``, and ``index_seconds_saved`` and ``index_cpu_seconds_saved`` where they lay
            ready and this run had not paid for them.

        Raises:
            ComponentError: when the scores of the model as training began are gone and cannot be made again.
        """
        if self._held is None:
            self._held = self._initial(model) if self._model == INITIAL else self._of_other()
        metrics = {"score_seconds": self._spent}
        if self._saved.any():
            metrics["index_seconds_saved"], metrics["index_cpu_seconds_saved"] = self._saved.tolist()
        self._spent, self._saved = 0.0, np.zeros(2)
        return self._held, metrics

    def cost(self, model: nn.Module) -> RowCost:
        """What the scores cost a run, once; those that lie ready are counted as if they had to be made."""
        share = 1.0
        if self._model != INITIAL:
            own, other = forward_size(model), other_size(self._model, None, self._context)
            share = other / own if own and other else 1.0
        return RowCost(forward=self._forward * share, rows=len(self._context.dataset), times=1)

    def state_dict(self) -> dict[str, Any]:
        """Which scores this run uses, and whether it has paid for them."""
        return {_KEY: self._key, _AT_REST: self._at_rest, _PAID: self._paid, _SAVED: self._saved.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave; the scores are read when they are needed."""
        self._held = None
        self._key, self._at_rest = str(state.get(_KEY, "")), bool(state.get(_AT_REST, False))
        self._paid = bool(state.get(_PAID, False))
        self._saved = np.asarray(state.get(_SAVED, (0.0, 0.0)), np.float64)

    def _remember(self, model: nn.Module) -> RowScores:
        self._at_rest = adapters_at_rest(model)
        self._key = fingerprint_of(RunModel(model, self._context), self._spec, self._context)
        self._held = self._kept(lambda: self._make(model, self._context))
        return self._held

    def _initial(self, model: nn.Module) -> RowScores:
        """What ``begin`` made, in an earlier part of the run."""
        if not self._key:
            if self._context.trains:
                logger.warning("begin() was not called, so the model scores as it is now.")
            return self._remember(model)
        found = read_scores(self._folder, self._key, self._context)
        if found is not None:
            return self._count(found)
        if not self._at_rest:
            raise ComponentError(
                f"the scores of the model as training began are gone: {self._folder / (SCORES + self._key)}. Put them "
                "back or start anew; or set component_params.score_model to a path, which can be had again."
            )
        logger.info("the scores of the model as training began are gone: they are made again without its adapters.")
        with without_adapters(model):
            return self._kept(lambda: self._make(model, self._context))

    def _of_other(self) -> RowScores:
        other = OtherModel(self._model, self._context, head=True, who="score_model")

        def make() -> Mapping[str, Floats]:
            with together("preparing rows to score", self._context.accelerator):
                context = context_of_other(other, self._context)
            return self._make(other.load()[0], context)

        try:
            self._key = fingerprint_of(other, self._spec, self._context)
            return self._kept(make)
        finally:
            other.free()

    def _kept(self, make: Callable[[], Mapping[str, Floats]]) -> RowScores:
        facts = {"spec": self._spec, "model": "run" if self._model == INITIAL else self._model}
        return self._count(kept_scores(self._key, make, facts, self._folder, self._context))

    def _count(self, made: RowScores) -> RowScores:
        if not made.found:
            self._spent += made.seconds
        elif not self._paid:
            self._saved += np.asarray([made.seconds, made.cpu_seconds])
        self._paid = True
        return made
