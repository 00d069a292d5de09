"""Mixers with one fault each, named like planted_selectors.py."""

from __future__ import annotations

import numpy as np

from dataflex import Mixer, register_mixer
from dataflex.spec import Need


class Sound(Mixer):
    """Keeps the proportions uniform."""

    def mix(self, model, step_id, **kwargs):
        count = len(self.context.domain_names)
        return np.full(count, 1 / count)


@register_mixer("sound", needs={Need.DOMAIN_LOSSES})
class TheSoundOne(Mixer):
    """Gives a domain more where the loss is higher; a mixer without a fault."""

    def __init__(self, params, context):
        super().__init__(params, context)
        self.sums = np.zeros(len(context.domain_names))

    def on_step(self, stats):
        self.sums = self.sums + np.nan_to_num(stats.losses.mean())

    def mix(self, model, step_id, **kwargs):
        return dict(zip(self.context.domain_names, (self.sums + 1) / (self.sums + 1).sum(), strict=True))

    def objective_weights(self):
        return np.full(len(self.sums), 0.5)

    def state_dict(self):
        return {"sums": self.sums}

    def load_state_dict(self, state):
        self.sums = state["sums"]


@register_mixer("gives_one_proportion_per_domain")
class OneTooMany(Sound):
    """Adds a proportion."""

    def mix(self, model, step_id, **kwargs):
        count = len(self.context.domain_names) + 1
        return np.full(count, 1 / count)


@register_mixer("proportions_form_a_mixture")
class Unnormalised(Sound):
    """Does not divide by the sum."""

    def mix(self, model, step_id, **kwargs):
        return super().mix(model, step_id) * 1.1


@register_mixer("proportions_form_a_mixture+negative")
class Negative(Sound):
    """Takes from one domain more than it has."""

    def mix(self, model, step_id, **kwargs):
        shares = [1.0 if name == "web" else 0.0 for name in self.context.domain_names]
        return np.array(shares) * 1.5 - 0.5 / len(shares)


@register_mixer("order_of_domains_is_irrelevant")
class ByPlace(Sound):
    """Favours the domain that is listed first."""

    def mix(self, model, step_id, **kwargs):
        weights = 0.5 ** np.arange(len(self.context.domain_names))
        return weights / weights.sum()


@register_mixer("objective_weights_are_weights")
class BadWeights(Sound):
    """Has a negative weight in the loss."""

    def objective_weights(self, tokens):
        return np.full(len(self.context.domain_names), -1.0)


@register_mixer("copes_with_a_single_domain")
class Pairs(Sound):
    """Takes the second domain for granted."""

    def mix(self, model, step_id, **kwargs):
        assert self.context.domain_names[1]
        return super().mix(model, step_id)


@register_mixer("copes_with_losses_that_are_nan")
class ByLoss(Sound):
    """Gives proportions by losses that may be NaN."""

    def mix(self, model, step_id, **kwargs):
        means = self.context.losses.mean()
        return means / means.sum()


@register_mixer("copes_with_losses_that_are_nan+evaluated")
class ByEvaluation(Sound):
    """Gives proportions by the losses of an evaluation, which may be NaN."""

    def mix(self, model, step_id, **kwargs):
        losses = np.array([self.context.evaluate(name) for name in self.context.domain_names])
        return losses / losses.sum()


@register_mixer("ranks_agree")
class Selfish(Sound):
    """Decides by rank."""

    def mix(self, model, step_id, **kwargs):
        first = min(self.context.domain_names) if self.context.rank else max(self.context.domain_names)
        return {name: float(name == first) for name in self.context.domain_names}


@register_mixer("state_gives_the_same_next_decision")
class Forgetful(Sound):
    """Follows the losses since it was built."""

    def __init__(self, params, context):
        super().__init__(params, context)
        self.steps = 1

    def on_step(self, stats):
        self.steps += 1

    def mix(self, model, step_id, **kwargs):
        rest = 0.5 / self.steps
        shares = {name: rest / len(self.context.domain_names) for name in self.context.domain_names}
        shares[min(shares)] += 1 - rest
        return shares
