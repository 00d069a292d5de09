"""Which plugins a command may use: ``-p`` values and the environment, merged."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataflex.errors import ConfigError
from dataflex.paths import user_path

NO_PLUGINS = "DATAFLEX_NO_PLUGINS"
"""Set to 1: use no installed plugin. Files given with ``-p`` still load."""

LOAD_PLUGINS = "DATAFLEX_LOAD_PLUGINS"
"""Distributions to use, separated by commas; all others are blocked."""

HANDED_DOWN = "DATAFLEX_PLUGIN_VALUES"
"""The ``-p`` values of the parent process, as a JSON list: how they reach the ranks of torchrun."""

_BLOCK = "no:"
_YES = frozenset({"1", "true", "yes", "y", "on"})
_NO = frozenset({"", "0", "false", "no", "n", "off"})
_DIST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def normalise(dist: str) -> str:
    """Spelling of a distribution name used for comparing: ``My_Plugin`` and ``my-plugin`` are the same."""
    return re.sub(r"[-_.]+", "-", dist).lower()


@dataclass(frozen=True)
class PluginOptions:
    """What the user said about plugins.

    Attributes:
        files: Python files given with ``-p``, absolute.
        blocked: Normalised names of distributions switched off with ``-p no:DIST``.
        only: Normalised names of the only distributions to use, or ``None`` for all.
        disabled: Whether all installed plugins are switched off.
    """

    files: tuple[Path, ...] = ()
    blocked: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    disabled: bool = False

    @classmethod
    def gather(cls, values: Sequence[str], environ: Mapping[str, str]) -> PluginOptions:
        """Merge ``-p`` values with the environment.

        Args:
            values: The values of ``-p``: a path that ends in .py or holds a separator, or ``no:DIST``.
            environ: The environment; values handed down by a parent process come first.

        Raises:
            ConfigError: for a missing file, and for a value that is neither a path nor ``no:DIST``.
        """
        files: dict[Path, None] = {}
        blocked: set[str] = set()
        for source, value in [*_handed_down(environ), *(("-p", value) for value in values)]:
            if value.startswith(_BLOCK):
                blocked.add(_dist(value.removeprefix(_BLOCK), f"{source} {value}"))
            else:
                files[_file(value, source)] = None
        named = [name.strip() for name in environ.get(LOAD_PLUGINS, "").split(",") if name.strip()]
        return cls(
            files=tuple(files),
            blocked=frozenset(blocked),
            only=frozenset(_dist(name, f"{LOAD_PLUGINS}={environ[LOAD_PLUGINS]}") for name in named) or None,
            disabled=_switch(NO_PLUGINS, environ.get(NO_PLUGINS, "")),
        )

    def refusal(self, dist: str) -> str:
        """Why a distribution's code may not be loaded; ``""`` if it may."""
        if self.disabled:
            return f"switched off by {NO_PLUGINS}"
        if normalise(dist) in self.blocked:
            return f"switched off by -p no:{dist}"
        if self.only is not None and normalise(dist) not in self.only:
            return f"not in {LOAD_PLUGINS}"
        return ""

    def to_environment(self) -> dict[str, str]:
        """Variables that make :meth:`gather` in a child process return the same options."""
        values = [str(path) for path in self.files] + [_BLOCK + dist for dist in sorted(self.blocked)]
        environment = {HANDED_DOWN: json.dumps(values)} if values else {}
        if self.only is not None:
            environment[LOAD_PLUGINS] = ",".join(sorted(self.only))
        if self.disabled:
            environment[NO_PLUGINS] = "1"
        return environment


def _handed_down(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    text = environ.get(HANDED_DOWN)
    if not text:
        return
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{HANDED_DOWN}={text} is not a JSON list ({error}). Unset it.") from error
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ConfigError(f"{HANDED_DOWN}={text} is not a JSON list of strings. Unset it.")
    yield from ((HANDED_DOWN, value) for value in values)


def _file(value: str, source: str) -> Path:
    separators = [separator for separator in (os.sep, os.altsep) if separator]
    if not value.endswith(".py") and not any(separator in value for separator in separators):
        raise ConfigError(
            f"{source} {value}: neither a file nor a switch. Write a path (./{value or 'mine'}.py), "
            f"or no:DIST to switch an installed plugin off. Installed plugins load by themselves."
        )
    path = user_path(value).absolute()
    if not path.is_file():
        what = "is a folder; name the .py file in it" if path.is_dir() else "does not exist"
        raise ConfigError(f"{source} {value}: the file {what} (working directory {Path.cwd()}).")
    return path


def _dist(name: str, written: str) -> str:
    if not _DIST_NAME.fullmatch(name):
        raise ConfigError(f"{written}: {name!r} is not a distribution's name. `dataflex list-components` shows them.")
    return normalise(name)


def _switch(name: str, value: str) -> bool:
    word = value.strip().lower()
    if word not in _YES | _NO:
        raise ConfigError(f"{name}={value} is neither on nor off; set it to 1 or 0.")
    return word in _YES
