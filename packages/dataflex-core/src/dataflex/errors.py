"""Every error a user can cause or meet. Each says what happened, where the value came from, what to do."""

from __future__ import annotations


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
