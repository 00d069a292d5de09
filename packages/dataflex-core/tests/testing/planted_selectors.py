"""Selectors with one fault each. A class is registered under the name of the check that has to find it.

Given to the kit with ``-p``; a name may carry a suffix where one check has several ways to fail.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import torch

from dataflex import Selection, Selector, register_selector


class Sound(Selector):
    """Takes the first rows, again and again where the pool is short."""

    def select(self, model, step_id, num_samples, **kwargs):
        return [row % len(self.dataset) for row in range(num_samples)]


@register_selector("sound")
class TheSoundOne(Sound):
    """A selector without a fault."""


@register_selector("says_what_it_is")
class Nameless(Selector):
    select = Sound.select


@register_selector("parameters_are_typed")
class Untyped(Sound):
    """Has a parameter of any type."""

    def __init__(self, dataset, accelerator, data_collator, cache_dir, share=0.5):
        super().__init__(dataset, accelerator, data_collator, cache_dir)


@register_selector("can_be_built")
class Unbuildable(Sound):
    """Raises in its constructor."""

    def __init__(self, dataset):
        raise RuntimeError("no such file")


@register_selector("decides")
class Mute(Sound):
    """Fails at its second boundary."""

    def select(self, model, step_id, num_samples, **kwargs):
        if step_id > 10:
            raise KeyError("moments")
        return super().select(model, step_id, num_samples)


@register_selector("repeats_itself", stochastic=True)
class Unseeded(Sound):
    """Draws from a generator nobody seeded."""

    def select(self, model, step_id, num_samples, **kwargs):
        return np.random.default_rng().integers(len(self.dataset), size=num_samples)


@register_selector("randomness_is_declared")
class SecretlyRandom(Sound):
    """Draws at random and does not say so."""

    def select(self, model, step_id, num_samples, **kwargs):
        return self.context.rng(step_id).integers(len(self.dataset), size=num_samples)


@register_selector("declared_randomness_is_there", stochastic=True)
class FrozenDraw(Sound):
    """Draws the same rows at each boundary."""

    def select(self, model, step_id, num_samples, **kwargs):
        return self.context.rng(0).integers(len(self.dataset), size=num_samples)


@register_selector("declared_randomness_is_there+seed", stochastic=True)
class DeafToTheSeed(Sound):
    """Draws by the step alone."""

    def select(self, model, step_id, num_samples, **kwargs):
        return np.random.default_rng(step_id).integers(len(self.dataset), size=num_samples)


@register_selector("state_can_be_stored")
class Unstorable(Sound):
    """Has a set in its state."""

    def state_dict(self):
        return {"seen": {1, 2}}

    def load_state_dict(self, state):
        self.seen = state["seen"]


@register_selector("state_can_be_stored+keys")
class WholeKeys(Sound):
    """Has a dict in its state whose keys JSON turns into text."""

    def state_dict(self):
        return {"counts": {1: 2}}

    def load_state_dict(self, state):
        self.counts = state["counts"]


@register_selector("state_gives_the_same_next_decision")
class Forgetful(Sound):
    """Counts its decisions, and begins anew after a resume."""

    def __init__(self, params, context):
        super().__init__(params, context)
        self.counter = itertools.count()

    def select(self, model, step_id, num_samples, **kwargs):
        first = next(self.counter)
        return [(first + row) % len(self.dataset) for row in range(num_samples)]


@register_selector("state_gives_the_same_next_decision+load")
class OneWay(Sound):
    """Gives a state and cannot take it back."""

    def state_dict(self):
        return {"weights": torch.ones(2)}


@register_selector("ranks_agree")
class Selfish(Sound):
    """Decides by rank."""

    def select(self, model, step_id, num_samples, **kwargs):
        return [(row + self.context.rank) % len(self.dataset) for row in range(num_samples)]


@register_selector("returns_the_count_asked_for")
class Short(Sound):
    """Returns a row too few."""

    def select(self, model, step_id, num_samples, **kwargs):
        return super().select(model, step_id, num_samples)[1:]


@register_selector("returns_rows_of_the_pool")
class Outside(Sound):
    """Counts rows from 1."""

    def select(self, model, step_id, num_samples, **kwargs):
        return [len(self.dataset) - row for row in range(num_samples)]


@register_selector("warms_up")
class Cold(Sound):
    """Has a warm-up that cannot repeat rows."""

    def warmup(self, num_samples, replacement=False):
        return list(range(len(self.dataset)))[:num_samples]


@register_selector("metrics_are_numbers")
class Verbose(Sound):
    """Reports an array."""

    def select(self, model, step_id, num_samples, **kwargs):
        return Selection(super().select(model, step_id, num_samples), {"scores": np.ones(3)})


@register_selector("copes_with_a_pool_of_one")
class NeedsTwo(Sound):
    """Divides by one less than the size of the pool."""

    def select(self, model, step_id, num_samples, **kwargs):
        stride = 1 + num_samples // (len(self.dataset) - 1)
        return [stride * row % len(self.dataset) for row in range(num_samples)]


@register_selector("copes_with_fewer_rows_than_asked_for")
class Exhausted(Sound):
    """Never repeats a row."""

    def select(self, model, step_id, num_samples, **kwargs):
        return list(range(len(self.dataset)))[:num_samples]


@register_selector("copes_with_scores_that_are_nan")
class ByLogit(Sound):
    """Draws by weights that may be NaN."""

    def select(self, model, step_id, num_samples, **kwargs):
        flags = [(module, module.training) for module in model.modules()]
        try:
            for module, _ in flags:
                module.training = False
            with torch.no_grad():
                scores = np.array([self._score(model, row) for row in range(len(self.dataset))])
        finally:
            for module, training in flags:
                module.training = training
        return np.random.default_rng(step_id).choice(len(scores), size=num_samples, p=scores / scores.sum())

    def _score(self, model, row):
        return model(**self.data_collator([dict(self.dataset[row])])).loss.item()


@register_selector("global_generators_are_untouched+random")
class PythonGenerator(Sound):
    """Draws from Python's generator."""

    def select(self, model, step_id, num_samples, **kwargs):
        random.random()
        return super().select(model, step_id, num_samples)


