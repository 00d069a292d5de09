"""Checks of mixers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from dataflex.components.mix_context import DomainLosses
from dataflex.errors import ConfigError, shown
from dataflex.testing.bench import DOMAINS, STEPS, Bench
from dataflex.testing.check import CheckFailed, NotApplicable
from dataflex.testing.mixer_bench import MixerBench, domain_losses
from dataflex.testing.trainee import poisoned

_CLOSE = 1e-9


def gives_one_proportion_per_domain(bench: Bench) -> None:
    """There is one proportion for each domain.

    Mend: go by ``context.domain_names`` (or ``mixture_manager.names``), not by the length of anything else.
    """
    mixer = _mixer(bench)
    shares = mixer.flat(mixer.decide(mixer.component()))
    if shares.shape != (len(DOMAINS),):
        raise CheckFailed(f"for {len(DOMAINS)} domains it returned an array of shape {list(shares.shape)}")


def proportions_form_a_mixture(bench: Bench) -> None:
    """Proportions are finite, not negative and sum to 1 at every boundary.

    Mend: divide by the sum in double precision; decide what to do when it is 0.
    """
    mixer = _mixer(bench)
    component = mixer.component()
    for step in STEPS:
        answer = mixer.decide(component, step)
        _one_each(mixer, answer)
        try:
            mixer.validate(answer)
        except ConfigError as error:
            raise CheckFailed(f"at step {step}, {error}") from error


def order_of_domains_is_irrelevant(bench: Bench) -> None:
    """Listing the domains in another order gives the same proportions in that order.

    Mend: draw with ``context.domain_rng(step, name)`` for each domain, and break ties by name instead of by place.
    """
    mixer = _mixer(bench)
    mixer.repeatable()
    by_name = []
    for names in (list(DOMAINS), list(DOMAINS)[::-1]):
        component = mixer.component(domains={name: DOMAINS[name] for name in names})
        shares = mixer.numbers(component)
        if shares.shape != (len(names),):
            raise NotApplicable("it does not give one proportion for each: see gives_one_proportion_per_domain")
        by_name.append(dict(zip(names, shares.tolist(), strict=True)))
    forwards, backwards = by_name
    if not np.allclose([forwards[name] for name in DOMAINS], [backwards[name] for name in DOMAINS], atol=_CLOSE):
        raise CheckFailed(f"in one order it gives {forwards}, in the other {backwards}")


def objective_weights_are_weights(bench: Bench) -> None:
    """Weights in the loss are ``None`` or one finite number for each domain, none negative and not all 0.

    Mend: return ``None`` from ``objective_weights()`` to leave the training loss as it is.
    """
    mixer = _mixer(bench)
    component = mixer.component()
    mixer.decide(component)
    tokens = np.array(list(DOMAINS.values()), np.int64)
    weights = mixer.door(component).call("objective_weights", tokens=tokens)
    if weights is None:
        raise NotApplicable("it leaves the training loss as it is")
    given = np.asarray(weights)
    if given.shape != (len(DOMAINS),) or not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise CheckFailed(f"its objective_weights() are {shown(weights)} for {len(DOMAINS)} domains")


def copes_with_a_single_domain(bench: Bench) -> None:
    """One domain of one row gets everything, or an error says what to do.

    Mend: raise ``dataflex.errors.ConfigError`` if the method makes no sense with one domain.
    """
    mixer = _mixer(bench)
    mixer.copes(
        lambda: mixer.ask(mixer.build(domains={"web": 1}), STEPS[0]), mixer.validate, "with one domain of one row"
    )


def copes_with_losses_that_are_nan(bench: Bench) -> None:
    """Losses that are NaN, for one domain or for all, still give a mixture, or an error that says what to do.

    Mend: look at ``numpy.isfinite(losses.mean())``: NaN is also what a domain has of which no token was seen.
    """
    mixer = _mixer(bench)
    names = tuple(DOMAINS)
    for broken, whose in ((names[:1], "one domain"), (names, "all domains")):
        losses = domain_losses(names, broken=frozenset(broken))
        mixer.copes(partial(_ask_poisoned, mixer, losses), mixer.validate, f"when the losses of {whose} are NaN")


def _ask_poisoned(mixer: MixerBench, losses: DomainLosses) -> Any:
    with poisoned(mixer.trainee.model, None):
        return mixer.ask(mixer.build(), STEPS[0], losses)


def _one_each(mixer: MixerBench, answer: Any) -> None:
    if mixer.flat(answer).shape != (len(DOMAINS),):
        raise NotApplicable("it does not give one proportion for each: see gives_one_proportion_per_domain")


def _mixer(bench: Bench) -> MixerBench:
    assert isinstance(bench, MixerBench)
    return bench


MIXERS = (
    gives_one_proportion_per_domain,
    proportions_form_a_mixture,
    order_of_domains_is_irrelevant,
    objective_weights_are_weights,
    copes_with_a_single_domain,
    copes_with_losses_that_are_nan,
)
