"""Finding, importing and calling plugins, so that one bad plugin harms nobody else.

Our own loader instead of pluggy's ``load_setuptools_entrypoints``: that one has no ``try``, and silently skips a
second distribution whose entry point has the same name. Each plugin is registered with a pluggy manager of its own.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from email.parser import HeaderParser
from enum import StrEnum
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import importlib_metadata
import pluggy

from dataflex.errors import PluginError
from dataflex.kinds import Kind, enumerated
from dataflex.plugins import hookspecs
from dataflex.plugins.inline import import_file
from dataflex.plugins.options import LOAD_PLUGINS, PluginOptions, normalise
from dataflex.runs import Problem
from dataflex.spec import API, MARK, ComponentSpec

logger = logging.getLogger("dataflex")

GROUP = "dataflex.components"
"""Entry point group in which distributions name their plugin module."""

RIVAL = "dataflex"
"""PyPI's other distribution, which owns the same import package and the same ``dataflex-cli``."""

REPAIR = "pip uninstall -y dataflex && pip install --force-reinstall --no-deps dataflex-core"

_ELEMENTS: dict[str, type] = {"dataflex_components": ComponentSpec, "dataflex_check_run": Problem}
_EMPTY = f"it implements no hook and defines no class marked with {enumerated((f'@register_{k}' for k in Kind), 'or')}"
_Hooks = pluggy.PluginManager


class PluginStatus(StrEnum):
    """State of a plugin, or of one of its components."""

    LOADED = "loaded"
    BROKEN = "broken"
    INCOMPATIBLE = "incompatible"
    BLOCKED = "blocked"


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One entry point of a distribution, or one file given with ``-p``.

    Attributes:
        dist: Name of the distribution; the path of the file for one given with ``-p``.
        version: Version of the distribution, or ``""``.
        entry_point: Name of the entry point, or ``""``.
        module: The module the entry point names; the path of the file for one given with ``-p``.
        status: Incompatible only if *all* its components are; the catalogue has the status of each.
        reason: Why it is not loaded; ``""`` for a loaded one.
        inline: Whether it is a file given with ``-p``.
        components: What it provides.
    """

    dist: str
    version: str = ""
    entry_point: str = ""
    module: str = ""
    status: PluginStatus = PluginStatus.LOADED
    reason: str = ""
    inline: bool = False
    components: tuple[ComponentSpec, ...] = ()

    @property
    def label(self) -> str:
        """Distribution and version, as errors name it."""
        return f"{self.dist} {self.version}".rstrip()


class PluginManager:
    """The plugins of one command, in the order of their distributions' names, files given with ``-p`` last.

    Attributes:
        plugins: All of them, broken and blocked ones included.
    """

    def __init__(self, plugins: Iterable[tuple[Plugin, _Hooks | None]]) -> None:
        found = list(plugins)
        self.plugins: tuple[Plugin, ...] = tuple(plugin for plugin, _ in found)
        # A plugin written altogether for another API has other hooks as well.
        self._hooked = [(plugin, hooks) for plugin, hooks in found if hooks and plugin.status is PluginStatus.LOADED]

    @classmethod
    def load(cls, options: PluginOptions) -> PluginManager:
        """Import and register every plugin the options allow. Never fails because of a plugin."""
        found: list[tuple[Plugin, _Hooks | None]] = []
        for plugin, attribute in _installed():
            reason = options.refusal(plugin.dist)
            if reason:
                found.append((replace(plugin, status=PluginStatus.BLOCKED, reason=reason), None))
            elif plugin.status is PluginStatus.BROKEN:
                found.append((plugin, None))
            else:
                found.append(_register(plugin, partial(_import, plugin.module, attribute)))
        for path in options.files:
            plugin = Plugin(dist=str(path), module=str(path), inline=True)
            found.append(_register(plugin, partial(import_file, path)))
        _warn_of_strangers(options, {normalise(plugin.dist) for plugin, _ in found})
        return cls(found)

    def call(self, hook_name: str, **kwargs: Any) -> list[tuple[Plugin, Any]]:
        """Call a hook of every loaded plugin, each on its own: one that fails is logged and left out.

        Returns:
            Each plugin that answered, with its answer; lists for hooks that return an iterable.
        """
        if not hasattr(hookspecs, hook_name):
            raise ValueError(f"{hook_name!r} is not a hook of DataFlex")
        answers: list[tuple[Plugin, Any]] = []
        for plugin, hooks in self._hooked:
            try:
                answers += [(plugin, answer) for answer in _ask(hooks, hook_name, **kwargs)]
            except (Exception, SystemExit) as error:
                logger.warning("Plugin %s failed in %s, ignored: %s", plugin.label, hook_name, _cause(error))
                logger.debug("Its traceback:", exc_info=error)
        return answers


def rival_installed() -> str | None:
    """Version of PyPI's other distribution ``dataflex`` if it is installed too, else ``None``."""
    try:
        return importlib_metadata.version(RIVAL) or "of unknown version"
    except importlib_metadata.PackageNotFoundError:
        return None


