"""Every check there is, by kind of component, in the order in which they are worth reading."""

from __future__ import annotations

from dataflex.spec import Kind
from dataflex.testing.check import Check
from dataflex.testing.checks.decisions import DECISIONS
from dataflex.testing.checks.declarations import DECLARATIONS
from dataflex.testing.checks.mixers import MIXERS
from dataflex.testing.checks.selectors import SELECTORS
from dataflex.testing.checks.side_effects import SIDE_EFFECTS
from dataflex.testing.checks.weighters import WEIGHTERS

_OF_A_KIND = {Kind.SELECTOR: SELECTORS, Kind.MIXER: MIXERS, Kind.WEIGHTER: WEIGHTERS}


def checks_for(kind: Kind) -> tuple[Check, ...]:
    """The checks that a component of a kind has to pass."""
    functions = (*DECLARATIONS, *DECISIONS, *_OF_A_KIND[kind], *SIDE_EFFECTS)
    return tuple(Check(function) for function in functions)
