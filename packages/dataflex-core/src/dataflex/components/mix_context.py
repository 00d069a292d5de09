"""What a mixer is told: the domains, the proportions in force, and the losses since the last boundary.

A context is fixed for the run while proportions and losses move, so they are read through :class:`MixtureView`, which
the planner brings up to date before each ``mix()``.

Torch-free at import time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from dataflex.components.context import RunContext
from dataflex.errors import ComponentError

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DomainLosses:
    """Token losses of each domain, summed over a span of training steps, all ranks and micro-batches.

    Attributes:
        sums: Sum of the losses of all trained tokens; shape ``[domains]``.
        tokens: Number of those tokens; shape ``[domains]``.
        samples: Number of samples they came from; shape ``[domains]``.
    """

    sums: Floats
    tokens: Whole
    samples: Whole

    @classmethod
    def zeros(cls, domains: int) -> DomainLosses:
        """Nothing seen yet."""
        return cls(np.zeros(domains), np.zeros(domains, np.int64), np.zeros(domains, np.int64))

    def __add__(self, other: DomainLosses) -> DomainLosses:
        return DomainLosses(self.sums + other.sums, self.tokens + other.tokens, self.samples + other.samples)

    def mean(self) -> Floats:
        """Mean loss per token; NaN for a domain of which no token was seen. Shape ``[domains]``."""
        seen = self.tokens > 0
        return np.where(seen, self.sums / np.where(seen, self.tokens, 1), np.nan)


@dataclass(frozen=True, eq=False)
class StepStats:
    """One optimizer step, as :meth:`dataflex.Mixer.on_step` sees it; the same on every rank.

    Attributes:
        step: Optimizer steps done, this one included.
        losses: Its losses per domain. Those of the model before the step's update.
        scores: Sums of what :meth:`dataflex.Mixer.token_scores` gave for its tokens; shape ``[domains]``. All zero for
            a mixer without that method.
    """

    step: int
    losses: DomainLosses
    scores: Floats


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """One training micro-batch of this rank, as :meth:`dataflex.Mixer.token_scores` sees it: B samples, T tokens.

    Attributes:
        rows_B: Its rows in the pool.
        inputs: The batch as the model was given it, labels included.
        losses_BT: Token losses without gradient, fp32, shape [B, T-1]: entry ``t`` belongs to token ``t + 1``.
        mask_BT: Where there is a target, bool, likewise; losses are 0 elsewhere.
    """

    rows_B: Whole
    inputs: Mapping[str, Any]
    losses_BT: torch.Tensor
    mask_BT: torch.Tensor


class MixtureView:
    """The mixture as it stands. For components to read: arrays are read-only, only the planner calls :meth:`update`.

    Attributes:
        names: Names of the domains, in the order of every array.
        sizes: Rows of each domain; shape ``[domains]``.
        tokens: Trained tokens of each domain, or ``None`` where rows have not been measured; shape ``[domains]``.
    """

    def __init__(
        self,
        names: Sequence[str],
        sizes: npt.ArrayLike,
        proportions: npt.ArrayLike,
        *,
        tokens: npt.ArrayLike | None = None,
    ) -> None:
        self.names = tuple(names)
        self.sizes: Whole = _read_only(sizes, np.int64)
        self.tokens: Whole | None = None if tokens is None else _read_only(tokens, np.int64)
        self._proportions: Floats = _read_only(proportions, np.float64)
        self._losses = DomainLosses.zeros(len(self.names))
        self._step = 0

    @property
    def proportions(self) -> Floats:
        """Proportions in force, asked for rather than realised; shape ``[domains]``."""
        return self._proportions

    @property
    def losses(self) -> DomainLosses:
        """Losses of the training steps since the last boundary. All zero unless the spec has Need.DOMAIN_LOSSES."""
        return self._losses

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self._step

    def update(
        self,
        *,
        step: int | None = None,
        proportions: npt.ArrayLike | None = None,
        losses: DomainLosses | None = None,
    ) -> None:
        """Show what has changed; what is left out stays. For the planner alone."""
        if step is not None:
            self._step = step
        if proportions is not None:
            self._proportions = _read_only(proportions, np.float64)
        if losses is not None:
            self._losses = losses


class MixtureManager:
    """The mixture as classes in the design note's style know it."""

    def __init__(self, mixture: MixtureView) -> None:
        self._mixture = mixture

    @property
    def names(self) -> list[str]:
        """Names of the domains, in the order of the proportions."""
        return list(self._mixture.names)

    @property
    def sizes(self) -> list[int]:
        """Rows of each domain."""
        return [int(size) for size in self._mixture.sizes]

    @property
    def proportions(self) -> Floats:
        """Proportions in force; read-only, shape ``[domains]``."""
        return self._mixture.proportions


