"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, hookimpl


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The mixer ``loss``."""
    return [
        ComponentSpec(
            kind=Kind.MIXER,
            name="loss",
            target="dataflex_mixers_loss.mixer:LossMixer",
            params="dataflex_mixers_loss.params:LossParams",
            api=1,
            summary="More of the domains with a high training loss: a softmax of the losses since the last update.",
            needs=frozenset({Need.DOMAINS, Need.DOMAIN_LOSSES}),
        )
    ]
