"""Every check there is, by kind of component, in the order in which they are worth reading."""

from __future__ import annotations

from dataflex.kinds import KINDS, load
from dataflex.spec import Kind
from dataflex.testing.check import Check
from dataflex.testing.checks.decisions import DECISIONS
from dataflex.testing.checks.declarations import DECLARATIONS
from dataflex.testing.checks.side_effects import SIDE_EFFECTS


def checks_for(kind: Kind) -> tuple[Check, ...]:
    """The checks that a component of a kind has to pass."""
    functions = (*DECLARATIONS, *DECISIONS, *load(KINDS[kind].checks), *SIDE_EFFECTS)
    return tuple(Check(function) for function in functions)
