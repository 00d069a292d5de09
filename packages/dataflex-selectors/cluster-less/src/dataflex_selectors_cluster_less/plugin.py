"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, hookimpl


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The selector ``cluster-less``."""
    return [
        ComponentSpec(
            kind=Kind.SELECTOR,
            name="cluster-less",
            target="dataflex_selectors_cluster_less.selector:ClusterLessSelector",
            params="dataflex_selectors_cluster_less.params:ClusterLessParams",
            api=1,
            summary="Draw samples from the shortest rows of the pool.",
            stochastic=True,
        )
    ]
