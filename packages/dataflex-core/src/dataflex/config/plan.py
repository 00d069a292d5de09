"""The plan of a run: component found, parameters bound, every early check made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataflex import __version__
from dataflex.config import checks, evaluation
from dataflex.config.bind import BoundParams, bind
from dataflex.config.mixture import MixtureSettings, read_mixture
from dataflex.config.overrides import Preset, find_preset
from dataflex.config.run import COMMAND_LINE, RunFile
from dataflex.errors import ConfigError, DataFlexError
from dataflex.plugins.catalog import Catalog, CatalogEntry
from dataflex.plugins.manager import PluginManager
from dataflex.runs import Problem, RunPlan, TrainType
from dataflex.spec import API, ComponentSpec, Kind


@dataclass(frozen=True)
class PreparedRun:
    """A run that passed every check that needs no model and no data.

    Attributes:
        plan: What plugins are told about it.
        entry: The chosen component.
        bound: Its parameters.
        plugins: The loaded plugins, for the hooks to come.
        mixture: How a mix run samples its domains; ``None`` for others.
        timeout: Most seconds a decision may take; ``None`` for no limit.
    """

    plan: RunPlan
    entry: CatalogEntry
    bound: BoundParams
    plugins: PluginManager
    mixture: MixtureSettings | None = None
    timeout: float | None = None


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
    kind = run.train_type.kind
    if kind is None:
        raise ValueError(f"train_type: {run.train_type.value} has no component to prepare")
    steps = run.steps()
    mixture = read_mixture(run) if kind is Kind.MIXER else None
    if run.train_type is TrainType.STATIC_MIX:
        preset, entry = Preset("static"), _static_mix()
    else:
        preset = find_preset(run, kind)
        entry = _find(run, Catalog(plugins.plugins), kind, preset)
    bound = bind(entry, _layers(run, preset.source, preset.params))
    plan = RunPlan(
        train_type=run.train_type,
        stage=str(run.llamafactory.get("stage", "sft")),
        component=entry.spec,
        dist=entry.dist,
        version=entry.version,
        params=bound.values,
        steps=steps,
        output_dir=Path(str(_given(run, "output_dir", "trainer_output"))),
        arguments=run.llamafactory,
        source=run.path.name,
        scores_only=scores_only,
    )
    found = list(checks.problems(plan))
    if not scores_only:
        found += evaluation.problems(run.llamafactory, run.origin)
    for plugin, result in plugins.call("dataflex_check_run", plan=plan):
        found += [Problem(f"{problem.message} [{plugin.dist}]", problem.fix) for problem in result or ()]
    refuse(found)
    return PreparedRun(plan, entry, bound, plugins, mixture, run.timeout())


def _find(run: RunFile, catalog: Catalog, kind: Kind, preset: Preset) -> CatalogEntry:
    try:
        return catalog.find(kind, preset.name)
    except DataFlexError as error:
        origin = preset.source or run.origin("component_name")
        raise type(error)(f"component_name: {preset.name!r} (from {origin}): {error}") from error


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


def refuse(found: Iterable[Problem]) -> None:
    """Raise one ConfigError for all problems; do nothing for none."""
    lines = [f"{problem.message} {problem.fix}".rstrip() for problem in found]
    if lines:
        raise ConfigError("\n".join(lines))


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