def _installed() -> Iterator[tuple[Plugin, str]]:
    """Every entry point of the group, with the attribute it names in its module (``""`` for none)."""
    unsorted: dict[str, list[tuple[Plugin, str]]] = {}
    for dist in importlib_metadata.distributions():
        # Looking at the text first spares parsing the metadata of hundreds of distributions, and one that is
        # malformed is none of our business unless it mentions us.
        if GROUP not in (dist.read_text("entry_points.txt") or ""):
            continue
        name, version = _identity(dist)
        if normalise(name) in unsorted:
            continue  # shadowed by one that comes first in sys.path
        rows = unsorted.setdefault(normalise(name), [])
        try:
            for point in dist.entry_points.select(group=GROUP):
                module, _, attribute = point.value.partition("[")[0].strip().partition(":")
                plugin = Plugin(dist=name, version=version, entry_point=point.name, module=module.strip())
                rows.append((plugin, attribute.strip()))
        except Exception as error:
            reason = f"its entry_points.txt cannot be read ({_cause(error)})"
            rows.append((Plugin(dist=name, version=version, status=PluginStatus.BROKEN, reason=reason), ""))
    for key in sorted(unsorted):
        yield from unsorted[key]


def _identity(dist: Any) -> tuple[str, str]:
    """Name and version, from the head of the metadata: its body, the README, is most of what parsing all would cost."""
    try:
        text = dist.read_text("METADATA") or dist.read_text("PKG-INFO") or ""
        head = HeaderParser().parsestr(text.partition("\n\n")[0])
        return str(head["Name"] or dist.name), str(head["Version"] or "")
    except Exception:  # metadata missing: all that is left is the name of its folder
        name, _, version = Path(str(getattr(dist, "_path", "unknown"))).stem.partition("-")
        return name, version


def _warn_of_strangers(options: PluginOptions, known: set[str]) -> None:
    for dist in sorted(options.blocked - known):
        logger.warning("-p no:%s switches nothing off: no plugin of that name is installed.", dist)
    for dist in sorted((options.only or frozenset()) - known):
        logger.warning("%s names %s, but no plugin of that name is installed.", LOAD_PLUGINS, dist)


def _import(module: str, attribute: str) -> Any:
    found: Any = import_module(module)
    for name in filter(None, attribute.split(".")):
        found = getattr(found, name)
    return found


def _register(plugin: Plugin, load: Callable[[], Any]) -> tuple[Plugin, _Hooks | None]:
    hooks = pluggy.PluginManager(hookspecs.PROJECT)
    hooks.add_hookspecs(hookspecs)
    try:
        # What a plugin prints would spoil `--json`.
        with contextlib.redirect_stdout(sys.stderr):
            home = load()
            hooks.register(home)
            hooks.check_pending()
            components = _components(home, hooks)
            if not components and not hooks.get_hookcallers(home):
                raise PluginError(_EMPTY)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() at import is a broken plugin too
        logger.debug("Plugin %s is broken:", plugin.label, exc_info=error)
        return replace(plugin, status=PluginStatus.BROKEN, reason=_cause(error)), None
    reasons = [incompatibility(spec) for spec in components]
    if reasons and all(reasons):
        plugin = replace(plugin, status=PluginStatus.INCOMPATIBLE, reason=reasons[0])
    return replace(plugin, components=components), hooks


def incompatibility(spec: ComponentSpec) -> str:
    """Why a component cannot work with this core, or ``""``."""
    return "" if spec.api == API else f"written for API {spec.api}, this is API {API}"


def _components(home: Any, hooks: _Hooks) -> tuple[ComponentSpec, ...]:
    declared = [spec for specs in _ask(hooks, "dataflex_components") for spec in specs]
    names = {(spec.kind, spec.name) for spec in declared}
    marked = {id(spec): spec for spec in _marked(home)}.values()  # a class may have two names in its module
    return (*declared, *(spec for spec in marked if (spec.kind, spec.name) not in names))


def _marked(home: Any) -> Iterator[ComponentSpec]:
    """Marked classes that the plugin defines; one it imports from another plugin belongs to that one."""
    candidates = [home] if isinstance(home, type) else list(getattr(home, "__dict__", {}).values())
    package = (home.__name__ if isinstance(home, ModuleType) else type(home).__module__).partition(".")[0]
    for candidate in candidates:
        spec = candidate.__dict__.get(MARK) if isinstance(candidate, type) else None
        own = candidate is home or getattr(candidate, "__module__", "").partition(".")[0] == package
        if isinstance(spec, ComponentSpec) and own:
            yield spec


def _ask(hooks: _Hooks, hook_name: str, **kwargs: Any) -> Sequence[Any]:
    """Call one plugin's hook and finish what it returns, so that a lazy answer fails here and not later."""
    answers: Sequence[Any] = getattr(hooks.hook, hook_name)(**kwargs)
    element = _ELEMENTS.get(hook_name)
    return answers if element is None else [_finished(answer, hook_name, element) for answer in answers]


def _finished(answer: Any, hook_name: str, element: type) -> list[Any]:
    if not isinstance(answer, Iterable):
        raise TypeError(f"{hook_name} returned {answer!r}; it must return a list of {element.__name__}")
    items = list(answer)
    for item in items:
        if not isinstance(item, element):
            raise TypeError(f"{hook_name} returned {item!r} in its list; every item must be a {element.__name__}")
    return items


def _cause(error: BaseException) -> str:
    if isinstance(error, PluginError):
        return str(error).rstrip(".")
    return f"{type(error).__name__}: {error}".rstrip(": ")
