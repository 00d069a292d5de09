"""What LlamaFactory says of keys it does not take, as an error of ours in place of a traceback."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from dataflex.errors import ConfigError
from dataflex.record.run import hide_secrets


def explained(parse: Callable[[Any], Any], keys: Mapping[str, Any], source: str) -> Callable[[Any], Any]:
    """A function that parses as ``parse`` does and says of an error which keys it is about.

    Args:
        parse: One of LlamaFactory's own parsers.
        keys: LlamaFactory's keys as the user wrote them.
        source: The run file, for the message.

    Returns:
        The function; it raises :class:`~dataflex.errors.ConfigError` for keys that ``parse`` refuses.
    """

    @functools.wraps(parse)
    def parsed(*args: Any, **kwargs: Any) -> Any:
        try:
            return parse(*args, **kwargs)
        except Exception as error:  # whatever values of a run file make it and its libraries raise
            said = " ".join(str(error).split()).rstrip(".")
            kind = "" if type(error) in (ValueError, AssertionError) else f"{type(error).__name__}: "
            meant = ", ".join(f"{key}: {value!r}" for key, value in hide_secrets(_named(said, keys)).items())
            raise ConfigError(
                f"LlamaFactory refuses the keys of {source}: {kind}{said}."
                + (f" It is about {meant}." if meant else "")
            ) from error

    return parsed


def _named(said: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that a message is about: those it names or, without any, those whose value it repeats."""
    named = {
        key: value
        for key, value in keys.items()
        if re.search(rf"(?<!\w){re.escape(key).replace('_', '[_ ]')}", said, re.IGNORECASE)
    }
    return named or {
        key: value
        for key, value in keys.items()
        if isinstance(value, str) and value and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", said)
    }
