"""The trackers of ``report_to``: whether their packages are there, asked before anything loads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean

_PACKAGES = {"azure_ml": "azureml-core", "comet_ml": "comet_ml", "flyte": "flytekit", "dagshub": "dagshub mlflow"}
_NO_NAMES = ("none", "all")  # all that are installed


def check_report_to(arguments: Mapping[str, Any], source: str) -> None:
    """Refuse a tracker that transformers does not know or whose package is not installed.

    The Trainer would find out when it is made, after the model has loaded.

    Args:
        arguments: LlamaFactory's own keys.
        source: The run file, for the message.

    Raises:
        ConfigError: names the tracker and what to install.
    """
    given = arguments.get("report_to", "none")
    if given is None and _must_be_named():
        raise ConfigError(f"report_to: null (from {source}) names no tracker. Say report_to: none, or leave it out.")
    names = [name for name in ([given] if isinstance(given, str) else given or ()) if isinstance(name, str)]
    asked = [name for name in names if name not in _NO_NAMES]
    if not asked:
        return
    from transformers.integrations import integration_utils

    known = getattr(integration_utils, "INTEGRATION_TO_CALLBACK", None)
    for name in asked:
        if known is not None and name not in known:
            raise ConfigError(
                f"report_to: {name} (from {source}) is no tracker of transformers.{did_you_mean(name, list(known))} "
                f"It has {', '.join(sorted(known))}."
            )
        if not _installed(integration_utils, name):
            raise ConfigError(
                f"report_to: {name} (from {source}) needs a package that is not installed. Install it: "
                f"pip install {_PACKAGES.get(name, name)}. Or say report_to: none."
            )


def _must_be_named() -> bool:
    """Whether transformers takes no ``None`` for a tracker, as since version 5."""
    from transformers import TrainingArguments

    defaults = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    return defaults.get("report_to") is not None


def _installed(trackers: ModuleType, name: str) -> bool:
    """What transformers says of a tracker's package; true where it has no word on it."""
    for spelt in (name, name.replace("_", ""), name.partition("_")[0], f"{name}kit"):
        ask = getattr(trackers, f"is_{spelt}_available", None)
        if ask is not None:
            return bool(ask())
    return True
