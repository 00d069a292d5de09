"""The plan of a run: component found, parameters bound, every early check made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataflex import __version__
from dataflex.config import checks, evaluation, legacy, old_orders, ordering, together
from dataflex.config.bind import DEFAULT, BoundParams, bind_what_fits
from dataflex.config.components import PARAMS, Chosen, choose, inline_params, refuse_other_form
from dataflex.config.gathering import Gathered
from dataflex.config.mixture import STATIC, MixtureSettings, read_what_fits
from dataflex.config.overrides import Preset, find_preset
from dataflex.config.run import COMMAND_LINE, RunFile
from dataflex.config.screen import FoundScreen, prepare_screen
from dataflex.errors import ConfigError, DataFlexError
from dataflex.kinds import KINDS, StepKeys
from dataflex.plugins.catalog import Catalog, CatalogEntry
from dataflex.plugins.manager import PluginManager
from dataflex.runs import PartFacts, Problem, RunFacts, TrainType
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


@dataclass(frozen=True)
class PreparedRun:
    """A run that passed every check that needs no model and no data.

    Attributes:
        facts: What plugins are told about it.
        parts: Its components.
        plugins: The loaded plugins, for the hooks to come.
        mixture: How a mix run samples its domains; ``None`` for others.
        timeout: Most seconds a call of a component may take; ``None`` for no limit.
    """

    facts: RunFacts
    parts: tuple[Part, ...]
    plugins: PluginManager
    mixture: MixtureSettings | None = None
    timeout: float | None = None

    @property
    def entry(self) -> CatalogEntry:
        """The first component."""
        return self.parts[0].entry

    @property
    def bound(self) -> BoundParams:
        """Its parameters."""
        return self.parts[0].bound

    def part(self, kind: Kind) -> Part | None:
        """The component of a kind, if the run has one."""
        return next((part for part in self.parts if part.entry.spec.kind is kind), None)


def prepare(run: RunFile, plugins: PluginManager, *, scores_only: bool = False) -> PreparedRun:
    """Check a dynamic run file and bind its components.

    Args:
        run: The run file.
        plugins: The loaded plugins.
        scores_only: Whether the pool will only be scored.

    Raises:
        ConfigError: with every problem found, one a line.
        PluginError, IncompatibleError: when the component cannot be loaded.
    """
    problems = Gathered()
    prepared = prepare_what_fits(run, plugins, problems, scores_only=scores_only)
    problems.refuse()
    assert prepared is not None  # whatever it lacks has been refused
    return prepared


def prepare_what_fits(
    run: RunFile, plugins: PluginManager | None, problems: Gathered, *, scores_only: bool = False
) -> PreparedRun | None:
    """As :func:`prepare`, but go on after what is wrong, to find everything else that is.

    Args:
        run: The run file.
        plugins: The loaded plugins; ``None`` if they are not known, and so no component can be found.
        problems: Takes all that is wrong.
        scores_only: As in :func:`prepare`.

    Returns:
        The run; ``None`` if one of its components is not found, or lacks a parameter.
    """
    if run.train_type is TrainType.STATIC:
        raise ValueError(f"train_type: {run.train_type.value} has no component to prepare")
    steps, timeout = _Steps(run, problems), None
    mixture = read_what_fits(run, problems) if any(KINDS[kind].mixes for kind in run.kinds) else None
    with problems.taking():
        timeout = run.timeout()
    problems.add(checks.run_problems(run))
    if not scores_only:
        problems.add(evaluation.problems(run.llamafactory, run.origin))
    refuse_other_form(run, problems)
    parts, found = _parts(run, plugins, problems)
    stage, output_dir = str(run.llamafactory.get("stage", "sft")), _given(run, "output_dir", "trainer_output")
    if parts is None or plugins is None:
        specs = [entry.spec for entry in found]
        problems.add(checks.problems_without_plan(run.llamafactory, stage, specs, run.path.name, run.origin))
        return None
    first = parts[0].facts
    facts = RunFacts(
        train_type=run.train_type,
        stage=stage,
        component=first.component,
        dist=first.dist,
        version=first.version,
        params=first.params,
        steps=steps.read,
        output_dir=Path(str(output_dir)),
        arguments=run.llamafactory,
        source=run.path.name,
        scores_only=scores_only,
        others=tuple(part.facts for part in parts[1:]),
        every=first.every,
        keep=first.keep,
        origins=_origins(run, parts),
    )
    problems.add(checks.problems(facts, count_steps=steps.right))
    problems.add(together.problems(parts, facts.source, composed=run.train_type is TrainType.COMPOSED))
    problems.add(ordering.problems(facts, parts))
    if _counts(facts):
        for part in facts.parts:
            seen = facts.seen_from(part)
            for plugin, result in plugins.call("dataflex_check_run", run=seen, plan=seen):
                problems.add(Problem(f"{problem.message} [{plugin.dist}]", problem.fix) for problem in result or ())
    parts = tuple(replace(part, screen=_screen(facts, part, parts, plugins, problems)) for part in parts)
    return PreparedRun(facts, parts, plugins, mixture, timeout)


def _screen(
    facts: RunFacts, part: Part, parts: Sequence[Part], plugins: PluginManager, problems: Gathered
) -> FoundScreen | None:
    """The screen of a part that is the only one of its run; others are refused with it."""
    return prepare_screen(facts, part.bound, plugins, problems) if len(parts) == 1 else None


def _origins(run: RunFile, parts: Sequence[Part]) -> dict[str, str]:
    """Where values came from that are not the run file's; of several components, the parameters of none."""
    origins = {key: run.origin(key) for key in (*run.ours, *run.llamafactory)}
    if len(parts) == 1:
        sources = parts[0].bound.sources
        origins |= {f"component_params.{name}": source for name, source in sources.items() if source != DEFAULT}
    return {key: origin for key, origin in origins.items() if origin != run.path.name}


class _Steps:
    """The step keys.

    Attributes:
        read: The least possible in place of what is wrong.
        right: Whether nothing is.
    """

    def __init__(self, run: RunFile, problems: Gathered) -> None:
        before = len(problems.errors)
        self.read = run.steps_or_least(problems)
        self.right = len(problems.errors) == before


def _counts(plan: RunFacts) -> bool:
    """Whether plugins can count the samples of a step; what is wrong otherwise is said with LlamaFactory's keys."""
    try:
        return plan.samples_per_step > 0
    except (ValueError, TypeError):
        return False


def _parts(
    run: RunFile, plugins: PluginManager | None, problems: Gathered
) -> tuple[tuple[Part, ...] | None, list[CatalogEntry]]:
    """The components of a run with their parameters, ``None`` unless all are right; and those that were found."""
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


def _given(run: RunFile, key: str, default: str) -> Any:
    value = run.llamafactory.get(key)
    return default if value is None else value
