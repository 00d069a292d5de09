"""Orderers with one fault each, named like planted_selectors.py."""

from __future__ import annotations

import numpy as np

from dataflex import Orderer, Pattern, register_orderer
from dataflex.math.ordering import ranked


class Sound(Orderer):
    """Orders by score."""

    def order(self, rows, scores):
        return rows[ranked(scores)]


@register_orderer("sound", stochastic=True)
class TheSoundOne(Pattern):
    """A pattern without a fault."""

    def ranks(self, n, rng):
        return rng.permutation(n)


@register_orderer("sound+order")
class TheOtherSoundOne(Sound):
    """An orderer without a fault that looks at everything it may ask for."""

    def order(self, rows, scores, rng, model, step_id, domain):
        assert model is not None and step_id >= 0 and domain is None
        return list(super().order(rows, scores))


@register_orderer("returns_each_row_once")
class Twice(Pattern):
    """Gives a rank twice."""

    def ranks(self, n, rng):
        return np.arange(n) // 2 * 2


@register_orderer("returns_each_row_once+places")
class Places(Sound):
    """Returns places in place of rows."""

    def order(self, rows, scores):
        return np.argsort(scores)


@register_orderer("orders_an_empty_queue")
class Spread(Pattern):
    """Divides by the number of gaps."""

    def ranks(self, n, rng):
        return np.rint(np.arange(n) * ((n - 1) / max(n - 1, 0) if n - 1 else 1 // (n - 1))).astype(int)


@register_orderer("orders_equal_and_missing_scores")
class Known(Sound):
    """Leaves out rows without a score."""

    def order(self, rows, scores):
        order = rows[np.argsort(scores, kind="stable")]
        return order[: int(np.isfinite(scores).sum())]


@register_orderer("goes_by_the_order_of_scores_alone")
class ByDistance(Sound):
    """Orders by the distance from a number."""

    def order(self, rows, scores):
        return rows[ranked(np.abs(scores - 0.4))]


@register_orderer("ranks_agree")
class Selfish(Sound):
    """Decides by rank."""

    def order(self, rows, scores):
        return super().order(rows, scores)[:: -1 if self.context.rank else 1]


@register_orderer("state_gives_the_same_next_decision")
class Forgetful(Sound):
    """Turns about with every pass since it was built."""

    turns = 0

    def order(self, rows, scores):
        self.turns += 1
        return np.roll(super().order(rows, scores), self.turns)
