"""How large a model is, from its configuration alone: no weight is read or allocated."""

from __future__ import annotations


def parameters(name: str) -> int | None:
    """Number of parameters of a model; ``None`` when its configuration cannot be had.

    Args:
        name: A folder or a name on a hub.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(name)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception:  # whatever a hub, a file or a model class has to say; the run itself will say it too
        return None
    return sum(parameter.numel() for parameter in model.parameters())


def spell(count: int | None) -> str:
    """A number of parameters as people write it: 1.2 B, 494 M, 26 k."""
    if count is None:
        return "?"
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
