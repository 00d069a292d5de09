"""How many rows each domain will give up to a later step, by the mixer's shares and the schedule."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from dataflex.config.plan import Part
from dataflex.errors import ConfigError
from dataflex.mixing.proportions import Proportions
from dataflex.mixing.sampler import MixtureSampler
from dataflex.schedule import Schedule
from dataflex.trainers.planners.mix import MixPlanner

Rows = npt.NDArray[np.int64]

SayReach = Callable[[npt.NDArray[np.float64]], None]
"""Called once with the passes over each domain, shape ``[domains]``, where its rows cannot be counted."""


class RowsAhead:
    """What the selector has to choose, and how far an ordered pass will come.

    Args:
        schedule: Of the run.
        sampler: Draws the domains.
        global_batch: Samples of a step.
        selector: ``None`` for whole domains.
        mix: ``None`` for one domain.
        agreed: Under which the mixer is asked on every rank.
    """

    def __init__(
        self,
        schedule: Schedule,
        sampler: MixtureSampler,
        global_batch: int,
        selector: Part | None,
        mix: MixPlanner | None,
        agreed: Callable[[MixPlanner], AbstractContextManager[None]],
    ) -> None:
        self._schedule, self._sampler, self._global_batch = schedule, sampler, global_batch
        self._selector, self._mix, self._agreed = selector, mix, agreed
        self._said_reach = False

    def chosen_until(self, stage: int) -> int:
        """Optimizer step at which the selector is asked next, or the run ends."""
        schedule, every = self._schedule, 1 if self._selector is None else self._selector.every
        if stage == 0:
            return schedule.warmup
        following = ((stage - 1) // every + 1) * every  # boundary after which it chooses again
        return min(schedule.warmup + following * schedule.update, schedule.total)

    def wanted(self, shares: Proportions, ahead: int, now: int, *, keeps: bool) -> Rows:
        """Rows to choose of each domain for the ``ahead`` samples of the steps until then, ``now`` in this stage."""
        sizes = self._sampler.sizes
        if keeps and self._selector is not None:
            kept: Rows = np.maximum(np.floor(float(self._selector.keep) * sizes + 0.5), 1).astype(np.int64)
            return kept
        try:
            return self._sampler.expected(shares, ahead)
        except ConfigError:  # the shares may have moved before a limit is reached
            return self._sampler.expected(shares, now)

    def places(
        self, shares: Proportions, stage: int, step: int, end: int, say: SayReach, sizes_K: Rows | None = None
    ) -> list[int] | None:
        """Rows that each domain will give up to a step; ``None`` where nobody can know, which is said once."""
        try:
            stages = self._stages(shares, stage, step, end)
            if stages is not None:
                places: list[int] = self._sampler.expected_over(stages).tolist()
                return places
            given_K = self._sampler.expected(shares, (end - step) * self._global_batch)
        except ConfigError:  # a limit of passes would be reached, of which the draw itself will tell
            return None
        if not self._said_reach:
            say(given_K / np.maximum(self._sampler.sizes if sizes_K is None else sizes_K, 1))
        self._said_reach = True
        return None

    def _stages(self, shares: Proportions, stage: int, step: int, end: int) -> list[tuple[Proportions, int]] | None:
        """Shares and samples of each stage up to a step; ``None`` where the mixer cannot know them yet."""
        mix = self._mix
        stages: list[tuple[Proportions, int]] = []
        with contextlib.nullcontext() if mix is None else self._agreed(mix):
            while step < end:
                until = min(self._schedule.bounds(stage)[1], end)
                stages.append((shares, (until - step) * self._global_batch))
                step, stage = until, stage + 1
                if mix is not None and step < end and mix.is_due(stage):
                    planned = mix.planned(step)
                    if planned is None:
                        return None
                    shares = planned
        return stages
