"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, hookimpl


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``random``."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="random",
            target="dataflex_selectors_random.selector:RandomSelector",
            params="dataflex_selectors_random.params:RandomParams",
            api=1,
            summary="Draw samples uniformly at random; the baseline.",
            stochastic=True,
            gives_scores=False,
            gives_weights=False,
        )
    ]
