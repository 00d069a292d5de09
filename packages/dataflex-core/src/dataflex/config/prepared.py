"""A run prepared: its components found, their parameters bound, every early check made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataflex.config import checks, evaluation, ordering, together
from dataflex.config.bind import DEFAULT, BoundParams
from dataflex.config.components import refuse_other_form
from dataflex.config.gathering import Gathered
from dataflex.config.mixture import MixtureSettings, read_what_fits
from dataflex.config.parts import Part, find_parts
from dataflex.config.run import RunFile
from dataflex.config.screen import FoundScreen, prepare_screen
from dataflex.kinds import KINDS
from dataflex.plugins.catalog import CatalogEntry
from dataflex.plugins.manager import PluginManager
from dataflex.runs import Problem, RunFacts, TrainType
from dataflex.spec import Kind


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
    parts, found = find_parts(run, plugins, problems)
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


def _counts(facts: RunFacts) -> bool:
    """Whether plugins can count the samples of a step; what is wrong otherwise is said with LlamaFactory's keys."""
    try:
        return facts.samples_per_step > 0
    except (ValueError, TypeError):
        return False


def _given(run: RunFile, key: str, default: str) -> Any:
    value = run.llamafactory.get(key)
    return default if value is None else value
