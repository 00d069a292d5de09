"""Every error a user can cause or meet. Each says what happened, where the value came from, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any


class DataFlexError(Exception):
    """Base of all errors the command line prints without a traceback."""


class ConfigError(DataFlexError):
    """A run file, flag or data set cannot make the run that was asked for."""


class PluginError(DataFlexError):
    """A plugin that the run needs cannot be imported, or two provide the same name."""


class ComponentError(DataFlexError):
    """A component failed or returned something unusable while training."""


class OneRankError(ComponentError):
    """What a component did on this rank; the others may know nothing of it, so each rank says it itself."""


class IncompatibleError(DataFlexError):
    """The installed LlamaFactory, or a plugin's API version, is not one this release can work with."""


def reason(error: Exception) -> str:
    """What an exception says: its text alone if it is ours and so a whole sentence, else with the name of its class."""
    return str(error) if isinstance(error, DataFlexError) else f"{type(error).__name__}: {error}"


def shown(value: Any) -> str:
    """A value as a run file would write it, for messages: no array, tensor or number of NumPy shows as such.

    Args:
        value: Numbers, texts, paths, lists and mappings of them, arrays, tensors; of anything else the type is shown.
    """
    if hasattr(value, "detach"):
        value = value.detach()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(shown, value)) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, PathLike):
        return str(value)
    return (
        repr(value) if isinstance(value, (str, bytes, int, float, complex)) else f"an object of {type(value).__name__}"
    )
