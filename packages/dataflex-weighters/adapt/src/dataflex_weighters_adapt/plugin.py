"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, hookimpl


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The weighter ``adapt``."""
    return [
        ComponentSpec(
            kind=Kind.WEIGHTER,
            name="adapt",
            target="dataflex_weighters_adapt.weighter:AdaptWeighter",
            params="dataflex_weighters_adapt.params:AdaptParams",
            api=1,
            summary="Weigh samples by how near their embeddings lie to the eval sets.",
            needs=frozenset({Need.EVAL_SET, Need.SAMPLE_LOSSES, Need.HIDDEN_STATES}),
            paper="Zhao et al. 2026, arXiv 2605.05227",
            legacy={
                "anchor_batch_size": "Batches of the eval sets follow token_budget.",
                "eps": "No quotient here needs it.",
            },
        )
    ]
