"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, hookimpl

_SOURCE = "Dai et al., ACL 2026, arXiv 2605.30334"
_SUMMARIES = {
    "shuffle": "Shuffle each pass: the baseline.",
    "sorting": "Order a pass by score, once from one end to the other.",
    "folding": "Go through all scores several times in a pass, each time with other rows.",
    "zigzag": "As folding, every second time backwards, so that scores never jump.",
    "segment": "Begin and end a pass with an end of the scores; the rest is shuffled.",
    "stair": "Order a pass by score, with folds where its sections meet.",
    "saw": "Order a pass by score, with zigzags where its sections meet.",
}
_PAPERS = {"shuffle": "", "folding": "DELT, arXiv 2506.21545"}
_STOCHASTIC = ("shuffle", "segment")


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The seven orderers."""
    return [
        ComponentSpec(
            kind=Kind.ORDERER,
            name=name,
            target=f"dataflex_orderers.orderers:{name.capitalize()}",
            params=f"dataflex_orderers.params:{name.capitalize()}Params",
            api=1,
            summary=summary,
            stochastic=name in _STOCHASTIC,
            paper=_PAPERS.get(name, _SOURCE),
        )
        for name, summary in _SUMMARIES.items()
    ]
