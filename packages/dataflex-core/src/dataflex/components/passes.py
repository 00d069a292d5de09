"""Passes over the pool that a component may ask for, and what they give. Core hands in who makes them.

    component --context.score(model, rows, fn)--> Passes (dataflex.gradients.passes) --> Scored, the same on every rank

Torch-free at import time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from dataflex.errors import ComponentError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dataflex.components.context import RunContext

Floats = npt.NDArray[np.float64]
ScoreFn = Callable[["nn.Module", Mapping[str, Any]], "torch.Tensor"]
"""From (model, batch) to scores of the batch's rows: fp32 or fp64, shape [B] or [B, width], NaN for no score."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Facts:
    """What is known of a finished pass; the same on every rank but for the times.

    Attributes:
        seconds: Wall-clock seconds of the pass.
        rows_per_second: Rows scored in it by second, over all ranks; resumed ones do not count.
        resumed: Rows whose scores an interrupted pass had left.
        non_finite: Rows asked for that have no finite score.
    """

    seconds: float = 0.0
    rows_per_second: float = 0.0
    resumed: int = 0
    non_finite: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored(Facts):
    """Scores of rows of the pool.

    Attributes:
        values: fp64, shape ``[pool]``, or ``[pool, width]`` for a width above 1; NaN where a row was not asked for or
            has no score.
    """

    values: Floats


@dataclass(frozen=True, eq=False)
class PoolLosses(Facts):
    """Losses of rows of the pool.

    Attributes:
        means: Mean loss per target token, fp64, shape ``[pool]``; NaN where a row was not scored or has no target.
        targets: Target tokens of each row, fp64, shape ``[pool]``; NaN where a row was not scored.
        non_finite: Rows that have a target and no finite loss.
    """

    means: Floats
    targets: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class PreferenceScores(Facts):
    """What a stage of preferences makes of rows of the pool: pairs (dpo, rm), or answers with a mark (kto).

    Attributes:
        losses: The stage's own loss of each row, fp64, shape ``[pool]``; NaN where a row was not scored or has none.
        margins: Reward of the chosen answer less that of the rejected one, likewise; NaN throughout without pairs.
    """

    losses: Floats
    margins: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class GradientScores(Scored):
    """What a sink made of the gradients of rows of the pool.

    Attributes:
        targets: Target tokens of each row, fp64, shape ``[pool]``; NaN where a row was not asked for.
        non_finite: Rows that have a target and no finite score.
        size: Numbers in one row's gradient.
        excluded: Trainable parameters that were left out.
        one_by_one: Why rows were measured one at a time, which is slower; ``""`` if they were measured in batches.
    """

    targets: Floats
    size: int
    excluded: tuple[str, ...]
    one_by_one: str


@dataclass(frozen=True, eq=False)
class Subtask:
    """Validation samples that belong together: a candidate is compared with their mean direction.

    Attributes:
        name: For messages.
        dataset: Where the samples are.
        rows: Which rows of it, at least one.
    """

    name: str
    dataset: Any
    rows: npt.NDArray[np.int64]


class RowSink(Protocol):
    """Receives the gradients of a batch's rows piece by piece and gives each row its scores.

    Shapes: B rows of a batch, C of them in one piece, n numbers of one parameter.

    Attributes:
        width: Scores of one row. 0 for a sink that only adds up over rows; ``scores`` is then not asked.
    """

    width: int

    def restart(self) -> None:
        """Forget all batches so far: a pass begins, or begins anew with one row at a time."""

    def begin(self, samples: int, device: torch.device) -> None:
        """A batch of ``samples`` rows begins."""

    def take(self, name: str, samples: slice, grads_Cn: torch.Tensor) -> None:
        """Receive one parameter's gradients of some rows.

        Args:
            name: The parameter.
            samples: Which rows of the batch.
            grads_Cn: Their gradients in fp32, flattened; the sink may overwrite them.
        """

    def finish(self) -> None:
        """All gradients of the batch have been received."""

    def scores(self) -> torch.Tensor:
        """Scores of the batch's rows, shape [B] or [B, width], NaN for no score."""


class Objective(Protocol):
    """Scores rows with the loss of a run's stage, where that is not the next-token loss of single answers.

    Attributes:
        width: Numbers of one row that a batch is asked for.
        settings: What the numbers depend on beside weights and rows, JSON values.
        reference: Another model that they depend on, or ``None``.
    """

    width: int
    settings: Mapping[str, Any]
    reference: nn.Module | None

    def numbers(self, model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """Numbers of a batch's rows that no other row has a part in, fp32 or fp64, shape [B, width]."""

    def scores(self, numbers_NW: Floats) -> tuple[Floats, Floats]:
        """Loss and margin of each row, shape [N], from the numbers of all. Called on every rank, with the same."""


class Passes(Protocol):
    """Makes the passes that a :class:`~dataflex.RunContext` offers."""

    def score(
        self,
        context: RunContext,
        model: nn.Module,
        rows: npt.ArrayLike,
        fn: ScoreFn,
        *,
        width: int,
        token_budget: int | None,
        max_batch: int | None,
        key: Any,
        what: str,
    ) -> Scored:
        """See :meth:`~dataflex.RunContext.score`."""

    def losses(
        self, context: RunContext, model: nn.Module, rows: npt.ArrayLike, *, token_budget: int | None, key: Any
    ) -> PoolLosses:
        """See :meth:`~dataflex.RunContext.losses`."""

    def preferences(
        self, context: RunContext, model: nn.Module, rows: npt.ArrayLike, *, token_budget: int | None, key: Any
    ) -> PreferenceScores:
        """See :meth:`~dataflex.RunContext.preferences`."""

    def gradients(
        self,
        context: RunContext,
        model: nn.Module,
        rows: npt.ArrayLike,
        sink: RowSink,
        *,
        parameters: Literal["all", "linear"],
        key: Any,
    ) -> GradientScores:
        """See :meth:`~dataflex.RunContext.gradients`."""


class NoPasses:
    """Stands for the passes in a context that was made by hand, and says where one with passes comes from."""

    def score(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        self._refuse("score")

    def losses(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        self._refuse("losses")

    def preferences(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        self._refuse("preferences")

    def gradients(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        self._refuse("gradients")

    def _refuse(self, method: str) -> NoReturn:
        raise ComponentError(
            f"context.{method}() was called, but this context was made by hand and cannot run the model over the pool. "
            "In a test, make it with dataflex.testing.make_context(...)."
        )
