"""From a collated batch to what the model is called with and what its logits are compared to.

Shapes: B samples of a batch, T tokens.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dataflex.errors import ComponentError
from dataflex.math.losses import IGNORE_INDEX

TOKENWISE = (
    "input_ids",
    "attention_mask",
    "labels",
    "position_ids",
    "token_type_ids",
    "mm_token_type_ids",
    "cross_attention_mask",
)
"""Names of tensors with one entry a position."""


def batch_labels(batch: Mapping[str, Any]) -> torch.Tensor:
    """Labels of a batch, shape [B, T]; padding is no target, whatever label it carries.

    Raises:
        ComponentError: when the collator makes none, as in stages of pairs.
    """
    labels_BT = batch.get("labels")
    if not isinstance(labels_BT, torch.Tensor) or labels_BT.ndim != 2:
        raise ComponentError(
            f"the collator's batches hold no labels (they hold: {', '.join(batch)}), so they have no loss. Components "
            "that score the next-token loss work for stages sft and pt; use component_name: random for others."
        )
    mask = batch.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.shape == labels_BT.shape:
        return labels_BT.masked_fill(mask.eq(0), IGNORE_INDEX)
    return labels_BT


def model_inputs(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch without labels: with them the model would compute a second cross entropy.

    A batch that is padded on the left gets position ids that count from each row's first token, as for the row alone.
    """
    inputs, accepted = without_labels(model, batch), call_arguments(model)
    mask = inputs.get("attention_mask")
    if (
        "position_ids" in accepted
        and inputs.get("position_ids") is None
        and isinstance(mask, torch.Tensor)
        and mask.ndim == 2
        and bool(mask[:, 0].eq(0).any())
    ):
        inputs["position_ids"] = (mask.ne(0).long().cumsum(dim=-1) - 1).clamp(min=0)
    return inputs


def without_labels(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch without labels and, where the model could keep a cache of keys and values, without that."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    if "use_cache" in call_arguments(model):
        inputs["use_cache"] = False
    return inputs


def trimmed(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch without the positions that are padding in every row, as a multiple of 8 asks for.

    Only tensors that are known to have one entry a position are cut; a batch that holds another one is left as it is:
    LlamaFactory gives a batch without pictures a blank one, whose tokens no mask shows and no picture may miss.
    """
    if any(isinstance(value, torch.Tensor) and name not in TOKENWISE for name, value in batch.items()):
        return dict(batch)
    mask = batch.get("attention_mask")
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2 or bool(mask.ne(0).any(dim=0).all()):
        return dict(batch)
    (used,) = mask.ne(0).any(dim=0).nonzero(as_tuple=True)
    if not len(used):
        return dict(batch)
    kept, width = slice(int(used[0]), int(used[-1]) + 1), mask.shape[1]
    cut: dict[str, Any] = {}
    for name, value in batch.items():
        if name in TOKENWISE and isinstance(value, torch.Tensor) and value.ndim >= 2:
            axis = value.ndim - 1 if name == "position_ids" else 1  # [planes, B, T] in Qwen2-VL
            if value.shape[axis] == width:
                cut[name] = value[..., kept] if axis == value.ndim - 1 else value[:, kept]
                continue
        cut[name] = value
    return cut


def call_arguments(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """Parameters of a model's forward by name; of the model below an adapter."""
    below_adapter = getattr(model, "get_base_model", None)  # PEFT
    base = below_adapter() if callable(below_adapter) else model
    return inspect.signature(type(base).forward).parameters
