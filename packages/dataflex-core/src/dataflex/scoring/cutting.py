"""Leaving out the tokens behind the last one that counts: under causal attention they change nothing before them.

Shapes: B rows of a batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from dataflex.scoring.inputs import TOKENWISE
from dataflex.scoring.rope import length_scaling

_MEDIA = ("images", "videos", "audios")


def may_be_cut(model: nn.Module, dataset: Any) -> bool:
    """Whether a row may be cut behind the tokens that count.

    Not where a token sees later ones, nor where RoPE follows the length of the row, nor in a pool of pictures, whose
    tokens and pixels belong together.
    """
    below_adapter = getattr(model, "get_base_model", None)  # PEFT
    base = below_adapter() if callable(below_adapter) else model
    causal = type(base).__name__.endswith("ForCausalLM")  # what FSDP derives of it keeps the name's end
    return causal and length_scaling(model) is None and not has_media(dataset)


def has_media(dataset: Any) -> bool:
    """Whether rows of a tokenised data set come with pictures, films or sound."""
    if not len(dataset):
        return False
    names = [name for name in getattr(dataset, "column_names", None) or list(dataset[0]) if name in _MEDIA]
    return any(bool(dataset[row].get(name)) for row in _some(len(dataset)) for name in names)


def cut(batch: Mapping[str, Any], counts_BT: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
    """A batch without what stands behind the last position that counts, or before all rows' first one that is real.

    A batch that is padded on the left is moved to the left, each row for itself. One that holds anything but tensors
    with one entry a position is left as it is.

    Args:
        batch: The batch.
        counts_BT: Which positions count.

    Returns:
        The batch, and which of its positions count.
    """
    tokens = batch["input_ids"]
    tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
    if any(name not in TOKENWISE or value.shape != tokens.shape for name, value in tensors.items()):
        return dict(batch), counts_BT
    moved, mask = {**tensors, "": counts_BT}, batch.get("attention_mask")
    if isinstance(mask, torch.Tensor) and bool(mask[:, 0].eq(0).any()):
        first_B1 = mask.ne(0).int().argmax(dim=1, keepdim=True)
        places_BT = torch.arange(tokens.shape[1], device=tokens.device) + first_B1
        inside_BT = places_BT < tokens.shape[1]
        places_BT = places_BT.clamp(max=tokens.shape[1] - 1)
        moved = {name: value.gather(1, places_BT) for name, value in moved.items()}
        for name in ("attention_mask", ""):
            moved[name] = moved[name] * inside_BT
    (used,) = moved[""].any(dim=0).nonzero(as_tuple=True)
    end = int(used[-1]) + 1 if len(used) else 1
    moved = {name: value[:, :end] for name, value in moved.items()}
    counts = moved.pop("")
    return {**batch, **moved}, counts.bool()


def _some(size: int) -> range:
    return range(0, size, max(1, size // 64))
