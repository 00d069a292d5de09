"""What this distribution hands to DataFlex. Imported to list components: no torch, no NumPy."""

from __future__ import annotations

from dataflex import ComponentSpec, Kind, Need, hookimpl


@hookimpl
def dataflex_components() -> list[ComponentSpec]:
    """The mixer ``odm``."""
    return [
        ComponentSpec(
            kind=Kind.MIXER,
            name="odm",
            target="dataflex_mixers_odm.mixer:OdmMixer",
            params="dataflex_mixers_odm.params:OdmParams",
            api=1,
            summary="Online data mixing: more of the domains with a high smoothed loss, less exploration over time.",
            needs=frozenset({Need.DOMAINS, Need.DOMAIN_LOSSES}),
            paper="Albalak et al. 2023, arXiv 2312.02406",
            legacy={
                "warmup_steps": "The first steps are those of the run, warmup_step.",
                "initial_proportions": "They are those of the run, init_mixture_proportions.",
                "min_exploration_rate": "Exploration falls with the steps; floor is the least proportion of a domain.",
            },
        )
    ]
