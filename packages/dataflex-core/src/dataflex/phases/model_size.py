"""How large a model is, from its configuration alone: no weight is read or allocated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LOADING = {"trust_remote_code": "trust_remote_code", "model_revision": "revision", "hf_hub_token": "token"}
_LOADING |= {"cache_dir": "cache_dir"}


def open_config(name: str, keys: Mapping[str, Any]) -> Any:
    """Load the configuration of a model as LlamaFactory would.

    Args:
        name: A folder or a name on a hub.
        keys: Of the run file: what LlamaFactory loads models with.

    Raises:
        OSError: when there is no such model.
    """
    from transformers import AutoConfig

    chosen = {argument: keys[key] for key, argument in _LOADING.items() if keys.get(key) is not None}
    return AutoConfig.from_pretrained(name, **chosen)


def parameters(name: str, keys: Mapping[str, Any]) -> int | None:
    """Number of parameters of a model; ``None`` when its configuration cannot be had.

    Args:
        name: A folder or a name on a hub.
        keys: Of the run file, as for :func:`open_config`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        config = open_config(name, keys)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception:  # whatever a hub, a file or a model class has to say; the run itself will say it too
        return None
    return int(sum(parameter.numel() for parameter in model.parameters()))


def spell(count: int | None) -> str:
    """A number of parameters as people write it: 1.2 B, 494 M, 26 k."""
    if count is None:
        return "?"
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
