"""Loading a checkpoint whose tensors have other names or shapes than the model's, by transformers' own conversion."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn

from dataflex.rng import rng_scope
from dataflex.weights.compare import Difference
from dataflex.weights.files import SavedWeights

logger = logging.getLogger("dataflex")

_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_FIRST_WITH_DTYPE = (4, 56)  # before that release, from_pretrained calls it torch_dtype


def load_converted(model: nn.Module, saved: SavedWeights) -> list[Difference]:
    """Load a checkpoint into a model as ``from_pretrained`` would, into the parameters that the model has.

    A second model is loaded on the CPU and copied: the Trainer's own load needs as much memory for its state dict.
    Nothing is rounded on the way, and the global generators stay where they are.

    Args:
        model: A ``transformers.PreTrainedModel``.
        saved: The checkpoint's weights.

    Returns:
        What transformers itself says of tensors that have no counterpart.
    """
    precision = {_dtype_argument(): _widest(saved, model)}
    with rng_scope():
        twin, info = cast(Any, type(model)).from_pretrained(
            saved.folder, config=copy.deepcopy(model.config), output_loading_info=True, **precision
        )
    model.load_state_dict(twin.state_dict(), strict=False)
    return loading_differences(info["missing_keys"], info["unexpected_keys"], info.get("mismatched_keys", ()))


def loading_differences(missing: Iterable[Any], unexpected: Iterable[Any], mismatched: Iterable[Any] = ()) -> list[Any]:
    """The differences that a loader reports by itself."""
    return [
        *(Difference(str(name), "is not in the file") for name in sorted(missing)),
        *(Difference(str(name), "is not in the model") for name in sorted(unexpected)),
        *(
            Difference(str(name), f"has shape {list(file)} in the file, {list(ours)} in the model")
            for name, file, ours in mismatched
        ),
    ]


def _widest(saved: SavedWeights, model: nn.Module) -> torch.dtype:
    """A precision that holds every number of the file."""
    dtypes = {_FLOATS[tensor.dtype] for tensor in saved.tensors.values() if tensor.dtype in _FLOATS}
    if not dtypes:  # a pickled file, which tells nothing without being opened
        dtypes = {tensor.dtype for tensor in model.parameters() if tensor.dtype in _FLOATS.values()}
    widest, *others = dtypes or {torch.float32}
    for other in others:
        widest = torch.promote_types(widest, other)
    return widest


def _dtype_argument() -> str:
    import transformers

    release = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if release >= _FIRST_WITH_DTYPE else "torch_dtype"
