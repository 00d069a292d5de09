"""What a collator does, as far as its class and its plain attributes tell: the same text in every process."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

_DEPTH = 4
_TOKENIZER = ("padding_side", "truncation_side", "pad_token_id", "eos_token_id", "bos_token_id", "model_max_length")
_LARGE = ("named_parameters", "train_dataset", "column_names")  # models, Trainers, data sets: by their class alone
_PLAIN = (bool, int, float, str, bytes, type(None))


def collator_settings(value: Any, depth: int = _DEPTH) -> str:
    """Describe a collator: classes by name, plain values as they are, functions by their code, tokenizers by theirs.

    Args:
        value: The collator; inside, whatever it holds.
        depth: How many objects deep to look.
    """
    if isinstance(value, _PLAIN):
        return repr(value)
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if depth == 0 or any(hasattr(value, name) for name in _LARGE):
        return kind
    if isinstance(value, functools.partial):
        return f"partial({collator_settings([value.func, value.args, value.keywords], depth - 1)})"
    if inspect.isfunction(value) or inspect.ismethod(value):
        function: Any = getattr(value, "__func__", value)
        code, cells = function.__code__, [cell.cell_contents for cell in function.__closure__ or ()]
        held = [code.co_code, function.__defaults__, function.__kwdefaults__, cells, getattr(value, "__self__", None)]
        constants = [constant for constant in code.co_consts if isinstance(constant, _PLAIN)]
        return f"{value.__module__}.{value.__qualname__}({collator_settings([*held, constants], depth - 1)})"
    if hasattr(value, "convert_tokens_to_ids") and hasattr(value, "__len__"):
        named = {name: getattr(value, name, None) for name in _TOKENIZER}
        return f"{kind}({len(value)}, {named})"
    if isinstance(value, Mapping):
        items = sorted((str(name), collator_settings(item, depth - 1)) for name, item in value.items())
        return f"{kind}({items})"
    if isinstance(value, (list, tuple, set, frozenset)):
        items_in_order = [collator_settings(item, depth - 1) for item in value]
        return f"{kind}({sorted(items_in_order) if isinstance(value, (set, frozenset)) else items_in_order})"
    attributes = getattr(value, "__dict__", {})
    described = [f"{name}={collator_settings(item, depth - 1)}" for name, item in sorted(attributes.items())]
    return f"{kind}({', '.join(described)})"
