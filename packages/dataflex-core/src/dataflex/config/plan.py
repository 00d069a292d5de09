"""The plan of a run: component found, parameters bound, every early check made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataflex import __version__
from dataflex.config import checks, evaluation, legacy, old_orders, ordering
from dataflex.config.bind import BoundParams, bind_what_fits
from dataflex.config.gathering import Gathered
from dataflex.config.mixture import MixtureSettings, read_what_fits
from dataflex.config.overrides import Preset, find_preset
from dataflex.config.run import COMMAND_LINE, RunFile
from dataflex.errors import ConfigError, DataFlexError
from dataflex.kinds import KINDS, StepKeys, step_keys
from dataflex.plugins.catalog import Catalog, CatalogEntry
from dataflex.plugins.manager import PluginManager
from dataflex.runs import PartFacts, Problem, RunFacts
from dataflex.spec import API, ComponentSpec, Kind


@dataclass(frozen=True)
class Part:
    """One component of a run: found, its parameters bound.

    Attributes:
        entry: The component.
        bound: Its parameters.
    """

    entry: CatalogEntry
    bound: BoundParams

    @property
    def facts(self) -> PartFacts:
        """What plugins are told about it."""
        entry = self.entry
        return PartFacts(component=entry.spec, dist=entry.dist, version=entry.version, params=self.bound.values)


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
    """Check a dynamic run file and bind its component.

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
        The run; ``None`` if its component is not found, or lacks a parameter.
    """
    kind = run.train_type.kind
    if kind is None:
        raise ValueError(f"train_type: {run.train_type.value} has no component to prepare")
    steps, timeout = _Steps(run, problems), None
    mixture = read_what_fits(run, problems) if KINDS[kind].mixes else None
    with problems.taking():
        timeout = run.timeout()
    problems.add(checks.run_problems(run))
    if not scores_only:
        problems.add(evaluation.problems(run.llamafactory, run.origin))
    entry, bound = _component(run, plugins, kind, problems)
    stage, output_dir = str(run.llamafactory.get("stage", "sft")), _given(run, "output_dir", "trainer_output")
    if entry is None or bound is None or plugins is None:
        spec = None if entry is None else entry.spec
        problems.add(checks.problems_without_plan(run.llamafactory, stage, spec, run.path.name))
        return None
    facts = RunFacts(
        train_type=run.train_type,
        stage=stage,
        component=entry.spec,
        dist=entry.dist,
        version=entry.version,
        params=bound.values,
        steps=steps.read,
        output_dir=Path(str(output_dir)),
        arguments=run.llamafactory,
        source=run.path.name,
        scores_only=scores_only,
    )
    problems.add(checks.problems(facts, count_steps=steps.right))
    problems.add(ordering.problems(facts, (Part(entry, bound),)))
    if _counts(facts):
        for plugin, result in plugins.call("dataflex_check_run", run=facts, plan=facts):
            problems.add(Problem(f"{problem.message} [{plugin.dist}]", problem.fix) for problem in result or ())
    return PreparedRun(facts, (Part(entry, bound),), plugins, mixture, timeout)


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


def _component(
    run: RunFile, plugins: PluginManager | None, kind: Kind, problems: Gathered
) -> tuple[CatalogEntry | None, BoundParams | None]:
    """The chosen component and its parameters, as far as they are right."""
    written = {each: run.written for each in (run.path.name, COMMAND_LINE)}
    preset, layers, chosen = None, [], step_keys(run.train_type) is not StepKeys.ONE_STAGE
    with problems.taking():
        preset = find_preset(run, kind) if chosen else Preset("static")
    with problems.taking():
        layers = _layers(run, preset.source if preset else "", preset.params if preset else {})
    if preset is not None and KINDS[kind].orders:
        preset, layers = _as_ours(run, preset, layers, problems)
    if preset is None or plugins is None:
        return None, None
    if preset.source:
        written[preset.source] = preset.written
    with problems.taking():
        entry = _find(run, Catalog(plugins.plugins), kind, preset) if chosen else _static_mix()
        bound = None
        with problems.taking():
            bound = bind_what_fits(entry, layers, written, problems)
        return entry, bound
    return None, None


def _as_ours(
    run: RunFile, preset: Preset, layers: list[tuple[str, dict[str, Any]]], problems: Gathered
) -> tuple[Preset, list[tuple[str, dict[str, Any]]]]:
    """An orderer and its parameters where a file of PyPI dataflex 1.x names them otherwise."""
    ours = []
    for source, values in layers:
        with problems.taking():
            name, params = old_orders.translated(preset.name, values, source)
            preset = replace(preset, name=name)
            ours.append((source, params))
    return preset, ours


def _find(run: RunFile, catalog: Catalog, kind: Kind, preset: Preset) -> CatalogEntry:
    try:
        return catalog.find(kind, preset.name)
    except DataFlexError as error:
        origin = preset.source or run.origin("component_name")
        known = legacy.component(kind, preset.name) if isinstance(error, ConfigError) else ""
        raise type(error)(f"component_name: {preset.name!r} (from {origin}): {error}{known}") from error


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


def _layers(run: RunFile, preset_source: str, preset: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    inline = run.ours.get("component_params", {})
    inline = {} if inline is None else inline
    if not isinstance(inline, dict):
        origin = run.origin("component_params")
        raise ConfigError(f"component_params: {inline!r} (from {origin}) must be a mapping of names to values.")
    typed = {key: value for key, value in inline.items() if f"component_params.{key}" in run.overridden}
    written = {key: value for key, value in inline.items() if key not in typed}
    return [
        (preset_source, dict(preset)),
        (run.path.name, written),
        (COMMAND_LINE, typed),
    ]
