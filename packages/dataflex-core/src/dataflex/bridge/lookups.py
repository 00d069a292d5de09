"""Looking names up as LlamaFactory will, before anything loads."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

from dataflex.config.gathering import Gathered
from dataflex.config.names import DATA_SETS, listed
from dataflex.errors import ConfigError
from dataflex.hints import did_you_mean

_ON_A_HUB = "REMOTE:"


def find_datasets(look: Callable[[list[str], Any], Any], arguments: Mapping[str, Any], source: str) -> list[str]:
    """Look the data sets of a run up.

    Args:
        look: LlamaFactory's ``get_dataset_list``.
        arguments: LlamaFactory's own keys.
        source: The run file, for the message.

    Returns:
        Those of ``dataset``, in order.

    Raises:
        ConfigError: for each key that names one which is not described, with all of these.
    """
    problems, folder = Gathered(), arguments.get("dataset_dir") or "data"
    asks_a_hub = isinstance(folder, str) and folder.startswith(_ON_A_HUB)
    for key in () if asks_a_hub or _tokenised(arguments) else DATA_SETS:
        names = listed(arguments.get(key))
        said = dict.fromkeys(filter(None, (_refusal(look, name, folder) for name in names)))
        with problems.taking():
            if said:
                raise ConfigError(
                    f"LlamaFactory cannot find {key}: {', '.join(names)} (from {source}) in dataset_dir: {folder}: "
                    + "; ".join(said)
                )
    problems.refuse()
    return listed(arguments.get("dataset"))


def find_template(templates: Collection[str], arguments: Mapping[str, Any], source: str) -> None:
    """Look the chat template of a run up.

    Raises:
        ConfigError: when there is none of that name.
    """
    name = arguments.get("template")
    if isinstance(name, str) and name not in templates:
        raise ConfigError(
            f"template: {name!r} (from {source}) is none of LlamaFactory's {len(templates)} templates."
            + did_you_mean(name, templates)
        )


def _refusal(look: Callable[[list[str], Any], Any], name: str, folder: Any) -> str:
    try:
        look([name], folder)
    except Exception as error:  # whatever it makes of a dataset_info.json that somebody got wrong
        if type(error) in (ValueError, OSError):
            return str(error)
        return f"{name}: {type(error).__name__}: {error}. Look at its entry in dataset_info.json"
    return ""


def _tokenised(arguments: Mapping[str, Any]) -> bool:
    """Whether the data was tokenised before: LlamaFactory does not ask for its names then."""
    path = arguments.get("tokenized_path")
    return isinstance(path, str) and os.path.isdir(path) and bool(os.listdir(path))
