"""A reward model that LlamaFactory cannot save: its weights in full, with tied embeddings.

LlamaFactory puts a value head on the model and hands the tensors of both to safetensors, which refuses two names of one
matrix. The first checkpoint fails, and a final model too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataflex.errors import ConfigError
from dataflex.paths import user_path
from dataflex.sharding import DEEPSPEED, find_fsdp

_STAGE = "rm"
_ADAPTERS = ("lora", "oft")  # of whose model only the adapter is saved
_TIES = "tie_word_embeddings"
_CONFIG = "config.json"


def check_reward_model(arguments: Mapping[str, Any], source: str) -> None:
    """Refuse to train a reward model that could not be saved.

    Args:
        arguments: LlamaFactory's own keys.
        source: The run file, for the message.

    Raises:
        ConfigError: names the keys and what says that the embeddings are tied.
    """
    tuning = str(arguments.get("finetuning_type") or _ADAPTERS[0])
    if arguments.get("stage") != _STAGE or not arguments.get("do_train") or tuning in _ADAPTERS:
        return
    if arguments.get("deepspeed") or os.environ.get(DEEPSPEED) or find_fsdp(arguments, os.environ, source):
        return  # they gather the weights into copies
    model = str(arguments.get("model_name_or_path") or "")
    if says := _what_ties(model, arguments):
        raise ConfigError(
            f"stage: {_STAGE} with finetuning_type: {tuning} (from {source}) trains a reward model that LlamaFactory "
            f"cannot save: the embeddings of {model} are tied ({says}), and safetensors does not write one matrix "
            "under two names. Use finetuning_type: lora, or a model whose embeddings are not tied."
        )


def _what_ties(model: str, arguments: Mapping[str, Any]) -> str:
    """What says that a model's embeddings are tied; ``""`` if they are not, or it is not known yet."""
    folder = _folder(model, arguments)
    if folder is None:
        return ""
    try:
        written = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        if _TIES in written:
            return f"{_TIES} of its {_CONFIG}" if written[_TIES] else ""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception:  # whoever loads the model says what is wrong with its configuration
        return ""
    ties = getattr(config, _TIES, False)
    return f"as {type(config).__name__} has it by default: its {_CONFIG} does not say" if ties else ""


def _folder(model: str, arguments: Mapping[str, Any]) -> Path | None:
    """Where a model's configuration lies: a folder, or a hub's cache."""
    if not model:
        return None
    folder = user_path(model)
    if folder.is_dir():
        return folder
    from transformers.utils.hub import cached_file

    cache, revision = arguments.get("cache_dir"), arguments.get("model_revision")
    try:
        found = cached_file(model, _CONFIG, cache_dir=cache or None, revision=revision or None, local_files_only=True)
    except (OSError, ValueError):
        return None
    return Path(found).parent if isinstance(found, str) else None
