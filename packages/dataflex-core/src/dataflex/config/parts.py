"""The components that a run file asks for: each found among the plugins, its parameters bound."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

from dataflex import __version__
from dataflex.config import legacy, old_orders
from dataflex.config.bind import BoundParams, bind_what_fits
from dataflex.config.components import PARAMS, Chosen, choose, inline_params
from dataflex.config.gathering import Gathered
from dataflex.config.mixture import STATIC
from dataflex.config.overrides import Preset, find_preset
from dataflex.config.run import COMMAND_LINE, RunFile
from dataflex.config.screen import FoundScreen
from dataflex.errors import ConfigError, DataFlexError
from dataflex.kinds import KINDS, StepKeys
from dataflex.plugins.catalog import Catalog, CatalogEntry
from dataflex.plugins.manager import PluginManager
from dataflex.runs import PartFacts, TrainType
from dataflex.spec import API, ComponentSpec, Kind


@dataclass(frozen=True)
class Part:
    """One component of a run: found, its parameters bound.

    Attributes:
        entry: The component.
        bound: Its parameters.
        screen: The selector whose scores decide which rows it scores; ``None`` without one.
        every: At which boundaries it is asked: 1 for all, n for the first and every nth after it.
        keep: Share of each domain that a selector keeps; ``"stage"`` for as many rows as are trained on.
    """

    entry: CatalogEntry
    bound: BoundParams
    every: int = 1
    keep: float | str = "stage"
    screen: FoundScreen | None = None

    @property
    def kind(self) -> Kind:
        """Its kind."""
        return self.entry.spec.kind

    def is_due(self, stage: int) -> bool:
        """Whether it is asked at the boundary where a stage begins; those after the warm-up are 1, 2, …"""
        return (stage - 1) % self.every == 0

    @property
    def takes_candidates(self) -> bool:
        """Whether a selector is asked once for all domains: its ``select`` names ``candidates``. Imports the class."""
        return "candidates" in inspect.signature(inspect.getattr_static(self.entry.load(), "select")).parameters

    @property
    def facts(self) -> PartFacts:
        """What plugins are told about it."""
        entry = self.entry
        return PartFacts(
            component=entry.spec,
            dist=entry.dist,
            version=entry.version,
            params=self.bound.values,
            every=self.every,
            keep=self.keep,
        )


def find_parts(
    run: RunFile, plugins: PluginManager | None, problems: Gathered
) -> tuple[tuple[Part, ...] | None, list[CatalogEntry]]:
    """Find the components of a run and bind their parameters.

    Args:
        run: The run file.
        plugins: The loaded plugins; ``None`` if they are not known, and so no component can be found.
        problems: Takes all that is wrong.

    Returns:
        The components, ``None`` unless all are right; and those that were found.
    """
    before = len(problems.errors)
    if run.step_keys is StepKeys.ONE_STAGE:
        chosen = [Chosen(Kind.MIXER, "", PARAMS, STATIC, inline_params(run, problems), written=run.written)]
    else:
        chosen = choose(run, problems)
    wrong = len(problems.errors) > before
    parts, found = [], []
    for each in chosen:
        own = Gathered()
        entry, bound = _component(run, plugins, each, own)
        problems.errors += [_under(error, each) for error in own.errors]
        if entry is not None:
            found.append(entry)
        if entry is not None and bound is not None:
            parts.append(Part(entry, bound, each.every, each.keep))
    whole = bool(chosen) and not wrong and len(parts) == len(chosen)
    return (tuple(parts) if whole else None), found


def _under(error: DataFlexError, chosen: Chosen) -> DataFlexError:
    """An error about a component's parameters with the place where the run file has them."""
    text = str(error)
    if chosen.params_key == PARAMS or f"{PARAMS}." not in text:
        return error
    told = type(error)(text.replace(f"{PARAMS}.", f"{chosen.params_key}."))
    told.__cause__ = error
    return told


def _component(
    run: RunFile, plugins: PluginManager | None, chosen: Chosen, problems: Gathered
) -> tuple[CatalogEntry | None, BoundParams | None]:
    """A chosen component and its parameters, as far as they are right."""
    written = {each: chosen.written for each in (run.path.name, COMMAND_LINE)}
    preset, named = None, bool(chosen.key)
    with problems.taking():
        preset = find_preset(run, chosen.kind, chosen.name) if named else Preset(STATIC)
    if preset is None or plugins is None:
        return None, None
    if preset.source:
        written[preset.source] = preset.written
    layers = [(preset.source, dict(preset.params)), *chosen.layers(run)]
    if KINDS[chosen.kind].orders:
        preset, layers = _as_ours(preset, layers, problems)
    with problems.taking():
        is_static = chosen.kind is Kind.MIXER and preset.name == STATIC and run.train_type is not TrainType.MIX
        entry = _static_mix() if is_static else _find(run, Catalog(plugins.plugins), chosen, preset)
        bound = None
        with problems.taking():
            bound = bind_what_fits(entry, layers, written, problems)
        return entry, bound
    return None, None


def _as_ours(
    preset: Preset, layers: list[tuple[str, dict[str, Any]]], problems: Gathered
) -> tuple[Preset, list[tuple[str, dict[str, Any]]]]:
    """An orderer and its parameters where a file of PyPI dataflex 1.x names them otherwise."""
    ours = []
    for source, values in layers:
        with problems.taking():
            name, params = old_orders.translated(preset.name, values, source)
            preset = replace(preset, name=name)
            ours.append((source, params))
    return preset, ours


def _find(run: RunFile, catalog: Catalog, chosen: Chosen, preset: Preset) -> CatalogEntry:
    try:
        return catalog.find(chosen.kind, preset.name)
    except DataFlexError as error:
        origin = preset.source or run.origin(chosen.key)
        known = legacy.component(chosen.kind, preset.name) if isinstance(error, ConfigError) else ""
        raise type(error)(f"{chosen.key}: {preset.name!r} (from {origin}): {error}{known}") from error


def _static_mix() -> CatalogEntry:
    """What ``static_mix`` runs: not a plugin's component, so that no switch for plugins can take it away."""
    spec = ComponentSpec(
        kind=Kind.MIXER,
        name="static",
        target="dataflex.components.static_mixer:StaticMixer",
        api=API,
        summary="Keep the proportions the run began with.",
    )
    return CatalogEntry(spec=spec, dist="dataflex-core", version=__version__)
