"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, hookimpl


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The weighter ``loss``."""
    return [
        ComponentSpec(
            kind=Kind.WEIGHTER,
            name="loss",
            target="dataflex_weighters_loss.weighter:LossWeighter",
            params="dataflex_weighters_loss.params:LossWeighterParams",
            api=1,
            summary="Weigh samples by their own training loss.",
            needs=frozenset({Need.SAMPLE_LOSSES}),
            paper="Sow et al. 2025, arXiv 2502.06733; tilted: Li et al. 2021, arXiv 2007.01162",
        )
    ]
