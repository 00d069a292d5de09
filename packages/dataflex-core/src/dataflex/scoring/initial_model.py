"""Having the model as training began once more: under adapters that added nothing then, it is what lies below them."""

from __future__ import annotations

import contextlib
from typing import Any

from torch import nn


def adapters_at_rest(model: nn.Module) -> bool:
    """Whether a model is the same with its adapters switched off: LoRA whose second factors are still zero."""
    kinds = {
        str(getattr(each, "peft_type", "")).rpartition(".")[2] for each in getattr(model, "peft_config", {}).values()
    }
    if kinds != {"LORA"}:
        return False
    factors = [value for name, value in model.named_parameters() if "lora_B" in name or "lora_embedding_B" in name]
    return bool(factors) and not any(bool(factor.detach().any()) for factor in factors)


def without_adapters(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """The model with its adapters switched off, if it has any, for the time of the context."""
    off: Any = getattr(model, "disable_adapter", None)
    return contextlib.nullcontext() if off is None else off()
