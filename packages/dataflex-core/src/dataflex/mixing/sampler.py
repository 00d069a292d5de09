"""Sampling a mixture: whose turn it is (:mod:`.deficit`), which row (:mod:`.domain_rows`).

proportions --> domain of each draw --> next row of that domain --> plan --> shuffled within global batches
                greedy deficit          a permutation per pass               permute_global_batches
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dataflex.config.mixture import OnExhausted, Unit
from dataflex.errors import ConfigError
from dataflex.mixing import deficit
from dataflex.mixing.batch_order import permute_global_batches
from dataflex.mixing.domain_rows import DomainRows
from dataflex.mixing.domains import checked_sizes, domain_of, typical_length
from dataflex.mixing.limits import ENDLESS, limits_in_rows
from dataflex.mixing.proportions import Proportions, check_proportions, in_millionths, join_names
from dataflex.mixing.row_source import RowSource, TypicalRows
from dataflex.mixing.state import MixtureState

__all__ = ["MixtureSampler", "MixtureState", "OnExhausted", "Unit", "permute_global_batches"]

Whole = npt.NDArray[np.int64]

_SLICE = 1 << 20  # draws turned into rows at once: bounds the memory


class MixtureSampler:
    """Draws rows of a pool of domains in given proportions; a function of its arguments and what it drew before.

    Proportions may change at every call of :meth:`draw`; what a domain is owed is carried along. Domain ``k`` owns
    rows ``offsets[k]`` up to ``offsets[k] + sizes[k]`` of the pool. A plan takes 8 bytes a sample; beside it the
    sampler needs 4 bytes a row of the pool and about 2 bytes a sample.

    Args:
        sizes: Rows of each domain.
        names: Names of the domains, all different.
        seed: Seeds the order of rows within each domain.
        unit: What proportions are shares of.
        lengths: Trained tokens of every row of the pool, shape ``[sum(sizes)]``; needed for unit tokens.
        max_epochs: Most passes over a domain, for all or by name; fractions are rounded down to whole rows.
        on_exhausted: What to do when that is reached.

    Raises:
        ConfigError: for arguments that no mixture can be drawn from.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        names: Sequence[str],
        *,
        seed: int,
        unit: Unit = Unit.SAMPLES,
        lengths: Whole | None = None,
        max_epochs: Mapping[str, float] | float | None = None,
        on_exhausted: OnExhausted = OnExhausted.REDISTRIBUTE,
    ) -> None:
        self.names, self.unit, self.on_exhausted = tuple(names), Unit(unit), OnExhausted(on_exhausted)
        self._rows = DomainRows(checked_sizes(sizes, self.names), self.names, seed)
        self._lengths = None if lengths is None else np.asarray(lengths, np.int64)
        self._typical = typical_length(
            self._lengths, self.sizes, self.offsets, self.names, by_tokens=self.unit is Unit.TOKENS
        )
        self._caps = limits_in_rows(max_epochs, self.sizes, self.names)
        self._deficits: Whole = np.zeros(len(self.names), np.int64)
        self._tokens: Whole = np.zeros(len(self.names), np.int64)
        self._finished = np.zeros(len(self.names), np.bool_)
        self._proportions: tuple[float, ...] = ()

    @property
    def sizes(self) -> Whole:
        """Rows of each domain."""
        return self._rows.sizes

    @property
    def offsets(self) -> Whole:
        """First row of each domain in the pool."""
        return self._rows.offsets

    @property
    def counts(self) -> Whole:
        """Samples drawn from each domain so far."""
        return self._rows.epochs * self.sizes + self._rows.cursors

    @property
    def capacity(self) -> float:
        """Samples that ``max_epochs`` allows in all; infinite without it."""
        return math.inf if (self._caps == ENDLESS).any() else float(self._caps.sum())

    @property
    def smallest_limit(self) -> float:
        """The least number of samples that ``max_epochs`` allows a domain; infinite without it."""
        return math.inf if (self._caps == ENDLESS).all() else float(self._caps.min())

    def domain_of(self, rows: npt.ArrayLike) -> Whole:
        """Index of the domain that each row of the pool belongs to."""
        return domain_of(rows, self.sizes)

    def realised(self, unit: Unit) -> Proportions:
        """Share of each domain in all that was drawn; zeros before the first draw, NaN where lengths are unknown."""
        if unit is Unit.TOKENS and self._lengths is None:
            return np.full(len(self.names), np.nan)
        drawn = self.counts if unit is Unit.SAMPLES else self._tokens
        return drawn / max(int(drawn.sum()), 1)

    def draw(
        self, proportions: npt.ArrayLike | Mapping[str, float], num_samples: int, source: RowSource | None = None
    ) -> Whole:
        """Draw the next samples.

        Args:
            proportions: As :func:`~dataflex.mixing.proportions.check_proportions` takes them.
            num_samples: How many.
            source: Says which row of a domain comes next; ``None`` for every row in the passes of the sampler's own.
                Limits of passes count draws, wherever the rows come from. What a source gave is not taken back when
                the draw fails.

        Returns:
            Rows of the pool in the order drawn, shape ``[num_samples]``.

        Raises:
            ConfigError: for unusable proportions, or when ``max_epochs`` leaves nothing to draw. The state is then as
                before the call.
        """
        shares = check_proportions(proportions, self.names, "the mixture")
        before, source = self.state(), self._rows if source is None else source
        try:
            rows = np.empty(num_samples, np.int64)
            done = 0
            while done < num_samples:
                parts = self._active_parts(shares)
                domains, wanted = self._turns(parts, num_samples - done, source)
                self._fill(rows[done : done + len(domains)], domains, source)
                done += len(domains)
                if wanted is not None:
                    self._finish(wanted, parts)
        except ConfigError:
            self.restore(before)
            raise
        self._proportions = tuple(shares.tolist())
        return rows

    def expected(self, proportions: npt.ArrayLike | Mapping[str, float], num_samples: int) -> Whole:
        """How many of the next samples each domain will give; the state stays as it is.

        By samples the numbers are those of :meth:`draw`, limits of passes included. By tokens they are an estimate, as
        if every row of a domain were of its mean length.

        Args:
            proportions: As of :meth:`draw`.
            num_samples: How many.

        Returns:
            Rows of each domain, shape ``[domains]``, summing to ``num_samples``.

        Raises:
            ConfigError: as :meth:`draw`.
        """
        return self.expected_over([(proportions, num_samples)])

    def expected_over(self, stages: Iterable[tuple[npt.ArrayLike | Mapping[str, float], int]]) -> Whole:
        """How many samples each domain will give over stages of other proportions; the state stays as it is.

        Args:
            stages: Proportions and samples of each, in their order.

        Returns:
            As :meth:`expected`.

        Raises:
            ConfigError: as :meth:`draw`.
        """
        before, drawn = self.state(), self.counts
        try:
            for proportions, num_samples in stages:
                self.draw(proportions, num_samples, TypicalRows(self._lengths, self.sizes, self.offsets))
            return self.counts - drawn
        finally:
            self.restore(before)

    def state(self) -> MixtureState:
        """Everything a sampler built with the same arguments needs to go on from here."""
        return MixtureState(
            unit=self.unit.value,
            names=self.names,
            sizes=tuple(self.sizes.tolist()),
            position=int(self.counts.sum()),
            deficits=tuple(self._deficits.tolist()),
            epochs=tuple(self._rows.epochs.tolist()),
            cursors=tuple(self._rows.cursors.tolist()),
            counts=tuple(self.counts.tolist()),
            tokens=tuple(self._tokens.tolist()) if self._lengths is not None else (),
            finished=tuple(self._finished.tolist()),
            proportions=self._proportions,
        )

    def restore(self, state: MixtureState) -> None:
        """Go on from a state; what is drawn next is what would have been drawn without a break.

        Raises:
            ConfigError: when the state is of other domains or another unit; names the difference.
        """
        if tuple(state.names) != self.names:
            raise ConfigError(
                f"the checkpoint's domains are {join_names(state.names)}, this run's are {join_names(self.names)}. "
                "Name the same data sets in the same order, or start anew."
            )
        if state.unit != self.unit:
            raise ConfigError(f"the checkpoint's mixture counts {state.unit}, this run's counts {self.unit}.")
        changed = [k for k, size in enumerate(self.sizes.tolist()) if size != state.sizes[k]]
        if changed:
            listed = join_names([f"{self.names[k]}: {state.sizes[k]} then, {self.sizes[k]} now" for k in changed])
            raise ConfigError(
                f"the rows of the domains are not what they were when the checkpoint was written ({listed}). Restore "
                "the data, or start anew."
            )
        epochs, cursors = np.array(state.epochs, np.int64), np.array(state.cursors, np.int64)
        self._rows.epochs, self._rows.cursors = epochs, cursors
        self._deficits = np.array(state.deficits, np.int64)
        self._tokens = np.array(state.tokens or [0] * len(self.names), np.int64)
        self._finished = np.array(state.finished, np.bool_) & (self.counts >= self._caps)
        self._proportions = tuple(state.proportions)

    def _turns(self, parts: Whole, draws: int, source: RowSource) -> tuple[deficit.Domains, int | None]:
        """Domains of the next draws, up to the one where a domain is due that has no rows left."""
        left = np.maximum(self._caps - self.counts, 0)
        if self._lengths is not None and self.unit is Unit.TOKENS:
            limits = enumerate(np.minimum(left, draws + 1).tolist())
            ahead = [source.lengths_ahead(domain, self._lengths, limit) for domain, limit in limits]
            return deficit.by_tokens(self._deficits, parts, draws, self._typical, ahead)
        capped = bool((self._caps < ENDLESS).any())  # also of domains without a share: they may still be owed a sample
        return deficit.by_samples(self._deficits, parts, draws, left if capped else None)

    def _fill(self, rows: Whole, domains: deficit.Domains, source: RowSource) -> None:
        """Write the next rows of the given domains, in their order, into ``rows``."""
        for start in range(0, len(domains), _SLICE):
            some = domains[start : start + _SLICE]
            counts = np.bincount(some, minlength=len(self.names))
            ends = np.cumsum(counts)
            grouped = np.empty(len(some), np.int64)
            for domain in np.flatnonzero(counts).tolist():
                taken = grouped[ends[domain] - counts[domain] : ends[domain]]
                source.take(domain, taken)
                if source is not self._rows:
                    self._rows.skip(domain, len(taken))
                if self._lengths is not None:
                    self._tokens[domain] += self._lengths[taken].sum()
            rows[start : start + len(some)][np.argsort(some, kind="stable")] = grouped

    def _active_parts(self, shares: Proportions) -> Whole:
        left = np.where(self._finished, 0.0, shares)
        if not left.any():
            raise ConfigError(
                f"max_epochs leaves nothing to draw after {int(self.counts.sum())} samples: every domain with a "
                f"proportion above 0 is used up ({self._passes(np.flatnonzero(shares > 0))}). Raise max_epochs, add "
                "data, or train fewer steps."
            )
        return in_millionths(left)

    def _finish(self, domain: int, parts: Whole) -> None:
        if self.on_exhausted is OnExhausted.STOP:
            raise ConfigError(
                f"domain {self.names[domain]!r} is used up after {int(self.counts.sum())} samples of the mixture "
                f"({self._passes([domain])}). Raise max_epochs, add data, train fewer steps, or let the other domains "
                "take its share (redistribute)."
            )
        self._finished[domain] = True
        others = np.where(self._finished, 0, parts)
        if others.any():
            deficit.hand_over(self._deficits, in_millionths(others), domain)

    def _passes(self, domains: Sequence[int] | Whole) -> str:
        return join_names([f"{self.names[k]}: {self.counts[k]} draws of {self.sizes[k]} rows" for k in domains])