class EvaluatedRows(StrEnum):
    """Which rows of a domain are looked at where they are not all."""

    STEP = "step"
    FIXED = "fixed"


Evaluator = Callable[[str, int | None, EvaluatedRows], float]


def _no_evaluation(domain: str, max_samples: int | None, rows: EvaluatedRows) -> float:
    raise ComponentError(f"the loss of domain {domain!r} was asked for, but this run has nothing to evaluate it with.")


@dataclass(frozen=True, kw_only=True)
class MixContext(RunContext):
    """The run as a mixer sees it. Handed to native mixers as ``context``.

    Attributes:
        mixture: The domains and what holds for them now.
        evaluator: What :meth:`evaluate` calls.
        row_tokens: Trained tokens of each row, as the collator makes them, or ``None`` where rows have not been
            measured; shape ``[pool]``.
    """

    mixture: MixtureView
    evaluator: Evaluator = _no_evaluation
    row_tokens: Whole | None = None

    @property
    def domain_names(self) -> tuple[str, ...]:
        """Names of the domains, in the order of every array."""
        return self.mixture.names

    @property
    def domain_sizes(self) -> Whole:
        """Rows of each domain; shape ``[domains]``."""
        return self.mixture.sizes

    @property
    def domain_tokens(self) -> Whole | None:
        """Trained tokens of each domain, or ``None`` where rows have not been measured; shape ``[domains]``."""
        return self.mixture.tokens

    @property
    def proportions(self) -> Floats:
        """Proportions in force; shape ``[domains]``."""
        return self.mixture.proportions

    @property
    def losses(self) -> DomainLosses:  # type: ignore[override]  # older than the method
        """Losses of the training steps since the last boundary, by domain.

        Losses of single rows, which a selector's context gives under this name, come from
        ``context.passes.losses(context, model, rows)``.
        """
        return self.mixture.losses

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.mixture.step

    @property
    def mixture_manager(self) -> MixtureManager:
        """What a class in the design note's style gets under this name."""
        return MixtureManager(self.mixture)

    def evaluate(self, domain: str, max_samples: int | None = None, rows: Literal["step", "fixed"] = "step") -> float:
        """Mean loss per token of a domain under the current model, by a forward pass made now, on every rank.

        Args:
            domain: Its name.
            max_samples: Rows to look at; all if not given.
            rows: ``"step"`` draws them anew at each boundary, ``"fixed"`` once for the run, by (seed, domain): what a
                loss falls by between two boundaries is else lost in the difference of two samples.

        Raises:
            ComponentError: for an unknown domain, or where the run has no means to evaluate.
        """
        if domain not in self.domain_names:
            raise ComponentError(
                f"there is no domain {domain!r} to evaluate; there are {', '.join(self.domain_names)}."
            )
        return self.evaluator(domain, max_samples, EvaluatedRows(rows))

    def fixed_rows(self, domain: str, max_samples: int | None = None) -> Whole:
        """Rows of a domain to look at again and again: the same at every boundary, on every rank and at a resume.

        Args:
            domain: Its name.
            max_samples: How many, drawn from (seed, name); all if not given or not below the domain's size.

        Returns:
            Rows of the pool, ascending.

        Raises:
            ComponentError: for an unknown domain.
        """
        if domain not in self.domain_names:
            raise ComponentError(f"there is no domain {domain!r}; there are {', '.join(self.domain_names)}.")
        place = self.domain_names.index(domain)
        rows = int(self.domain_sizes[:place].sum()) + np.arange(self.domain_sizes[place], dtype=np.int64)
        if max_samples is None or max_samples >= len(rows):
            return rows
        return np.sort(self.domain_rng(0, domain).choice(rows, size=max_samples, replace=False))

    def domain_rng(self, step: int, domain: str) -> np.random.Generator:
        """A private generator that is a function of (seed, step, name): another order of domains changes nothing."""
        name = int.from_bytes(hashlib.blake2b(domain.encode(), digest_size=8).digest(), "little")
        return np.random.default_rng([self.seed, step, name])


def _read_only(values: npt.ArrayLike, dtype: type) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array