@register_selector("global_generators_are_untouched+numpy")
class NumpyGenerator(Sound):
    """Seeds NumPy's generator."""

    def select(self, model, step_id, num_samples, **kwargs):
        np.random.seed(step_id)
        return super().select(model, step_id, num_samples)


@register_selector("global_generators_are_untouched+torch")
class TorchGenerator(Sound):
    """Draws from torch's generator."""

    def select(self, model, step_id, num_samples, **kwargs):
        torch.rand(1)
        return super().select(model, step_id, num_samples)


@register_selector("weights_are_untouched")
class Trainer(Sound):
    """Moves a weight."""

    def select(self, model, step_id, num_samples, **kwargs):
        with torch.no_grad():
            next(model.parameters()).add_(1e-3)
        return super().select(model, step_id, num_samples)


@register_selector("gradients_are_untouched")
class Residue(Sound):
    """Leaves gradients behind."""

    def select(self, model, step_id, num_samples, **kwargs):
        sum(value.sum() for value in model.parameters()).backward()
        return super().select(model, step_id, num_samples)


@register_selector("trainability_is_untouched")
class Freezer(Sound):
    """Freezes a parameter."""

    def select(self, model, step_id, num_samples, **kwargs):
        next(model.parameters()).requires_grad_(False)
        return super().select(model, step_id, num_samples)


@register_selector("optimizer_is_untouched")
class Meddler(Sound):
    """Works on the moments in place."""

    def select(self, model, step_id, num_samples, optimizer_state=None):
        for moments in optimizer_state.values():
            moments["exp_avg"].zero_()
        return super().select(model, step_id, num_samples)


@register_selector("train_mode_is_untouched")
class ForcesTrain(Sound):
    """Puts every module into train mode, whatever it was in."""

    def select(self, model, step_id, num_samples, **kwargs):
        model.eval()
        model.train()
        return super().select(model, step_id, num_samples)


@register_selector("hooks_are_untouched")
class Barb(Sound):
    """Leaves a hook in the model."""

    def select(self, model, step_id, num_samples, **kwargs):
        next(model.children()).register_forward_hook(lambda *_: None)
        return super().select(model, step_id, num_samples)


@register_selector("hooks_are_untouched+parameter")
class ParameterHook(Sound):
    """Leaves a hook on a parameter."""

    def select(self, model, step_id, num_samples, **kwargs):
        next(model.parameters()).register_hook(lambda gradient: gradient)
        return super().select(model, step_id, num_samples)


@register_selector("writes_only_to_its_work_directory")
class Litter(Sound):
    """Writes beside its work directory."""

    def select(self, model, step_id, num_samples, **kwargs):
        (Path(self.cache_dir).parent / "scores.txt").write_text("1 2 3")
        return super().select(model, step_id, num_samples)
