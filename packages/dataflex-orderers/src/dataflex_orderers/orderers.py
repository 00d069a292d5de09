"""The seven orderers: each a pattern with its parameters."""

from __future__ import annotations

import numpy as np

from dataflex import Pattern
from dataflex_orderers import params, patterns
from dataflex_orderers.patterns import Ranks


class Shuffle(Pattern):
    """Any order, another in each pass."""

    params: params.ShuffleParams

    def ranks(self, n: int, rng: np.random.Generator) -> Ranks:
        """See :func:`dataflex_orderers.patterns.shuffle`."""
        return patterns.shuffle(n, rng)


class Sorting(Pattern):
    """By score, from one end to the other."""

    params: params.SortingParams

    def ranks(self, n: int, rng: np.random.Generator) -> Ranks:
        """See :func:`dataflex_orderers.patterns.sorting`."""
        return patterns.sorting(n)


class Folding(Pattern):
    """All scores in each of several cycles."""

    params: params.FoldingParams

    def ranks(self, n: int, rng: np.random.Generator) -> Ranks:
        """See :func:`dataflex_orderers.patterns.folding`."""
        return patterns.folding(n, self.params.layers)


class Zigzag(Pattern):
    """All scores in each of several cycles, every second one backwards."""

    params: params.ZigzagParams

    def ranks(self, n: int, rng: np.random.Generator) -> Ranks:
        """See :func:`dataflex_orderers.patterns.zigzag`."""
        return patterns.zigzag(n, self.params.layers)


class Segment(Pattern):
    """Ends of the scores at the ends of a pass."""

    params: params.SegmentParams

    def ranks(self, n: int, rng: np.random.Generator) -> Ranks:
        """See :func:`dataflex_orderers.patterns.segment`."""
        own = self.params
        return patterns.segment(n, own.front, own.back, own.front_from, own.back_from, rng)


class Stair(Pattern):
    """By score, folded around the cuts between sections."""

    params: params.StairParams

    def ranks(self, n: int, rng: np.random.Generator) -> Ranks:
        """See :func:`dataflex_orderers.patterns.stair`."""
        return patterns.stair(n, self.params.sections, self.params.radius, self.params.layers)


class Saw(Pattern):
    """By score, zigzagged around the cuts between sections."""

    params: params.SawParams

    def ranks(self, n: int, rng: np.random.Generator) -> Ranks:
        """See :func:`dataflex_orderers.patterns.saw`."""
        return patterns.saw(n, self.params.sections, self.params.radius, self.params.layers)
