"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, hookimpl


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The mixer ``random``."""
    return [
        ComponentSpec(
            kind=Kind.MIXER,
            name="random",
            target="dataflex_mixers_random.mixer:RandomMixer",
            params="dataflex_mixers_random.params:RandomParams",
            api=1,
            summary="Draw the proportions at random (Dirichlet); the baseline.",
            needs=frozenset({Need.DOMAINS}),
            stochastic=True,
        )
    ]
