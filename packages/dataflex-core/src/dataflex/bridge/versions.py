"""Which versions of LlamaFactory and transformers work together.

``nox -s upstream`` trains with the ends of each range of :data:`TESTED`, and with what lies outside it;
``docs/versions.md`` shows what came of that.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import importlib_metadata

from dataflex.config.theirs import is_enabled
from dataflex.errors import IncompatibleError

logger = logging.getLogger("dataflex")

TESTED: Mapping[str, tuple[str, str]] = {"0.9.4": ("4.55.4", "4.57.1"), "0.9.5": ("4.55.4", "5.6.0")}
"""By version of LlamaFactory, the oldest and the newest transformers that this release was tested with beside it."""

UNCHECKED = "DISABLE_VERSION_CHECK"
"""LlamaFactory's variable: set to 1, versions outside these ranges are tried, with a warning."""


def describe() -> str:
    """The versions that are installed."""
    return f"llamafactory {_installed('llamafactory')} with transformers {_installed('transformers')}"


def advice() -> str:
    """What to install instead."""
    pairs = [f"llamafactory=={ours} with transformers {old} to {new}" for ours, (old, new) in TESTED.items()]
    return f"Install versions that were tested together: {', or '.join(reversed(pairs))}."


def misfit() -> str:
    """Why the installed versions are refused; ``""`` if they are not. Imports neither of them."""
    ours, theirs = _installed("llamafactory"), _installed("transformers")
    for name, found in (("llamafactory", ours), ("transformers", theirs)):
        if not found:
            return f"{name} is not installed"
    oldest, newest = TESTED.get(ours, (theirs, theirs))
    if not _release(oldest) <= _release(theirs) <= _release(newest):
        return f"llamafactory {ours} was tested with transformers {oldest} to {newest}, not with {theirs}"
    return ""


def incompatible(what: str) -> IncompatibleError:
    """The error for a LlamaFactory that has moved something DataFlex holds on to."""
    return IncompatibleError(f"{what} ({describe()}). {advice()}")


def require() -> None:
    """Refuse what is not known to work, before any of it is imported.

    A LlamaFactory that is not in :data:`TESTED` is tried, with a warning: its seams are checked before they are used.

    Raises:
        IncompatibleError: naming the versions, and what to install.
    """
    reason, ours = misfit(), _installed("llamafactory")
    unchecked = is_enabled(UNCHECKED)
    if reason and not (unchecked and ours and _installed("transformers")):
        raise IncompatibleError(f"{reason}. {advice()}")
    if reason or ours not in TESTED:
        logger.warning("%s. %s", reason or f"llamafactory {ours} was not tested with this release", advice())


def _installed(name: str) -> str:
    """Version of a distribution; ``""`` if it is not installed."""
    try:
        return importlib_metadata.version(name) or ""
    except importlib_metadata.PackageNotFoundError:
        return ""


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version; what stands behind them (``rc1``, ``.dev0``) counts as the version itself."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
