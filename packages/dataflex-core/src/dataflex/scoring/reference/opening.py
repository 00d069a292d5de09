"""The losses of a reference model, from where the parameters of a component say."""

from __future__ import annotations

from collections.abc import Mapping

from dataflex.components.context import RunContext
from dataflex.scoring.reference.model import Reference
from dataflex.scoring.reference.params import ReferenceLosses


def open_reference(
    name: str, losses: ReferenceLosses, context: RunContext, token_budget: int | None, hashes: Mapping[str, str]
) -> Reference:
    """Open a reference model; called on every rank.

    Args:
        name: A folder (of a full model or an adapter) or a name on a hub.
        losses: Computed once for the whole pool, or by a second model in memory.
        context: The run.
        token_budget: Padded tokens of one batch of the reference; ``None`` for what suits the device.
        hashes: What :func:`~dataflex.scoring.reference.model.identities` gave.

    Raises:
        ConfigError: when it cannot be loaded.
        ComponentError: on every rank, when it has a loss that is not finite.
    """
    if losses is ReferenceLosses.LIVE:
        from dataflex.scoring.reference.live import LiveReference

        return LiveReference(name, context, token_budget)
    from dataflex.scoring.reference.cached import CachedReference

    return CachedReference(name, context, token_budget, hashes)
