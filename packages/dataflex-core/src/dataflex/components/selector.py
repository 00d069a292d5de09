"""Selectors choose which samples of the pool come next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from dataflex.components.context import RunContext, logger
from dataflex.components.old_selector import OldSelectorMethods
from dataflex.components.stateful import Stateful
from dataflex.errors import ComponentError

if TYPE_CHECKING:
    from torch import nn

    from dataflex.components.labels import LabelDirections
    from dataflex.math.selection_cost import RowCost

__all__ = ["Selection", "Selector", "logger", "random_rows"]


@dataclass(frozen=True)
class Selection:
    """Rows chosen for the next stage, with what the component wants to be recorded about them.

    Attributes:
        rows: Row indices into the pool, in training order; shape ``[num_samples]``.
        metrics: Numbers for the Decision, e.g. ``{"mean_tokens": 212.5}``.
        scores: Score of every row of the pool, shape ``[pool]``, NaN where a row was not scored; optional.
        weights: One for each chosen row, in their order, finite and not negative: the loss of a step is then
            ``sum w_i S_i / N`` over its rows, with their summed losses ``S_i`` and the step's target tokens ``N``. They
            are not normalised. ``None`` trains on the stock loss.
        target_scores: The same for each target by its name, where a score is made of several; ``dataflex score``
            writes each as a column ``score_NAME``.
    """

    rows: Sequence[int] | npt.NDArray[np.int64]
    metrics: Mapping[str, float | list[float]] = field(default_factory=dict)
    scores: npt.NDArray[np.float64] | None = None
    weights: Sequence[float] | npt.NDArray[np.float64] | None = None
    target_scores: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)


class Selector(OldSelectorMethods, Stateful):
    """Base class of selectors.

    A native class keeps the inherited constructor, ``(params, context)``, and finds both as attributes. A class in
    the style of the design note calls ``super().__init__(dataset, accelerator, data_collator, cache_dir)``. Either
    way ``dataset``, ``accelerator``, ``data_collator``, ``cache_dir`` and ``seed`` are attributes; in the note's style
    the seed is 42 unless the class sets it.
    """

    params: Any
    context: RunContext | None
    dataset: Any
    accelerator: Any
    data_collator: Any
    cache_dir: str | Path
    seed: int

    @overload
    def __init__(self, params: Any, context: RunContext) -> None: ...

    @overload
    def __init__(self, dataset: Any, accelerator: Any, data_collator: Any, cache_dir: str | Path) -> None: ...

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = ("params", "context") if _is_native(args, kwargs) else _NOTE_ARGUMENTS
        unknown = set(kwargs) - set(names)
        if len(args) > len(names) or unknown:
            raise TypeError(f"{type(self).__name__}: Selector takes (params, context) or {_NOTE_ARGUMENTS}")
        given = dict(zip(names, args, strict=False)) | kwargs
        self.params = given.get("params")
        self.context = given.get("context")
        self.seed = self.context.seed if self.context is not None else _NOTE_SEED
        for name in _NOTE_ARGUMENTS:
            setattr(self, name, getattr(self.context, name) if self.context is not None else given.get(name))

    def warmup(self, num_samples: int, replacement: bool = False) -> Sequence[int] | npt.NDArray[np.int64]:
        """Choose the samples of the warm-up stage: by default at random.

        Args:
            num_samples: Samples of the whole stage, over all ranks.
            replacement: Draw each sample independently. Otherwise no row repeats before all have been drawn.
        """
        return random_rows(
            np.random.default_rng([self.seed, 0]), len(self.dataset), num_samples, replacement=replacement
        )

    def select(
        self, model: nn.Module, step_id: int, num_samples: int, **kwargs: Any
    ) -> Sequence[int] | npt.NDArray[np.int64] | Selection:
        """Pick the samples for the next stage.

        Called on every rank; all ranks must return the same. The model arrives unwrapped and must leave unchanged:
        parameters, gradients, train mode and hooks. The global random state is restored afterwards.

        Args:
            model: The current model.
            step_id: Optimizer steps done so far.
            num_samples: How many rows to return, over all ranks.
            kwargs: Run-time facts by name: ``optimizer_state`` (by parameter), ``scheduler_state``,
                ``current_update_times`` (1 at the first boundary), ``update_times``, ``tokenizer``. A class that
                does not take ``kwargs`` gets only those it names.

        Returns:
            ``num_samples`` row indices into the pool, or a :class:`Selection`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define select()")

    def scoring_cost(self, model: nn.Module) -> RowCost | None:
        """What its scores cost, so that a run can tell how many steps the selection takes and what it may take.

        Called on every rank, before training and at the first boundary. ``None`` says nothing, and then nothing is
        told.

        Args:
            model: The model in training; a method that does not name it is called without.
        """
        return None

    def begin(self, model: nn.Module) -> None:
        """Look at the model as training begins.

        Called once, on every rank, before the first optimizer step of a new run, when the weights are loaded; not when
        a run is resumed, so what it makes belongs into :meth:`state_dict` or, if it is large, into a file of
        ``cache_dir``. ``dataflex score`` calls it before :meth:`select`, and gives the state of a checkpoint back
        after it. The model is in evaluation mode and must be left as it was.

        Args:
            model: The model, unwrapped.
        """

    def on_rows(
        self,
        step: int,
        rows: npt.NDArray[np.int64],
        losses: npt.NDArray[np.float64] | None = None,
        labels: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Hear which rows a step trained on. Called after every optimizer step, those of the warm-up included.

        Called on every rank with the same; a class that does not define it costs nothing. If it fails, the resumed
        run calls it again.

        Args:
            step: Optimizer steps done, this one included.
            rows: The rows of all ranks, in the order of the plan; shape ``[G]``.
            losses: Their mean token losses before the step's update, NaN for a row without a target; shape ``[G]``.
                ``None`` unless the component declares ``Need.SAMPLE_LOSSES``.
            labels: Inner products made in the step's own backward, fp64, NaN for a row without a gradient; shape
                ``[G, S]``, a column for each of :meth:`directions`. ``None`` in a step without directions.
        """

    def directions(self, model: nn.Module, step_id: int) -> LabelDirections | None:
        """What the rows of the coming step are to be compared with; :meth:`on_rows` is then given their labels.

        Asked on every rank before the first forward of each step, if the class defines it and :meth:`on_rows`. Return
        the same object while nothing has changed: taking up another costs a copy. It may be made here, with a pass over
        an eval set; the model must be left as it was.

        Args:
            model: The model, unwrapped, as the last step left it.
            step_id: Optimizer steps done so far.

        Returns:
            The directions, equal on every rank; ``None`` for no labels in this step.
        """
        return None


_NOTE_SEED = 42  # of dataflex 1.x
_NOTE_ARGUMENTS = ("dataset", "accelerator", "data_collator", "cache_dir")


def _is_native(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return "context" in kwargs or (len(args) == 2 and isinstance(args[1], RunContext))


def valid_scores(answer: Any, pool_size: int) -> npt.NDArray[np.float64]:
    """Check the scores a selector reports with its rows.

    Args:
        answer: Any sequence or array of numbers.
        pool_size: Rows of the pool.

    Returns:
        The scores, shape ``[pool_size]``.

    Raises:
        ComponentError: for another shape.
    """
    scores = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer, np.float64)
    if scores.shape != (pool_size,):
        raise ComponentError(
            f"it returned scores of shape {list(scores.shape)}; there must be one for each of the {pool_size} rows of "
            "the pool, NaN for a row that was not scored"
        )
    return scores


def random_rows(
    rng: np.random.Generator, pool_size: int, num_samples: int, *, replacement: bool = False
) -> npt.NDArray[np.int64]:
    """Draw rows uniformly; without replacement, each pass over the pool is a fresh permutation.

    Returns:
        Row indices, shape ``[num_samples]``.
    """
    if pool_size < 1:
        raise ValueError("cannot draw from an empty pool")
    if replacement:
        return rng.integers(pool_size, size=num_samples, dtype=np.int64)
    passes = [rng.permutation(pool_size) for _ in range(-(-num_samples // pool_size))]
    return np.concatenate([*passes, np.zeros(0, np.int64)])[:num_samples].astype(np.int64)
