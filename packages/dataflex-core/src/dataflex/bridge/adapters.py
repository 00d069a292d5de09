"""Adapters that were trained on another base model than the one a run puts them on: PEFT does not ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dataflex.checkpoint_keys.models import identity
from dataflex.config.names import listed
from dataflex.paths import user_path

_ON = {
    "adapter_name_or_path": "model_name_or_path",
    "ref_model_adapters": "ref_model",
    "reward_model_adapters": "reward_model",
}
_CONFIG = "adapter_config.json"


def of_other_bases(arguments: Mapping[str, Any], source: str) -> Iterator[str]:
    """What to say of adapters that were trained on another model, as far as both are known; one sentence each.

    A base that has moved is known by the content of its files.

    Args:
        arguments: LlamaFactory's own keys.
        source: The run file, for the message.
    """
    for key, on in _ON.items():
        model = arguments.get(on)
        for adapter in listed(arguments.get(key)) if isinstance(model, str) else ():
            base = _base_of(user_path(adapter))
            if base and _differ(base, str(model)):
                yield (
                    f"{key}: {adapter} (from {source}) was trained on another model, {base}, than {on}: {model}. Its "
                    "numbers are differences to the weights of that one."
                )


def _base_of(adapter: Path) -> str:
    try:
        config = json.loads((adapter / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # on a hub, or damaged: whoever loads it says so
        return ""
    base = config.get("base_model_name_or_path") if isinstance(config, Mapping) else None
    return base if isinstance(base, str) else ""


def _differ(then: str, now: str) -> bool:
    """Whether two models are known to be others: two folders by their content, two names on a hub by the name."""
    before, here = user_path(then), user_path(now)
    if before.is_dir() != here.is_dir() or then == now:
        return False
    if not here.is_dir():
        return not any(path.is_absolute() for path in (before, here)) and then.count("/") == now.count("/") == 1
    try:
        return identity(before) != identity(here)
    except OSError:
        return False
