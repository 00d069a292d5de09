"""The components that come with core itself, as an ordinary plugin."""

from __future__ import annotations

from collections.abc import Iterable

from dataflex.plugins.hookspecs import hookimpl
from dataflex.spec import ComponentSpec, Kind

STATIC_MIXER = "static"


@hookimpl
def dataflex_components() -> Iterable[ComponentSpec]:
    """The mixer with fixed proportions, which ``train_type: static_mix`` uses."""
    return [
        ComponentSpec(
            kind=Kind.MIXER,
            name=STATIC_MIXER,
            target="dataflex.components.static_mixer:StaticMixer",
            api=1,
            summary="Keep the proportions the run began with.",
        )
    ]
