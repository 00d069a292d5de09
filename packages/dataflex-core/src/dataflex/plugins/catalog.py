"""Every component of the loaded plugins, and the rules by which a name finds one."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

from dataflex.errors import ConfigError, IncompatibleError, PluginError
from dataflex.hints import nearest
from dataflex.plugins.manager import Plugin, PluginStatus, incompatibility
from dataflex.plugins.options import normalise
from dataflex.spec import ComponentSpec, Kind

logger = logging.getLogger("dataflex")


@dataclass(frozen=True, kw_only=True)
class CatalogEntry:
    """One component.

    Attributes:
        spec: What it declares.
        dist: Distribution that provides it; the path of the file for one given with ``-p``.
        version: Version of that distribution, or ``""``.
        status: Loaded or incompatible.
        reason: Why it is not usable, or ``""``.
        inline: Whether it comes from a file given with ``-p``.
    """

    spec: ComponentSpec
    dist: str
    version: str = ""
    status: PluginStatus = PluginStatus.LOADED
    reason: str = ""
    inline: bool = False

    @property
    def label(self) -> str:
        """Distribution and version, as errors name it."""
        return f"{self.dist} {self.version}".rstrip()

    def load(self) -> type:
        """Import the component's class.

        Raises:
            PluginError: naming distribution, version, target and cause.
        """
        return self._import(self.spec.target, "target")

    def load_params(self) -> type | None:
        """Import its params dataclass; ``None`` if the constructor is the schema.

        Raises:
            PluginError: as :meth:`load`.
        """
        return None if self.spec.params is None else self._import(self.spec.params, "params")

    def _import(self, reference: str, role: str) -> type:
        module, _, path = reference.partition(":")
        try:
            with contextlib.redirect_stdout(sys.stderr):
                found: Any = import_module(module)
                for name in path.split("."):
                    found = getattr(found, name)
            if not isinstance(found, type):
                raise TypeError(f"{path} is {found!r}, not a class")
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{role} {reference} of {self.spec.kind} {self.spec.name!r} from {self.label} cannot be imported: "
                f"{type(error).__name__}: {error}. "
                + ("Repair the file." if self.inline else f"Repair or upgrade {self.dist}.")
            ) from error
        return found


class Catalog:
    """The components of some plugins.

    Attributes:
        entries: All of them, in the order of the plugins; incompatible ones included.
    """

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.entries: tuple[CatalogEntry, ...] = tuple(dict.fromkeys(_entries(plugins)))
        self._absent = [p for p in plugins if p.status in (PluginStatus.BROKEN, PluginStatus.BLOCKED)]

    def find(self, kind: Kind | None, name: str) -> CatalogEntry:
        """Return the one usable component of a name.

        A class from a file given with ``-p`` wins over an installed one.

        Args:
            kind: Its kind; ``None`` to look in all kinds.
            name: Its name, or ``dist/name`` to say which distribution is meant.

        Raises:
            PluginError: if several distributions provide it, or the named distribution or a file given with ``-p``
                is broken.
            IncompatibleError: if what provides it was written for another API.
            ConfigError: if nothing provides it.
        """
        dist, _, bare = name.rpartition("/")
        if not dist:
            self._refuse_broken_files(bare)
        matches = [entry for entry in self.entries if self._matches(entry, kind, dist, bare)]
        kinds = list(dict.fromkeys(entry.spec.kind for entry in matches))
        if len(kinds) > 1:
            raise ConfigError(
                f"{name!r} names {' and '.join(kind.with_article for kind in kinds)}. Say which: --kind {kinds[0]}."
            )
        usable = [entry for entry in matches if entry.status is PluginStatus.LOADED]
        files = [entry for entry in usable if entry.inline]
        if files and len(files) < len(usable):
            hidden = ", ".join(entry.label for entry in usable if not entry.inline)
            logger.info("%s %r comes from %s (-p), not from %s.", kinds[0], bare, files[0].dist, hidden)
        chosen = files or usable
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            self._refuse_conflict(chosen, bare)
        if matches:
            found = "; ".join(f"{entry.label}: {entry.reason}" for entry in matches)
            dists = " ".join(dict.fromkeys(entry.dist for entry in matches))
            raise IncompatibleError(
                f"{kinds[0]} {bare!r} is incompatible ({found}). "
                + (f"Adapt {dists}." if matches[0].inline else f"Install other versions of {dists} or dataflex-core.")
            )
        self._refuse_unknown(kind, name)

    @staticmethod
    def _matches(entry: CatalogEntry, kind: Kind | None, dist: str, name: str) -> bool:
        same_dist = not dist or dist == entry.dist or (not entry.inline and normalise(dist) == normalise(entry.dist))
        return entry.spec.name == name and kind in (None, entry.spec.kind) and same_dist

    def _refuse_broken_files(self, name: str) -> None:
        """An installed namesake must not quietly take the place of a file the user asked for."""
        broken = [plugin for plugin in self._absent if plugin.inline]
        if broken:
            raise PluginError(
                f"-p {broken[0].dist} is broken: {broken[0].reason}. {name!r} may be in it: "
                "repair the file, or leave out -p to use installed components only."
            )

    @staticmethod
    def _refuse_conflict(chosen: Sequence[CatalogEntry], name: str) -> NoReturn:
        what = f"{chosen[0].spec.kind} {name!r}"
        labels = list(dict.fromkeys(entry.label for entry in chosen))
        if len(labels) == 1:
            targets = " and ".join(entry.spec.target for entry in chosen)
            raise PluginError(
                f"{labels[0]} provides the {what} more than once: {targets}. Ask its author which to use."
            )
        names = " or ".join(f"{entry.dist}/{name}" for entry in chosen)
        raise PluginError(f"{what} is provided by {' and by '.join(labels)}. Write {names} to say which.")

    def _refuse_unknown(self, kind: Kind | None, name: str) -> NoReturn:
        dist, _, bare = name.rpartition("/")
        named = [plugin for plugin in self._absent if dist and normalise(plugin.dist) == normalise(dist)]
        if named:
            raise PluginError(f"{name!r} cannot be used: {_describe(named)}. Repair or reinstall {named[0].dist}.")
        pool = [entry for entry in self.entries if kind in (None, entry.spec.kind)]
        near = nearest(bare, [entry.spec.name for entry in pool])
        lines = [f"no {kind or 'component'} {name!r} is installed."]
        if dist and any(entry.spec.name == bare for entry in pool):
            others = ", ".join(f"{entry.dist}/{bare}" for entry in pool if entry.spec.name == bare)
            lines.append(f"Did you mean {others}?")
        elif near is not None:
            lines.append(f"Did you mean {near!r}?")
        names = ", ".join(sorted({entry.spec.name for entry in pool})) or "none"
        lines.append(f"Installed {kind.plural if kind else 'components'}: {names}.")
        elsewhere = {entry.spec.kind for entry in self.entries if entry.spec.name == bare and kind is not None}
        lines += [f"There is {other.with_article} of that name." for other in sorted(elsewhere - {kind})]
        if self._absent:
            lines.append(f"It may be in a plugin that is not loaded: {_describe(self._absent)}.")
        lines.append("Install the package that provides it, or give its file with -p ./file.py.")
        raise ConfigError(" ".join(lines))


def _entries(plugins: Sequence[Plugin]) -> Iterator[CatalogEntry]:
    for plugin in plugins:
        for spec in plugin.components:
            reason = incompatibility(spec)
            yield CatalogEntry(
                spec=spec,
                dist=plugin.dist,
                version=plugin.version,
                status=PluginStatus.INCOMPATIBLE if reason else PluginStatus.LOADED,
                reason=reason,
                inline=plugin.inline,
            )


def _describe(plugins: Sequence[Plugin]) -> str:
    return "; ".join(f"{plugin.label} ({plugin.status}: {plugin.reason})" for plugin in plugins)
