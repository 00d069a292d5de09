"""The screen of a selector: found, bound and checked as a component of its own before anything loads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dataflex.config.bind import BoundParams, bind_what_fits
from dataflex.config.gathering import Gathered
from dataflex.config.needs import needs
from dataflex.errors import ConfigError, DataFlexError
from dataflex.kinds import Kind
from dataflex.plugins.catalog import Catalog, CatalogEntry
from dataflex.plugins.manager import PluginManager
from dataflex.runs import Problem, RunFacts, Steps

PARAM = "screen"
"""The parameter of a selector that names its screen."""


@dataclasses.dataclass(frozen=True)
class FoundScreen:
    """The component of a screen.

    Attributes:
        entry: The component.
        bound: Its parameters.
        title: For messages: ``screen lexical of selector less``.
    """

    entry: CatalogEntry
    bound: BoundParams
    title: str


def prepare_screen(
    facts: RunFacts, bound: BoundParams, plugins: PluginManager, problems: Gathered
) -> FoundScreen | None:
    """Find and check the screen that a selector's parameters name.

    Args:
        facts: The run of the selector.
        bound: The selector's parameters.
        plugins: The loaded plugins.
        problems: Takes all that is wrong, each with the screen's title.

    Returns:
        The screen; ``None`` if there is none, or something of it is wrong.
    """
    settings = bound.values.get(PARAM)
    declared = hasattr(getattr(bound.params, PARAM, None), "survivors")  # components.screen_params, a room above
    if facts.component.kind is not Kind.SELECTOR or not declared or not isinstance(settings, Mapping):
        return None
    title = f"screen {settings['name']} of selector {facts.component.name}"
    found, source = Gathered(), bound.sources.get(PARAM, facts.source)
    screen = _found(facts, settings, source, plugins, title, found)
    if screen is not None:
        found.add(_problems(facts, screen, plugins))
        found.add(_too_few(facts, settings, source))
    problems.errors += [_titled(error, title) for error in found.errors]
    return None if found.errors else screen


def _found(
    facts: RunFacts,
    settings: Mapping[str, Any],
    source: str,
    plugins: PluginManager,
    title: str,
    problems: Gathered,
) -> FoundScreen | None:
    with problems.taking():
        entry = Catalog(plugins.plugins).find(Kind.SELECTOR, str(settings["name"]))
        spec = entry.spec
        if spec.gives_scores is not True:
            raise ConfigError(
                f"selector {spec.name!r} of {entry.dist} does not say that it gives scores (gives_scores), which a "
                "screen has to. Name one that does, such as lexical or loss."
            )
        values: Sequence[tuple[str, Mapping[str, Any]]] = [(source, dict(settings.get("params") or {}))]
        bound = bind_what_fits(entry, values, {}, problems)
        if bound is None:
            return None
        if bound.values.get(PARAM) is not None:
            raise ConfigError("it has a screen of its own, and a screen may have none. Leave its parameter screen out.")
        return FoundScreen(entry, bound, title)
    return None


def _problems(facts: RunFacts, screen: FoundScreen, plugins: PluginManager) -> list[Problem]:
    """What its needs and the plugins say of the run with it, which only asks for its scores."""
    entry, spec = screen.entry, screen.entry.spec
    steps = Steps(warmup=facts.steps.warmup, update=1, times=1)
    of_screen = dataclasses.replace(
        facts,
        component=spec,
        dist=entry.dist,
        version=entry.version,
        params=screen.bound.values,
        steps=steps,
        scores_only=True,
    )
    found = list(needs(of_screen))
    try:
        of_screen.samples_per_step  # noqa: B018 - what is wrong with it is said with LlamaFactory's keys
    except (ValueError, TypeError):
        return found
    for plugin, result in plugins.call("dataflex_check_run", run=of_screen, plan=of_screen):
        found += [Problem(f"{problem.message} [{plugin.dist}]", problem.fix) for problem in result or ()]
    return found


def _too_few(facts: RunFacts, settings: Mapping[str, Any], source: str) -> list[Problem]:
    """A problem if fewer rows survive than one stage chooses on one process: a lower bound."""
    survivors = settings.get("survivors")
    if not isinstance(survivors, int) or facts.params.get("replacement") or facts.scores_only:
        return []
    steps = facts.steps.update
    if facts.steps.train > 0:
        steps = min(steps, facts.steps.train - facts.steps.warmup)
    try:
        needed = math.ceil(steps * facts.samples_per_step / (facts.params.get("passes") or 1))
    except (ValueError, TypeError):
        return []
    if survivors >= needed:
        return []
    return [
        Problem(
            f"survivors: {survivors} (from {source}) cannot fill a stage, which chooses at least {needed} rows: "
            f"{steps} steps of {facts.samples_per_step}, read {facts.params.get('passes') or 1} times.",
            f"Raise survivors to {2 * needed} or more"
            + (", or raise component_params.passes." if "passes" in facts.params else "."),
        )
    ]


def _titled(error: DataFlexError, title: str) -> DataFlexError:
    return type(error)(f"{title}: {error}")
